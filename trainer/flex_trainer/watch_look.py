"""One look at a repository, in a process of its own: mining takes memory, and may take minutes.

``python -P -m flex_trainer.watch_look REPO`` prints what mining would use: a line of JSON with
language, digest and characters for each document. Its price is paid at low priority, and whoever
asked for it stays light.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from flex_assist import config
from flex_assist.cli.output import say
from flex_assist.errors import FlexAssistError
from flex_assist.locations import locate
from flex_trainer.watch_changes import Text


def main(arguments: list[str]) -> int:
    """Print one line a document; 1 with a message where the repository cannot be looked at."""
    root = Path(arguments[0])
    # Mining brings numpy along, which the one who asked need not load.
    from flex_assist.adapters import left_out
    from flex_assist.repository.snapshot import take_snapshot

    try:
        settings = config.load(locate(), root)
        snapshot = take_snapshot(
            root,
            settings.mining,
            seed=settings.training.seed,
            forgotten=left_out.of(root, locate()),
        )
    except (FlexAssistError, OSError) as error:
        say(str(error))
        return 1
    for document in snapshot.documents():
        print(json.dumps([document.language, document.sha256, len(document.text)]))
    return 0


def parse(lines: Iterable[str]) -> tuple[Text, ...]:
    """What ``main`` has printed.

    Raises:
        ValueError: It is something else.
    """
    found = []
    for line in lines:
        language, sha256, characters = json.loads(line)
        found.append(Text(language=language, sha256=sha256, characters=int(characters)))
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
