"""Completions: from a cursor to the text that is shown. The use case of editors, CLI and bench."""
