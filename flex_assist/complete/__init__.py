"""Completions: from a cursor to the text that is shown. One use case behind editors, CLI and bench."""
