"""Which documents are kept apart from training, and for what.

Three sides, each of whole clusters of near-duplicates:

- ``recent``: the files of the newest commits, which training on an older state would not have
  seen. Commits that touch much of the repository (renames, formatting) say nothing and are passed
  over.
- ``test``: drawn by the seed, for the gate and the report, together with the recent ones.
- ``tune``: drawn by the seed, for decisions on the way: early stopping, and which adapter answers.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flex_assist.repository.documents import Document

Side = Literal["recent", "test", "tune"]

# A language with fewer files holds nothing out: each one is needed for training.
MIN_FILES = 4
# Fewer files to test on have no interval worth the name; so many are kept apart where that is no
# more than two fifths of a language.
LEAST_TEST_FILES = 8
MOST_TEST_SHARE = 0.4
# Smaller languages need their files for training and testing.
MIN_FILES_FOR_TUNE = 40
TUNE_SHARE = 0.05
# Of a repository with a history: commits looked at, and how much of it they may hold back.
MIN_COMMITS = 20
RECENT_COMMITS = 200
RECENT_SHARE = 0.05
SWEEPING_SHARE = 0.05
# What one language gives to its newest commits at most.
RECENT_OF_LANGUAGE = 0.15

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


class _Draw:
    """The clusters held out so far, and how many files of each language those are."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.files = Counter(document.language for document in documents)
        self.held: Counter[str] = Counter()
        self.sides: dict[int, Side] = {}

    def room(self, group: _Group, limits: Mapping[str, int]) -> bool:
        """Whether every language in ``group`` stays within its limit with it."""
        return group.cluster not in self.sides and all(
            self.held[name] + count <= limits[name] for name, count in group.files.items()
        )

    def hold(self, group: _Group, side: Side) -> None:
        """Hold ``group`` out."""
        self.sides[group.cluster] = side
        self.held.update(group.files)

    def part(self, share: float) -> dict[str, int]:
        """That share of each language's files, rounded down."""
        return {name: int(count * share) for name, count in self.files.items()}


def is_test(path: str) -> bool:
    """Whether a file is a test, by the conventions of the languages' usual test tools."""
    *folders, name = path.split("/")
    return not _TEST_FOLDERS.isdisjoint(folders) or _TEST_NAME.match(name) is not None


def divide(
    documents: Sequence[Document],
    *,
    share: float,
    seed: int,
    changes: Sequence[Collection[str]] = (),
) -> dict[int, Side]:
    """The clusters that are not trained on, with the side of each.

    About ``share`` of each language's files are for testing, tests and other files in the
    proportion they have. No language gives more than half of its files in all, which counts for
    more than the least numbers: a language that is one great cluster holds nothing out. Does not
    depend on the order of ``documents``; a file that is added later leaves most of the others on
    their side.

    Args:
        share: In (0, 1).
        changes: The paths that each of the newest commits touched, newest first; none where the
            history is too short to tell.
    """
    groups, draw = _groups(documents, seed), _Draw(documents)
    _hold_recent(documents, {group.cluster: group for group in groups}, draw, changes)
    _hold_share(groups, draw, "test", _test_targets(draw, share))
    tune = {
        name: draw.held[name] + (round(TUNE_SHARE * count) if count >= MIN_FILES_FOR_TUNE else 0)
        for name, count in draw.files.items()
    }
    _hold_share(groups, draw, "tune", {n: min(tune[n], draw.files[n] // 2) for n in tune})
    return draw.sides


def _hold_recent(
    documents: Sequence[Document],
    groups: Mapping[int, _Group],
    draw: _Draw,
    changes: Sequence[Collection[str]],
) -> None:
    """Hold out what the newest commits touched, commit by commit, until there is enough."""
    cluster_of = {document.path: document.cluster for document in documents}
    limits, left = draw.part(RECENT_OF_LANGUAGE), int(RECENT_SHARE * len(documents))
    for touched in changes[:RECENT_COMMITS]:
        known = [path for path in touched if path in cluster_of]
        if len(known) > SWEEPING_SHARE * len(documents):
            continue
        found = {cluster_of[path] for path in known} - draw.sides.keys()
        # In a fixed order: limits may be reached on the way.
        for group in sorted((groups[number] for number in found), key=lambda one: one.rank):
            size = group.files.total()
            if size > left:
                return
            if draw.room(group, limits):
                draw.hold(group, "recent")
                left -= size


def _test_targets(draw: _Draw, share: float) -> dict[str, int]:
    targets = {}
    for name, files in draw.files.items():
        least = min(LEAST_TEST_FILES, int(MOST_TEST_SHARE * files))
        wanted = max(round(files * share), least, draw.held[name])
        targets[name] = min(wanted, files // 2) if files >= MIN_FILES else 0
    return targets


def _hold_share(
    groups: Sequence[_Group], draw: _Draw, side: Side, targets: Mapping[str, int]
) -> None:
    """Hold out until each language has its target, tests and others in proportion."""
    for stratum, limit in _stratum_targets(groups, draw, targets).items():
        taken = 0
        for group in groups:
            size = group.files[stratum[0]]
            fits = group.stratum == stratum and taken + size <= limit
            if fits and draw.room(group, targets):
                draw.hold(group, side)
                taken += size
    # What rounding and great clusters left over.
    for group in groups:
        if draw.room(group, targets):
            draw.hold(group, side)
    _see_to_least(groups, draw, side, targets)


def _see_to_least(
    groups: Sequence[_Group], draw: _Draw, side: Side, targets: Mapping[str, int]
) -> None:
    """Where clusters are too great for the target, rather hold out more than next to nothing."""
    halves = {name: count // 2 if targets[name] else 0 for name, count in draw.files.items()}
    smallest = sorted(groups, key=lambda group: (group.files.total(), group.rank))
    for name, target in sorted(targets.items()):
        for group in smallest:
            if draw.held[name] >= min(target, LEAST_TEST_FILES):
                break
            if group.files[name] and draw.room(group, halves):
                draw.hold(group, side)


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


def _stratum_targets(
    groups: Sequence[_Group], draw: _Draw, targets: Mapping[str, int]
) -> dict[tuple[str, bool], int]:
    """How many files of each language, tests and others, are still wanted."""
    sizes: Counter[tuple[str, bool]] = Counter()
    for group in groups:
        sizes[group.stratum] += group.files[group.stratum[0]]
    wanted = {}
    for name, target in sorted(targets.items()):
        tests, others = sizes[name, True], sizes[name, False]
        left = max(0, target - draw.held[name])
        of_tests = round(left * tests / max(tests + others, 1))
        wanted[name, True], wanted[name, False] = of_tests, left - of_tests
    return wanted
