"""``python -m flex_lsp``: the language server, without the rest of the command line."""

import typer

from flex_lsp.cli import command

typer.run(command)
