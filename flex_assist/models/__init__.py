"""Base models: what there is, where the files are, what is in them, and how new ones are written."""
