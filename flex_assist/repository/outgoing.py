"""Which files must not leave the machine, though their repository opted in to a server."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Final

from flex_assist.errors import DataError
from flex_assist.repository.secrets import contains_secret
from flex_assist.repository.walk import list_repository

_log = logging.getLogger(__name__)
LISTING_AGE_S: Final = 20.0
# Characters around the cursor that are looked through: more than any prompt shows of a file.
WINDOW_CHARACTERS: Final = 100_000


class Outgoing:
    """Looks at whole files; ``engine.remote.outbound`` looks at whole prompts.

    A prompt is a cut-out: the key whose header stands above it shows as harmless letters. And what
    git ignores, such as ``.env``, is not sent whatever it says.

    Args:
        root: The repository.
        submodules: Whether the files of submodules belong to it.
    """

    def __init__(self, root: Path, *, submodules: bool = False) -> None:
        self._root = root.resolve()
        self._submodules = submodules
        self._listed: Mapping[str, str] = {}
        self._until_s = 0.0
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """List the files again when they are next wanted."""
        self._until_s = 0.0

    async def objection(
        self, path: str | None, before: str, after: str = "", others: Iterable[str] = ()
    ) -> str:
        """Why a prompt must stay here, for people; empty where it may leave.

        Args:
            path: Of the file; absolute, or relative to the root; None for a document without one,
                of which nobody can say whether it belongs to the repository.
            before, after: Its text up to the cursor, and from there on.
            others: Paths of the files that the prompt has pieces of.
        """
        if path is None:
            return "the document has no file"
        if why := await self._of_path(path):
            return why
        for other in dict.fromkeys(others):
            # It was free to leave when it was read; that may be a while ago.
            if why := await self._of_path(other):
                return f"of a file with a piece in the prompt: {why}"
        half = WINDOW_CHARACTERS // 2
        found = await asyncio.to_thread(contains_secret, before[-half:] + after[:half])
        return f"a secret in the file ({found.rule})" if found else ""

    async def _of_path(self, path: str) -> str:
        name = self._relative(path)
        if name is None:
            return "the file lies outside of the repository"
        if found := contains_secret(name):
            return f"a secret in the file's path ({found.rule})"
        listed = await self._listing()
        if name not in listed and (self._root / name).exists():
            # It may be new. What is not saved yet is on no list, and nobody has it ignored.
            self.forget()
            listed = await self._listing()
            if name not in listed:
                return "the file is ignored by git"
        return f"the file is left out ({listed[name]})" if listed.get(name) else ""

    def _relative(self, path: str) -> str | None:
        pure = PurePath(path)
        real = Path(path).resolve() if pure.is_absolute() else (self._root / pure).resolve()
        return real.relative_to(self._root).as_posix() if real.is_relative_to(self._root) else None

    async def _listing(self) -> Mapping[str, str]:
        """The repository's files, and the objection to each that must not be read."""
        async with self._lock:
            if time.monotonic() >= self._until_s:
                self._listed = await asyncio.to_thread(_list, self._root, self._submodules)
                self._until_s = time.monotonic() + LISTING_AGE_S
            return self._listed


def _list(root: Path, submodules: bool) -> dict[str, str]:
    try:
        entries = list_repository(root, submodules=submodules).entries
    except DataError as error:
        # Nobody knows what is to be left out.
        _log.warning("files cannot be listed: %s", error)
        return {}
    return {one.path: one.objection.rule if one.objection else "" for one in entries}
