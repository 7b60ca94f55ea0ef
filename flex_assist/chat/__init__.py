"""Chat about a repository: conversations, attached files, prompt. Knows no user interface."""
