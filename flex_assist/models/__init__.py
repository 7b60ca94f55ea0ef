"""Base models: which there are, where their files are, what is in them, how new ones are made."""
