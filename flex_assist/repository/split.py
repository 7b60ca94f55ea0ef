"""Which documents are kept for measuring."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flex_assist.repository.documents import Document

# A language with fewer files holds nothing out: each one is needed for training.
MIN_FILES = 4
# From this many files on, at least two are held out, for one alone says nothing of the spread.
MIN_FILES_FOR_TWO = 8

_TEST_FOLDERS = frozenset({"test", "tests", "__tests__", "spec", "specs", "testing", "e2e"})
_TEST_NAME = re.compile(
    r"^(?:test_.*|conftest\.py|.*_test\.\w+|.*_spec\.\w+|.*[.-](?:test|spec)\.\w+"
    r"|.*[a-z0-9](?:Tests?|TestCase|IT|Spec)\.\w+|Test[A-Z].*\.\w+)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A cluster, which goes to one side as a whole."""

    cluster: int
    rank: bytes
    stratum: tuple[str, bool]
    files: Counter[str]


class _Shares:
    """How many files of each language are held out, and how many may be."""

    def __init__(self, documents: Sequence[Document], share: float) -> None:
        self.files = Counter(document.language for document in documents)
        self.targets = {name: _target(count, share) for name, count in self.files.items()}
        self.held: Counter[str] = Counter()
        self.clusters: set[int] = set()

    def room(self, group: _Group, limits: dict[str, int]) -> bool:
        """Whether every language in ``group`` stays within its limit with it."""
        return group.cluster not in self.clusters and all(
            self.held[name] + count <= limits[name] for name, count in group.files.items()
        )

    def hold(self, group: _Group) -> None:
        """Hold ``group`` out."""
        self.clusters.add(group.cluster)
        self.held.update(group.files)


def is_test(path: str) -> bool:
    """Whether a file is a test, by the conventions of the languages' usual test tools."""
    *folders, name = path.split("/")
    return not _TEST_FOLDERS.isdisjoint(folders) or _TEST_NAME.match(name) is not None


def held_out_clusters(documents: Sequence[Document], *, share: float, seed: int) -> frozenset[int]:
    """The clusters to keep for measuring: about ``share`` of each language's files.

    Tests and other files are held out in the proportion they have. No language gives more than
    half of its files, which counts for more than the least numbers: a language that is one great
    cluster holds nothing out. Does not depend on the order of ``documents``; a file that is added
    later leaves most of the others on their side.

    Args:
        share: In (0, 1).
    """
    groups = _groups(documents, seed)
    shares = _Shares(documents, share)
    for stratum, limit in _stratum_targets(groups, shares).items():
        taken = 0
        for group in groups:
            size = group.files[stratum[0]]
            fits = group.stratum == stratum and taken + size <= limit
            if fits and shares.room(group, shares.targets):
                shares.hold(group)
                taken += size
    _fill(groups, shares)
    return frozenset(shares.clusters)


def _fill(groups: Sequence[_Group], shares: _Shares) -> None:
    """Use what rounding and great clusters left over, then see to the least numbers."""
    for group in groups:
        if shares.room(group, shares.targets):
            shares.hold(group)
    halves = {
        name: count // 2 if shares.targets[name] else 0 for name, count in shares.files.items()
    }
    smallest = sorted(groups, key=lambda group: (group.files.total(), group.rank))
    for name, count in sorted(shares.files.items()):
        least = _least(count)
        for group in smallest:
            if shares.held[name] >= least:
                break
            if group.files[name] and shares.room(group, halves):
                shares.hold(group)


def _groups(documents: Iterable[Document], seed: int) -> list[_Group]:
    """All clusters in an order drawn by ``seed``."""
    members: defaultdict[int, list[Document]] = defaultdict(list)
    for document in documents:
        members[document.cluster].append(document)
    groups = []
    for number, inside in members.items():
        first = min(inside, key=lambda document: document.path)
        key = f"{seed}\0{first.path}".encode("utf-8", "surrogateescape")
        groups.append(
            _Group(
                cluster=number,
                rank=hashlib.sha256(key).digest(),
                stratum=(first.language, first.is_test),
                files=Counter(document.language for document in inside),
            )
        )
    return sorted(groups, key=lambda group: group.rank)


def _stratum_targets(groups: Sequence[_Group], shares: _Shares) -> dict[tuple[str, bool], int]:
    sizes: Counter[tuple[str, bool]] = Counter()
    for group in groups:
        sizes[group.stratum] += group.files[group.stratum[0]]
    targets = {}
    for name, target in sorted(shares.targets.items()):
        tests, others = sizes[name, True], sizes[name, False]
        of_tests = round(target * tests / max(tests + others, 1))
        targets[name, True], targets[name, False] = of_tests, target - of_tests
    return targets


def _target(files: int, share: float) -> int:
    if files < MIN_FILES:
        return 0
    return min(max(round(files * share), _least(files)), files // 2)


def _least(files: int) -> int:
    return 0 if files < MIN_FILES else 1 if files < MIN_FILES_FOR_TWO else 2
