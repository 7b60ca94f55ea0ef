"""A process that examines files for another one: ``python -m flex_assist.repository.worker``."""

from pathlib import Path

from flex_assist.repository import examine, workers
from flex_assist.repository.reading import TreeReader


def main() -> None:
    """Answer until nobody asks any more."""
    server = workers.serve()
    wishes = examine.wishes_of(server.request)
    reader = TreeReader(Path(server.request["root"]))
    for path in server.questions():
        found = examine.examine_file(path, reader, wishes)
        server.answer([examine.to_record(source) for source in found])


if __name__ == "__main__":
    main()
