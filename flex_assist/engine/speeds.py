"""What was measured of the forms of weights on this machine, kept from one host to the next."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flex_assist.engine import form
from flex_assist.engine.form import Speed
from flex_assist.files import write_json_atomically

_log = logging.getLogger(__name__)

SCHEMA: Final = 1
# Each version of an adapter has one; the oldest go.
MOST_KEPT: Final = 64
MAX_FILE_BYTES: Final = 1 << 20


class Speeds:
    """Speeds by what they were measured of.

    Args:
        path: The file that keeps them; None keeps them as long as this object.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, dict[str, Speed]] = {}
        self._read = False

    def get(self, key: str) -> dict[str, Speed] | None:
        """Speeds of both forms, if they are known."""
        if not self._read:
            self._read = True
            self._found = self._stored() | self._found
        return self._found.get(key)

    def put(self, key: str, speeds: Mapping[str, Speed]) -> None:
        """Keep speeds. A file that cannot be written costs only a measurement later."""
        # Others may have written since.
        found = self._stored() | self._found
        found.pop(key, None)
        found[key] = dict(speeds)
        self._found = dict(list(found.items())[-MOST_KEPT:])
        if self._path is None:
            return
        records = [[name, form.as_record(one)] for name, one in self._found.items()]
        try:
            write_json_atomically(self._path, {"schema": SCHEMA, "speeds": records})
        except OSError as error:
            _log.warning("measured speeds cannot be kept: %s", error)

    def _stored(self) -> dict[str, dict[str, Speed]]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                record = json.loads(file.read(MAX_FILE_BYTES))
            pairs = record["speeds"] if record["schema"] == SCHEMA else []
            found = {str(name): form.from_record(one) for name, one in pairs}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        return {name: speeds for name, speeds in found.items() if speeds is not None}


def key_of(*parts: Any) -> str:
    """A key for what was measured: files as they were, settings, the library's version."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
