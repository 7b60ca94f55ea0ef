"""From texts that passed the rules to documents, each on one side of the split."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flex_assist.repository import duplicates, split
from flex_assist.repository.documents import Document, Objection
from flex_assist.repository.examine import Source

# Of one cluster of near-duplicates no more are used: the rest would only repeat them.
MAX_OF_CLUSTER = 4
Side = Literal["train", "recent", "test", "tune"]
# Sides that a document of a later one must not resemble: what is measured on goes first.
ORDER: tuple[tuple[Side, ...], ...] = (("recent", "test"), ("tune",), ("train",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Documents by side, and why others were left out.

    Attributes:
        sides: Of each document, by ``key``.
        objections: To the sources that are no document, by ``key``.
    """

    documents: tuple[Document, ...]
    sides: Mapping[str, Side]
    objections: Mapping[str, Objection]

    def of(self, *sides: Side) -> tuple[Document, ...]:
        """The documents of these sides, in their order."""
        return tuple(one for one in self.documents if self.sides[key(one)] in sides)


def key(one: Source | Document) -> str:
    """Names a source among all of a repository: a file may hold parts in several languages."""
    return f"{one.path}\0{one.language}"


def drop_copies(sources: Iterable[Source]) -> list[Source]:
    """The sources, with an objection to each whose text another one has."""
    given = list(sources)
    kept = [source for source in given if source.objection is None]
    stands_for = duplicates.originals([key(s) for s in kept], [s.sha256 for s in kept])
    return [
        source
        if stands_for.get(key(source), key(source)) == key(source)
        else replace(source, objection=_copy_of(stands_for[key(source)]))
        for source in given
    ]


def divide(
    sources: Sequence[Source],
    *,
    share: float,
    seed: int,
    changes: Sequence[Collection[str]] = (),
) -> Partition:
    """Cluster near-duplicates, leave most of each cluster out, and split by whole clusters.

    No pair of documents on two sides is alike (``duplicates.THRESHOLD``, exactly): sketches, by
    which clusters are made, may err a little, so what is held out is compared in full.

    Args:
        sources: Without objections or copies.
        share, seed, changes: See ``split.divide``.
    """
    sketches = [one.sketch or duplicates.sketch(one.content()) for one in sources]
    numbers = duplicates.cluster_sketches(duplicates.stack(sketches))
    objections: dict[str, Objection] = {}
    documents = _thinned_out(sources, numbers, objections)
    sides_of = split.divide(documents, share=share, seed=seed, changes=changes)
    sides: dict[str, Side] = {key(one): sides_of.get(one.cluster, "train") for one in documents}
    contents = {key(source): source.content for source in sources}
    _separate(documents, sides, objections, contents)
    kept = tuple(one for one in documents if key(one) not in objections)
    return Partition(
        documents=kept, sides={key(one): sides[key(one)] for one in kept}, objections=objections
    )


def document(source: Source, cluster: int) -> Document:
    """What a source is to those who learn from it."""
    assert source.language is not None  # Set before any text is read.
    return Document(
        path=source.path,
        language=source.language,
        text=source.text,
        sha256=source.sha256,
        is_test=split.is_test(source.path),
        cluster=cluster,
    )


def _copy_of(original: str) -> Objection:
    return Objection(rule="copy", value=original.partition("\0")[0])


def _thinned_out(
    sources: Sequence[Source], clusters: Sequence[int], objections: dict[str, Objection]
) -> list[Document]:
    """Documents of the first files of each cluster; objections to the others are added."""
    joined = _joined(sources, clusters)
    members: Counter[int] = Counter()
    first: dict[int, str] = {}
    documents = []
    for at, (source, number) in enumerate(zip(sources, clusters, strict=True)):
        members[number] += 1
        original = first.setdefault(number, source.path)
        if members[number] > MAX_OF_CLUSTER:
            objections[key(source)] = Objection(rule="near-duplicate", value=original)
        else:
            documents.append(document(source, joined[at]))
    return documents


def _joined(sources: Sequence[Source], clusters: Sequence[int]) -> list[int]:
    """Clusters that have parts of one file are one."""
    sets = duplicates.UnionFind(max(clusters, default=-1) + 1)
    first: dict[str, int] = {}
    for source, number in zip(sources, clusters, strict=True):
        sets.join(first.setdefault(source.path, number), number)
    return [sets.find(number) for number in clusters]


def _separate(
    documents: Sequence[Document],
    sides: Mapping[str, Side],
    objections: dict[str, Objection],
    contents: Mapping[str, Callable[[], str]],
) -> None:
    """Object to documents that resemble one of a side that goes before theirs."""
    before: list[Document] = []
    for group in ORDER:
        own = [one for one in documents if sides[key(one)] in group]
        held = (contents[key(one)]() for one in before)
        rest = (contents[key(one)]() for one in own)
        for earlier, later in duplicates.exact_matches(held, rest):
            reason = Objection(rule="near-duplicate", value=before[earlier].path)
            objections.setdefault(key(own[later]), reason)
        before += [one for one in own if key(one) not in objections]
