"""``python -m flex_assist``."""

from flex_assist.cli.main import main

main()
