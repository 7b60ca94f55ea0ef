"""The language server: completions of the adapted model in every editor that speaks LSP."""
