"""Which files a repository consists of: by git where it is a checkout, else by walking."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pathspec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from flex_assist.errors import DataError
from flex_assist.repository import git
from flex_assist.repository.documents import Objection
from flex_assist.repository.reading import TreeReader

IGNORE_FILE = ".flexassistignore"
MAX_IGNORE_BYTES = 256 * 1024
MAX_WILDCARDS, MAX_DEEP_WILDCARDS = 4, 2
METADATA_FOLDERS = frozenset({".git", ".hg", ".svn", ".jj"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A path that was found; with an objection it must not be read."""

    path: str
    objection: Objection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The entries of a repository, sorted by path, each once.

    Files that git's ignore rules name are not in it.
    """

    source: Literal["git", "walk"]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """The rules of one ignore file, for paths that begin with ``prefix``."""

    prefix: str
    spec: pathspec.GitIgnoreSpec


def list_repository(root: Path, *, submodules: bool = False) -> Listing:
    """All files below ``root`` that git would show, and why some of them must not be read.

    Args:
        submodules: Whether the files of submodules that are checked out belong to it.

    Raises:
        DataError: ``root`` is no folder that can be listed, or its ``.flexassistignore`` is there
            but cannot be read.
    """
    _require_directory(root)
    reader = TreeReader(root)
    own = _OwnRules(root, reader)
    found = git.checkout(root)
    if found is not None and found.paths:
        return Listing(
            source="git", entries=tuple(_of_checkout(root, found, reader, own, submodules))
        )
    # An empty answer also comes for a folder that a checkout around it ignores.
    walked = sorted(_walk(root, reader), key=lambda entry: entry.path)
    judged = tuple(e if e.objection else _judge(e.path, reader, own) for e in walked)
    return Listing(source="walk", entries=judged)


def list_given(root: Path, paths: list[str]) -> Listing:
    """Exactly ``paths`` (relative to ``root``), as far as they exist and may be read.

    Raises:
        DataError: As ``list_repository``.
    """
    _require_directory(root)
    reader = TreeReader(root)
    own = _OwnRules(root, reader)
    entries = tuple(_judge(path, reader, own) for path in sorted(set(paths)))
    return Listing(source="walk", entries=entries)


def compile_rules(text: str) -> pathspec.GitIgnoreSpec:
    """The rules of an ignore file in gitignore form. Lines that are no pattern are left out."""
    patterns: list[GitIgnoreSpecPattern] = []
    for line in text.split("\n"):
        tame = _tame(line.removesuffix("\r"))
        if tame is None:
            continue
        try:
            patterns.extend(pathspec.GitIgnoreSpec.from_lines([tame], backend="simple").patterns)
        except ValueError:
            continue
    return pathspec.GitIgnoreSpec(patterns, backend="simple")


def _tame(line: str) -> str | None:
    """``line``, or a wider pattern where matching it could take for ever.

    Patterns become regular expressions that backtrack: with k stars a name of n letters can cost
    n to the power of k. A hostile line is widened to its folder, so that it can only leave out
    too much; a negated one is dropped for the same reason.
    """
    deep = line.count("**") <= MAX_DEEP_WILDCARDS
    if (deep and len(re.findall(r"\*+", line)) <= MAX_WILDCARDS) or line.startswith("#"):
        return line
    if line.startswith("!"):
        return None
    folder, slash, _ = line[: line.find("*")].rpartition("/")
    return folder + slash + "*"


def _require_directory(root: Path) -> None:
    try:
        with os.scandir(root):
            return
    except OSError as error:
        raise DataError(
            f"{str(root)!r} cannot be read as a folder: {error.strerror}. "
            "Give the root of a repository that you may read"
        ) from error


def folders_around(root: Path) -> Iterator[tuple[Path, str]]:
    """The folders of the repository that ``root`` is a part of, outermost last, without itself.

    With each, where ``root`` lies in it, with a ``/`` behind. None where it is no part of one.
    """
    real = root.resolve()
    around = []
    for folder in real.parents:
        around.append((folder, real.relative_to(folder).as_posix() + "/"))
        if (folder / ".git").exists():
            yield from around
            return


class _OwnRules:
    """What ``.flexassistignore`` says: that of the root, and those of the folders around it."""

    def __init__(self, root: Path, reader: TreeReader) -> None:
        parts = [("", _own_spec(reader))]
        if not (root / ".git").exists():
            parts += [(p, _own_spec(TreeReader(folder))) for folder, p in folders_around(root)]
        self._specs = [(prefix, spec) for prefix, spec in parts if spec is not None]

    def match_file(self, path: str) -> bool:
        return any(spec.match_file(prefix + path) for prefix, spec in self._specs)


def _own_spec(reader: TreeReader) -> pathspec.GitIgnoreSpec | None:
    data = reader.read(IGNORE_FILE, MAX_IGNORE_BYTES)
    if isinstance(data, bytes):
        return compile_rules(data.decode("utf-8", "surrogateescape"))
    if data.rule == "missing":
        return None
    # Going on would use files that somebody wanted left out.
    raise DataError(
        f"{IGNORE_FILE} cannot be read ({data.rule}). Make it a plain file that you may read"
    )


def _judge(name: str, reader: TreeReader, own: _OwnRules) -> Entry:
    path = name.rstrip("/")
    if not METADATA_FOLDERS.isdisjoint(path.split("/")):
        return Entry(path=path, objection=Objection(rule="repository-metadata"))
    if own.match_file(path):
        return Entry(path=path, objection=Objection(rule="ignored", value=IGNORE_FILE))
    objection = reader.obstacle(path)
    if objection == Objection(rule="not-a-file", value="directory"):
        objection = Objection(rule="nested-repository")
    return Entry(path=path, objection=objection)


def _of_checkout(
    root: Path,
    found: git.Checkout,
    reader: TreeReader,
    own: _OwnRules,
    submodules: bool,
) -> Iterator[Entry]:
    for path in found.paths:
        if path in found.submodules:
            yield from _of_submodule(root, path, reader, own, submodules)
        elif path in found.absent and reader.obstacle(path) == Objection(rule="missing"):
            yield Entry(path=path, objection=Objection(rule="sparse-checkout"))
        else:
            yield _judge(path, reader, own)


def _of_submodule(
    root: Path,
    path: str,
    reader: TreeReader,
    own: _OwnRules,
    submodules: bool,
) -> Iterator[Entry]:
    # Its folder, and all folders on the way, must be folders: no link may lead elsewhere.
    whole = reader.obstacle(path) == Objection(rule="not-a-file", value="directory")
    inside = git.checkout(root / path) if whole and submodules else None
    # Git answers for the repository around it where the submodule is not checked out.
    if inside is None or not reader.has(f"{path}/.git"):
        state = "mining.submodules" if whole and reader.has(f"{path}/.git") else "not checked out"
        yield Entry(path=path, objection=Objection(rule="submodule", value=state))
        return
    for name in inside.paths:
        below = f"{path}/{name}"
        if name in inside.submodules:
            yield from _of_submodule(root, below, reader, own, submodules)
        else:
            yield _judge(below, reader, own)


def _walk(root: Path, reader: TreeReader) -> Iterator[Entry]:
    exclude = _rules_of(reader, "", ".git/info/exclude")
    pending: list[tuple[str, tuple[_Rules, ...]]] = [("", exclude)]
    while pending:
        folder, rules = pending.pop()
        rules = rules + _rules_of(reader, folder, ".gitignore")
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                children = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
        except OSError as error:
            reason = Objection(rule="unreadable", value=error.strerror)
            yield Entry(path=folder, objection=reason)
            continue
        if folder and any(name == ".git" for name, _ in children):
            yield Entry(path=folder, objection=Objection(rule="nested-repository"))
            continue
        for name, is_folder in children:
            path = f"{folder}/{name}" if folder else name
            if name in METADATA_FOLDERS or _is_ignored(path, is_folder, rules):
                continue
            if is_folder:
                pending.append((path, rules))
            else:
                yield Entry(path=path)


def _rules_of(reader: TreeReader, folder: str, name: str) -> tuple[_Rules, ...]:
    prefix = f"{folder}/" if folder else ""
    data = reader.read(prefix + name, MAX_IGNORE_BYTES)
    # Git, too, goes on without an ignore file that is a link or cannot be read.
    if not isinstance(data, bytes):
        return ()
    return (_Rules(prefix=prefix, spec=compile_rules(data.decode("utf-8", "surrogateescape"))),)


def _is_ignored(path: str, is_folder: bool, rules: tuple[_Rules, ...]) -> bool:
    # The innermost file that says anything decides.
    for one in reversed(rules):
        inside = path[len(one.prefix) :] + ("/" if is_folder else "")
        decided = one.spec.check_file(inside).include
        if decided is not None:
            return decided
    return False
