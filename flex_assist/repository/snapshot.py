"""One look at a repository: a verdict for each file, and the documents to train and measure on."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flex_assist import language
from flex_assist.config import MiningSettings
from flex_assist.errors import ConfigError, DataError
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository import git, licences, partition, secrets, split
from flex_assist.repository.documents import Document, FileVerdict, Objection
from flex_assist.repository.examine import Source, examine
from flex_assist.repository.forgotten import Forgotten
from flex_assist.repository.partition import Partition, key
from flex_assist.repository.walk import Listing, list_given, list_repository

__all__ = ["Document", "FileVerdict", "Snapshot", "read_documents", "take_snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a repository gave at one moment.

    Attributes:
        verdicts: One for each file that was found, sorted by path. Files that git's ignore rules
            name are not found.
        train: Sorted by path, like the others. No near-duplicate of any of them is in another part.
        tune: For decisions on the way, e.g. when to stop.
        test: For measuring.
        listing: Who said which files there are.
        head: The commit that is checked out.
    """

    root: Path
    verdicts: tuple[FileVerdict, ...]
    train: tuple[Document, ...]
    tune: tuple[Document, ...]
    test: tuple[Document, ...]
    listing: Literal["git", "walk"] = "walk"
    head: str | None = None

    def documents(self) -> tuple[Document, ...]:
        """Those of all parts."""
        return (*self.train, *self.tune, *self.test)

    def recent(self) -> frozenset[tuple[str, str]]:
        """Path and language of those of ``test`` that the newest commits touched."""
        return frozenset(
            (verdict.path, verdict.language or "")
            for verdict in self.verdicts
            if verdict.rule == "recent"
        )

    def languages(self) -> tuple[str, ...]:
        """Languages with documents, the one with most first."""
        counts = Counter(document.language for document in self.documents())
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    def of(self, languages: Collection[str]) -> "Snapshot":
        """The same with the documents of some languages only."""

        def chosen(documents: tuple[Document, ...]) -> tuple[Document, ...]:
            return tuple(one for one in documents if one.language in languages)

        return replace(
            self, train=chosen(self.train), tune=chosen(self.tune), test=chosen(self.test)
        )

    def skipped_by_rule(self) -> dict[str, int]:
        """How many files each rule left out, the greatest number first."""
        counts = Counter(one.rule for one in self.verdicts if one.verdict == "skip")
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def take_snapshot(
    root: Path,
    settings: MiningSettings,
    *,
    seed: int,
    languages: Collection[str] | None = None,
    train_files: Sequence[str] | None = None,
    forgotten: Forgotten = forgetting.NOTHING,
    progress: Callable[[int, int], None] | None = None,
    keep_text: bool = True,
) -> Snapshot:
    """List, filter, deduplicate and split a repository. Nothing of it is run.

    Args:
        seed: Of the split; everything else is the same for every seed.
        languages: Names from ``language.LANGUAGES``; others are left out. None takes all.
        train_files: Exactly these files are looked at, whatever git ignores. Relative to ``root``
            or absolute; a part of them is still held out.
        forgotten: What a person wants left out.
        progress: Called now and then with the files done and the files in all.
        keep_text: Off where verdicts are wanted and nothing else: documents then have no text,
            which is most of the memory of a large repository.

    Raises:
        ConfigError: An unknown language.
        DataError: ``root`` cannot be listed, or a file of ``train_files`` lies outside it.
    """
    _check_languages(languages)
    listing = _list(root, settings, train_files)
    sources = _screened(root, listing, settings, languages, forgotten, progress, keep_text)
    kept = [source for source in sources if source.objection is None]
    commits = git.newest_commits(root, split.MIN_COMMITS) if listing.source == "git" else []
    # Where there are fewer, none are new.
    enough = len(commits) == split.MIN_COMMITS
    changes = git.recent_changes(root, split.RECENT_COMMITS) if enough else []
    made = partition.divide(kept, share=settings.held_out_share, seed=seed, changes=changes)
    return Snapshot(
        root=root,
        verdicts=tuple(_verdict(source, made) for source in sources),
        train=made.of("train"),
        tune=made.of("tune"),
        test=made.of("recent", "test"),
        listing=listing.source,
        head=commits[0] if commits else None,
    )


def read_documents(
    root: Path, settings: MiningSettings, forgotten: Forgotten = forgetting.NOTHING
) -> tuple[Document, ...]:
    """Every source file that passes the rules, copies once, without a split: for retrieval.

    Raises:
        DataError: ``root`` cannot be listed.
    """
    listing = _list(root, settings, None)
    sources = _screened(root, listing, settings, None, forgotten, sketch=False)
    kept = (source for source in sources if source.objection is None)
    return tuple(partition.document(source, number) for number, source in enumerate(kept))


def known_digests(root: Path, settings: MiningSettings) -> dict[str, frozenset[str]]:
    """The digests of all texts below ``root`` that could be learnt from, copies too, by path.

    Raises:
        DataError: ``root`` cannot be listed.
    """
    found: dict[str, set[str]] = {}
    for source in examine(root, _list(root, settings, None), settings, None, None, sketch=False):
        if source.sha256:
            found.setdefault(source.path, set()).add(source.sha256)
    return {path: frozenset(digests) for path, digests in found.items()}


def _check_languages(languages: Collection[str] | None) -> None:
    unknown = sorted(set(languages or ()) - set(language.BY_NAME))
    if unknown:
        known = ", ".join(sorted(language.BY_NAME))
        raise ConfigError(f"unknown language {unknown[0]!r}; known: {known}")


def _list(root: Path, settings: MiningSettings, train_files: Sequence[str] | None) -> Listing:
    if train_files is None:
        return list_repository(root, submodules=settings.submodules)
    return list_given(root, [_relative(root, name) for name in train_files])


def _relative(root: Path, name: str) -> str:
    base = os.path.abspath(root)
    path = os.path.relpath(os.path.join(base, name), base)
    if path == os.curdir or path.split(os.sep)[0] == os.pardir:
        raise DataError(f"training file {name!r} is not below {base!r}. Give paths relative to it")
    return path.replace(os.sep, "/")


def _screened(
    root: Path,
    listing: Listing,
    settings: MiningSettings,
    languages: Collection[str] | None,
    forgotten: Forgotten,
    progress: Callable[[int, int], None] | None = None,
    keep_text: bool = True,
    sketch: bool = True,
) -> list[Source]:
    """All sources, with an objection to each that no document can come from."""
    sources = examine(
        root, listing, settings, languages, progress, keep_text=keep_text, sketch=sketch
    )
    digests = forgotten.digests
    sources = [
        _without_text(source)
        if source.sha256 in digests or forgotten.has_path(source.path)
        else source
        for source in sources
    ]
    folders = licences.of_folders(root, (entry.path for entry in listing.entries))
    sources = [
        replace(source, licence=source.licence or licences.around(source.path, folders))
        for source in sources
    ]
    named = [source.licence for source in sources if source.objection is None]
    own = licences.own_licences(root, named)
    return partition.drop_copies(
        source
        if source.objection is not None
        else replace(
            source, objection=licences.denied(source.licence, settings.denied_licences, own)
        )
        for source in sources
    )


def _without_text(source: Source) -> Source:
    """A forgotten one."""
    gone = Objection(rule="forgotten")
    return replace(source, text="", packed=b"", sha256="", objection=gone)


def _verdict(source: Source, made: Partition) -> FileVerdict:
    objection = source.objection or made.objections.get(key(source))
    verdict = FileVerdict(
        path=source.path,
        verdict="train",
        rule="kept",
        value=source.masked or None,
        language=source.language,
        licence=source.licence,
    )
    if objection is not None:
        # Paths can hold secrets, too, and so can what a rule has measured.
        value = objection.value
        return replace(
            verdict,
            path=secrets.redact(source.path),
            verdict="skip",
            rule=objection.rule,
            value=secrets.redact(value) if isinstance(value, str) else value,
        )
    side = made.sides[key(source)]
    return verdict if side == "train" else replace(verdict, verdict="held-out", rule=side)
