"""Texts that are the same, or nearly.

Exact copies are found by digest. Near-duplicates by MinHash over token 5-grams (Broder 1997) and
locality-sensitive hashing; what the hashing proposes is checked against the estimated Jaccard
similarity, and pairs that pass are joined into clusters. The sketches come from datasketch; its
index of Python objects would need gigabytes for 100,000 of them, so rows of an array are sorted.

``exact_matches`` estimates nothing: it finds each pair that is alike by the grams themselves.
"""

import functools
import hashlib
import operator
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datasketch import MinHash

GRAM_TOKENS = 5
OWN_LINE_CHARACTERS = 24
PERMUTATIONS = 128
THRESHOLD = 0.7
# Texts are compared where all rows of a band agree. These are datasketch's numbers for the
# threshold if a pair that is missed counts nine times one that is compared in vain.
BANDS = 20
ROWS = 6
# Members of one cluster that are kept to compare with. Without a bound, thousands of files made
# from one template would each be compared with all the others.
MAX_COMPARED = 50
# Few enough for the processor's cache.
GRAMS_AT_ONCE = 512
# Of a text's grams this share is looked up beyond what is needed, and must be found: it tells
# pairs that are alike from those that only have a rare gram in common.
SURPLUS_SHARE = 0.1
MAX_TOKENS_KNOWN, MAX_TOKEN_KNOWN_CHARACTERS = 200_000, 64
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MIX = np.uint64(0x9E3779B97F4A7C15)


Sketches = NDArray[np.uint32]


class UnionFind:
    """Disjoint sets of the numbers 0 to ``count - 1``; the least number names its set."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def find(self, item: int) -> int:
        """The name of the set of ``item``."""
        root = item
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[item] != root:
            self._parents[item], item = root, self._parents[item]
        return root

    def join(self, one: int, other: int) -> None:
        """Make the sets of both one set."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parents[high] = low


def digest(text: str) -> str:
    """SHA-256 of ``text`` in UTF-8, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def originals(paths: Sequence[str], digests: Sequence[str]) -> dict[str, str]:
    """For each path the one path that stands for all copies of its text.

    Of several copies the one in the folder with most files is taken for the original: a stray
    copy more often lies in an odd place. Then the first by name.
    """
    crowd = Counter(path.rpartition("/")[0] for path in paths)
    ordered = sorted(
        zip(paths, digests, strict=True),
        key=lambda pair: (-crowd[pair[0].rpartition("/")[0]], pair[0]),
    )
    first: dict[str, str] = {}
    for path, sha256 in ordered:
        first.setdefault(sha256, path)
    return {path: first[sha256] for path, sha256 in ordered}


def cluster(texts: Sequence[str]) -> list[int]:
    """A cluster number for each text; near-duplicates share one.

    Numbers count up from 0 in the order of the texts. The result depends on the texts and their
    order alone, on every machine and in every process.
    """
    return cluster_sketches(stack([sketch(text) for text in texts]))


def sketch(text: str) -> bytes:
    """The MinHash of a text: ``PERMUTATIONS`` numbers of 32 bits."""
    minhash = _blank().copy()
    grams = _gram_hashes(text)
    # Each gram costs one number a permutation while it is worked on.
    for start in range(0, len(grams), GRAMS_AT_ONCE):
        minhash.update_batch(grams[start : start + GRAMS_AT_ONCE].tolist())
    return bytes(minhash.hashvalues.astype("<u4").tobytes())


def stack(sketches: Sequence[bytes]) -> Sketches:
    """Sketches as the rows of one array."""
    return np.frombuffer(b"".join(sketches), dtype="<u4").reshape(-1, PERMUTATIONS)


def cluster_sketches(sketches: Sketches) -> list[int]:
    """As ``cluster``, from the sketches of the texts."""
    sets = UnionFind(len(sketches))
    for band in range(BANDS):
        for members in _groups(sketches[:, band * ROWS : (band + 1) * ROWS]):
            _join_alike(members, sketches, sets)
    names: dict[int, int] = {}
    return [names.setdefault(sets.find(number), len(names)) for number in range(len(sketches))]


def _groups(rows: Sketches) -> Iterator[list[int]]:
    """Numbers of the rows that are the same, for each row that occurs more than once."""
    # Two different rows may get one key: whatever is proposed is checked.
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        keys = (keys ^ column) * _MIX
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    borders = np.flatnonzero(np.diff(ordered)) + 1
    starts, ends = np.r_[0, borders], np.r_[borders, len(ordered)]
    several = ends - starts > 1
    for start, end in zip(starts[several], ends[several], strict=True):
        yield order[start:end].tolist()


def _join_alike(members: Sequence[int], sketches: Sketches, sets: UnionFind) -> None:
    kept: dict[int, list[int]] = {}
    for number in members:
        own = sets.find(number)
        others = [one for name, inside in kept.items() if name != own for one in inside]
        if others:
            same = np.count_nonzero(sketches[others] == sketches[number], axis=1)
            for one in np.flatnonzero(same >= THRESHOLD * PERMUTATIONS):
                other = sets.find(others[one])
                if other != own:
                    sets.join(other, own)
                    inside = [*kept.pop(own, ()), *kept.pop(other, ())]
                    own = sets.find(number)
                    kept[own] = inside[:MAX_COMPARED]
        inside = kept.setdefault(own, [])
        if len(inside) < MAX_COMPARED:
            inside.append(number)


def exact_matches(
    held: Iterable[str], train: Iterable[str], threshold: float = THRESHOLD
) -> list[tuple[int, int]]:
    """All pairs, as (number in ``held``, number in ``train``), that are alike, in order.

    Alike means a Jaccard similarity of the sets of grams of at least ``threshold``. Nothing is
    estimated; only two grams with the same hash of 32 bits count as one.

    The memory grows with ``held``, so let that be the smaller part; of ``train`` one text is held
    at a time.
    """
    sets = [_gram_hashes(text) for text in held]
    if not sets:
        return []
    index = _GramIndex(sets, threshold)
    found = [
        (one, number)
        for number, text in enumerate(train)
        for one in index.alike(_gram_hashes(text))
    ]
    return sorted(found)


def own_lines(texts: Iterable[str], others: Iterable[str]) -> frozenset[str]:
    """Lines long enough to tell where they are from, that stand in ``texts`` and in no other."""
    elsewhere = {line.strip() for text in others for line in text.split("\n")}
    own = {line.strip() for text in texts for line in text.split("\n")}
    return frozenset(line for line in own - elsewhere if len(line) >= OWN_LINE_CHARACTERS)


class _GramIndex:
    """Sets of grams, and where the rarer part of each one's grams is.

    Source: Chaudhuri, Ganti, Kaushik, "A Primitive Operator for Similarity Joins in Data Cleaning"
    (ICDE 2006). A set that is alike to one of n grams by the threshold t has at least t * n of
    them; so of any n - t * n + k of them it has at least k. The rarest are taken, for they lead to
    the fewest other sets.
    """

    def __init__(self, sets: Sequence[NDArray[np.uint32]], threshold: float) -> None:
        self._sets = sets
        self._threshold = threshold
        sizes = np.array([len(one) for one in sets], dtype=np.int64)
        # Rounded down: a factor that is not quite exact must not ask for one gram too many.
        needed = np.ceil(threshold * sizes - 1e-6).astype(np.int64)
        self._surplus = np.clip((SURPLUS_SHARE * sizes).astype(np.int64), 1, np.maximum(needed, 1))
        counts = _bucket_counts(sets)
        parts = [
            one[np.argsort(counts[one >> _BUCKET_SHIFT], kind="stable")[:length]]
            for one, length in zip(sets, sizes - needed + self._surplus, strict=True)
        ]
        grams = np.concatenate(parts)
        owners = np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part) for part in parts])
        order = np.argsort(grams, kind="stable")
        self._owners = owners[order]
        self._grams, self._starts = np.unique(grams[order], return_index=True)
        self._ends = np.append(self._starts[1:], len(order))
        self._seen = np.zeros(1 << (32 - _SEEN_SHIFT), dtype=np.bool_)
        self._seen[self._grams >> _SEEN_SHIFT] = True

    def alike(self, grams: NDArray[np.uint32]) -> list[int]:
        """Numbers of the sets that are alike to this one."""
        # Most grams are in no set; the small table says so of most of them, and quickly.
        known = grams[self._seen[grams >> _SEEN_SHIFT]]
        places = np.searchsorted(self._grams, known)
        places = places[self._grams[np.minimum(places, len(self._grams) - 1)] == known]
        owners = self._owners[_ranges(self._starts[places], self._ends[places])]
        shared = np.bincount(owners, minlength=len(self._sets))
        return [
            number
            for number in np.flatnonzero(shared >= self._surplus).tolist()
            if self._similarity(number, grams) >= self._threshold
        ]

    def _similarity(self, number: int, grams: NDArray[np.uint32]) -> float:
        own = self._sets[number]
        common = len(np.intersect1d(own, grams, assume_unique=True))
        return common / (len(own) + len(grams) - common)


_BUCKET_SHIFT = np.uint32(10)
_SEEN_SHIFT = 6


def _bucket_counts(sets: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """About how often each gram occurs: those with the same first bits are counted together."""
    counts = np.zeros(1 << (32 - int(_BUCKET_SHIFT)), dtype=np.uint32)
    for one in sets:
        np.add.at(counts, one >> _BUCKET_SHIFT, 1)
    return counts


def _ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """All numbers from each start up to its end."""
    lengths = ends - starts
    offsets = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    return offsets + np.arange(len(offsets))


class _TokenHashes(dict[str, int]):
    """Hashes of tokens, computed when they are first asked for."""

    def __missing__(self, token: str) -> int:
        # CRC-32, because Python's own hash differs from process to process.
        number = zlib.crc32(token.encode())
        # What is long is rare.
        if len(token) <= MAX_TOKEN_KNOWN_CHARACTERS:
            self[token] = number
        return number


# Most tokens of a text occur in others, too. Threads may share it: it only remembers.
_token_hashes = _TokenHashes()


@functools.cache
def _blank() -> "MinHash":
    # Costs half a second, which "--help" should not.
    from datasketch import MinHash

    # The grams are hashed already; a second hash function would only cost time.
    return MinHash(num_perm=PERMUTATIONS, hashfunc=operator.index)


def _gram_hashes(text: str) -> NDArray[np.uint32]:
    """One 32-bit number for each different run of five tokens, sorted."""
    tokens = _TOKEN.findall(text)
    if len(_token_hashes) > MAX_TOKENS_KNOWN:
        _token_hashes.clear()
    values = np.fromiter(map(_token_hashes.__getitem__, tokens), dtype=np.uint64, count=len(tokens))
    count = max(len(tokens) - GRAM_TOKENS + 1, 1)
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(min(GRAM_TOKENS, len(tokens))):
        mixed = (mixed ^ values[offset : offset + count]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))
