"""Texts that are the same, or nearly.

Exact copies are found by digest. Near-duplicates by MinHash over token 5-grams (Broder 1997) and
locality-sensitive hashing; what the index proposes is checked against the estimated Jaccard
similarity, and pairs that pass are joined into clusters.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datasketch import MinHash

GRAM_TOKENS = 5
PERMUTATIONS = 128
THRESHOLD = 0.7
# Members of one cluster that are kept to compare with. Without a bound, thousands of files made
# from one template would each be compared with all the others.
MAX_COMPARED = 50
GRAMS_AT_ONCE = 16384
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MIX = np.uint64(0x9E3779B97F4A7C15)


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
    # Costs half a second, which "--help" should not.
    from datasketch import MinHash, MinHashLSH

    # The grams are hashed already; a second hash function would only cost time.
    blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    sets = UnionFind(len(texts))
    # Whatever it proposes is checked, so it may rather propose too much than miss a pair.
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    compared: Counter[int] = Counter()
    sketches: list[MinHash] = []
    for number, text in enumerate(texts):
        sketch = _sketch(text, blank)
        sketches.append(sketch)
        for candidate in sorted(index.query(sketch)):
            if sets.find(candidate) != sets.find(number) and (
                sketch.jaccard(sketches[candidate]) >= THRESHOLD
            ):
                members = compared[sets.find(candidate)] + compared[sets.find(number)]
                sets.join(candidate, number)
                compared[sets.find(number)] = members
        if compared[sets.find(number)] < MAX_COMPARED:
            compared[sets.find(number)] += 1
            index.insert(number, sketch)
    names: dict[int, int] = {}
    return [names.setdefault(sets.find(number), len(names)) for number in range(len(texts))]


def _sketch(text: str, blank: "MinHash") -> "MinHash":
    sketch = blank.copy()
    grams = _gram_hashes(text)
    # Each gram costs one number a permutation while it is worked on.
    for start in range(0, len(grams), GRAMS_AT_ONCE):
        sketch.update_batch(grams[start : start + GRAMS_AT_ONCE].tolist())
    return sketch


def _gram_hashes(text: str) -> NDArray[np.uint64]:
    """One 32-bit number for each different run of five tokens."""
    tokens = _TOKEN.findall(text)
    # CRC-32, because Python's own hash differs from process to process.
    known = {token: zlib.crc32(token.encode()) for token in set(tokens)}
    values = np.fromiter((known[token] for token in tokens), dtype=np.uint64, count=len(tokens))
    count = max(len(tokens) - GRAM_TOKENS + 1, 1)
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(min(GRAM_TOKENS, len(tokens))):
        mixed = (mixed ^ values[offset : offset + count]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed >> np.uint64(32))


def exact_matches(
    held: Sequence[str], train: Sequence[str], threshold: float = THRESHOLD
) -> list[tuple[int, int]]:
    """All pairs of exact Jaccard similarity of at least ``threshold``, by brute force."""
    if not held or not train:
        return []
    left, right = [_gram_hashes(text) for text in held], [_gram_hashes(text) for text in train]
    pairs = []
    for one, grams in enumerate(left):
        for other, others in enumerate(right):
            both = len(np.intersect1d(grams, others, assume_unique=True))
            if both >= threshold * (len(grams) + len(others) - both):
                pairs.append((one, other))
    return pairs
