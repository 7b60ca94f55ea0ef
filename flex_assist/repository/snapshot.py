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
from flex_assist.repository import duplicates, split
from flex_assist.repository.documents import Document, FileVerdict, Objection
from flex_assist.repository.examine import Source, examine
from flex_assist.repository.walk import Listing, list_given, list_repository

__all__ = ["Document", "FileVerdict", "Snapshot", "read_documents", "take_snapshot"]

# Of one cluster of near-duplicates no more are used: the rest would only repeat them.
MAX_OF_CLUSTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a repository gave at one moment.

    Attributes:
        verdicts: One for each file that was found, sorted by path. Files that git's ignore rules
            name are not found.
        train: Sorted by path.
        held_out: Sorted by path; no near-duplicate of any of them is in ``train``.
        listing: Who said which files there are.
    """

    root: Path
    verdicts: tuple[FileVerdict, ...]
    train: tuple[Document, ...]
    held_out: tuple[Document, ...]
    listing: Literal["git", "walk"] = "walk"

    def languages(self) -> tuple[str, ...]:
        """Languages with documents, the one with most first."""
        counts = Counter(document.language for document in (*self.train, *self.held_out))
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))

    def train_by_language(self) -> dict[str, tuple[Document, ...]]:
        """Training documents of each language; every language of ``languages`` is there."""
        return self._by_language(self.train)

    def held_out_by_language(self) -> dict[str, tuple[Document, ...]]:
        """Held-out documents of each language; every language of ``languages`` is there."""
        return self._by_language(self.held_out)

    def skipped_by_rule(self) -> dict[str, int]:
        """How many files each rule left out, the greatest number first."""
        counts = Counter(one.rule for one in self.verdicts if one.verdict == "skip")
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def _by_language(self, documents: tuple[Document, ...]) -> dict[str, tuple[Document, ...]]:
        return {
            name: tuple(document for document in documents if document.language == name)
            for name in self.languages()
        }


def take_snapshot(
    root: Path,
    settings: MiningSettings,
    *,
    seed: int,
    languages: Collection[str] | None = None,
    train_files: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """List, filter, deduplicate and split a repository. Nothing of it is run.

    Args:
        seed: Of the split; everything else is the same for every seed.
        languages: Names from ``language.LANGUAGES``; others are left out. None takes all.
        train_files: Exactly these files are looked at, whatever git ignores. Relative to ``root``
            or absolute; a part of them is still held out.
        progress: Called now and then with the files done and the files in all.

    Raises:
        ConfigError: An unknown language.
        DataError: ``root`` cannot be listed, or a file of ``train_files`` lies outside it.
    """
    _check_languages(languages)
    listing = _list(root, train_files)
    sources = examine(root, listing, settings, languages, progress)
    sources = _drop_copies(sources)
    kept = [source for source in sources if source.objection is None]
    documents, surplus = _thin_out(kept, duplicates.cluster([source.text for source in kept]))
    held = split.held_out_clusters(documents, share=settings.held_out_share, seed=seed)
    sources = [replace(s, text="", objection=surplus.get(s.path, s.objection)) for s in sources]
    held_paths = {document.path for document in documents if document.cluster in held}
    return Snapshot(
        root=root,
        verdicts=tuple(_verdict(source, held_paths) for source in sources),
        train=tuple(document for document in documents if document.cluster not in held),
        held_out=tuple(document for document in documents if document.cluster in held),
        listing=listing.source,
    )


def read_documents(root: Path, settings: MiningSettings) -> tuple[Document, ...]:
    """Every source file that passes the rules, copies once, without a split: for retrieval.

    Raises:
        DataError: ``root`` cannot be listed.
    """
    sources = _drop_copies(examine(root, list_repository(root), settings, None, None))
    kept = (source for source in sources if source.objection is None)
    return tuple(_document(source, number) for number, source in enumerate(kept))


def _check_languages(languages: Collection[str] | None) -> None:
    unknown = sorted(set(languages or ()) - set(language.BY_NAME))
    if unknown:
        known = ", ".join(sorted(language.BY_NAME))
        raise ConfigError(f"unknown language {unknown[0]!r}; known: {known}")


def _list(root: Path, train_files: Sequence[str] | None) -> Listing:
    if train_files is None:
        return list_repository(root)
    return list_given(root, [_relative(root, name) for name in train_files])


def _relative(root: Path, name: str) -> str:
    base = os.path.abspath(root)
    path = os.path.relpath(os.path.join(base, name), base)
    if path == os.curdir or path.split(os.sep)[0] == os.pardir:
        raise DataError(f"training file {name!r} is not below {base!r}. Give paths relative to it")
    return path.replace(os.sep, "/")


def _drop_copies(sources: list[Source]) -> list[Source]:
    kept = [source for source in sources if source.objection is None]
    stands_for = duplicates.originals([s.path for s in kept], [s.sha256 for s in kept])
    return [
        source
        if stands_for.get(source.path, source.path) == source.path
        else replace(source, objection=Objection(rule="copy", value=stands_for[source.path]))
        for source in sources
    ]


def _thin_out(
    sources: Sequence[Source], clusters: Sequence[int]
) -> tuple[list[Document], dict[str, Objection]]:
    """Documents of the first files of each cluster, and objections to the others."""
    members: Counter[int] = Counter()
    first: dict[int, str] = {}
    documents = []
    surplus = {}
    for source, number in zip(sources, clusters, strict=True):
        members[number] += 1
        original = first.setdefault(number, source.path)
        if members[number] > MAX_OF_CLUSTER:
            surplus[source.path] = Objection(rule="near-duplicate", value=original)
        else:
            documents.append(_document(source, number))
    return documents, surplus


def _document(source: Source, cluster: int) -> Document:
    assert source.language is not None  # Set before any text is read.
    return Document(
        path=source.path,
        language=source.language,
        text=source.text,
        sha256=source.sha256,
        is_test=split.is_test(source.path),
        cluster=cluster,
    )


def _verdict(source: Source, held_paths: set[str]) -> FileVerdict:
    if source.objection is not None:
        return FileVerdict(
            path=source.path,
            verdict="skip",
            rule=source.objection.rule,
            value=source.objection.value,
            language=source.language,
        )
    if source.path in held_paths:
        return FileVerdict(
            path=source.path, verdict="held-out", rule="split", language=source.language
        )
    return FileVerdict(path=source.path, verdict="train", rule="kept", language=source.language)
