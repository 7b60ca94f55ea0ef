"""Copies and near-copies."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flex_assist.repository import duplicates

MODULE = "\n".join(
    f"def step_{n}(alpha, beta):\n    gamma_{n} = alpha * {n} + beta\n    return gamma_{n}\n"
    for n in range(30)
)
OTHER = "\n".join(
    f"class Thing{n}(Base):\n    kind = {n!r}\n    names = [{n}]\n" for n in range(30)
)


def test_near_duplicates_share_a_cluster() -> None:
    changed = MODULE.replace("gamma_3", "delta", 1)
    assert duplicates.cluster([MODULE, OTHER, changed, MODULE.upper()]) == [0, 1, 0, 2]


def test_similarity_below_the_threshold_does_not_join() -> None:
    half = MODULE[: len(MODULE) // 2] + OTHER[: len(OTHER) // 2]
    assert duplicates.cluster([MODULE, half]) == [0, 1]


def test_clusters_join_through_a_middle_member() -> None:
    steps = MODULE.split("\n\n")
    far = "\n\n".join(steps[6:]) + OTHER[:600]
    middle = "\n\n".join(steps[3:]) + OTHER[:300]
    assert duplicates.cluster([MODULE, far]) == [0, 1]
    assert duplicates.cluster([MODULE, far, middle]) == [0, 0, 0]


def test_tiny_and_empty_texts() -> None:
    assert duplicates.cluster(["", "a", "b", "a b"]) == [0, 1, 2, 3]
    assert duplicates.cluster(["a", "a"]) == [0, 0]
    assert duplicates.cluster([]) == []


def test_many_texts_of_one_template_are_one_cluster_of_few_to_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 0
    count_nonzero = np.count_nonzero

    def count(rows: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
        nonlocal most
        most = max(most, len(rows))
        return np.asarray(count_nonzero(rows, axis=axis))

    monkeypatch.setattr(duplicates.np, "count_nonzero", count)
    steps = MODULE.split("\n\n")
    # Two templates that agree in a band, so that each is compared with the other's members.
    texts = ["\n\n".join(steps[:22]).replace("step_7", f"other_{n}") for n in range(80)]
    texts += ["\n\n".join(steps[8:]).replace("step_9", f"other_{n}") for n in range(80)]
    assert set(duplicates.cluster(texts)) == {0, 1}
    assert most == duplicates.MAX_COMPARED


def test_bands_are_those_that_datasketch_takes() -> None:
    index = MinHashLSH(
        threshold=duplicates.THRESHOLD, num_perm=duplicates.PERMUTATIONS, weights=(0.1, 0.9)
    )
    assert (index.b, index.r) == (duplicates.BANDS, duplicates.ROWS)


def test_a_sketch_is_datasketch_s_own() -> None:
    minhash = MinHash(num_perm=duplicates.PERMUTATIONS, hashfunc=int)
    minhash.update_batch(duplicates._gram_hashes(MODULE).tolist())
    assert duplicates.stack([duplicates.sketch(MODULE)]).tolist() == [minhash.hashvalues.tolist()]


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=30).map(" ".join)


def similarity(one: str, other: str) -> float:
    left, right = (set(duplicates._gram_hashes(text).tolist()) for text in (one, other))
    return len(left & right) / len(left | right)


@settings(deadline=None)
@given(WORDS, st.lists(st.tuples(st.integers(0, 40), WORDS), max_size=12))
def test_clusters_are_those_of_all_pairs(base: str, cuts: list[tuple[int, str]]) -> None:
    texts = [base, *(base[: 2 * keep] + more for keep, more in cuts)]
    rows = duplicates.stack([duplicates.sketch(text) for text in texts]).tolist()
    expected = duplicates.UnionFind(len(texts))
    for one, other in itertools.combinations(range(len(texts)), 2):
        same = [a == b for a, b in zip(rows[one], rows[other], strict=True)]
        bands = (same[n * duplicates.ROWS :][: duplicates.ROWS] for n in range(duplicates.BANDS))
        if sum(same) >= duplicates.THRESHOLD * len(same) and any(map(all, bands)):
            expected.join(one, other)
    names: dict[int, int] = {}
    numbers = [names.setdefault(expected.find(n), len(names)) for n in range(len(texts))]
    assert duplicates.cluster(texts) == numbers


@settings(deadline=None)
@given(
    WORDS,
    st.lists(st.tuples(st.integers(0, 40), WORDS), max_size=8),
    st.lists(st.tuples(st.integers(0, 40), WORDS), max_size=8),
    st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]),
)
def test_exact_matches_are_all_pairs(
    base: str, left: list[tuple[int, str]], right: list[tuple[int, str]], threshold: float
) -> None:
    held = [base[: 2 * keep] + more for keep, more in left]
    train = [base[: 2 * keep] + more for keep, more in right]
    expected = [
        (one, other)
        for one, other in itertools.product(range(len(held)), range(len(train)))
        if similarity(held[one], train[other]) >= threshold
    ]
    assert duplicates.exact_matches(held, train, threshold) == expected


def test_exact_matches_at_the_very_threshold() -> None:
    # 10 grams, of which the shorter text has 7, and one fewer.
    words = [f"w{n}" for n in range(14)]
    for kept, found in ((11, [(0, 0)]), (10, [])):
        assert duplicates.exact_matches([" ".join(words)], [" ".join(words[:kept])]) == found
        assert duplicates.exact_matches([" ".join(words[:kept])], [" ".join(words)]) == found
    assert duplicates.exact_matches([], ["a"]) == duplicates.exact_matches(["a"], []) == []


def test_gram_hashes_do_not_depend_on_the_process() -> None:
    # The value of this text in this program, written down; other processes have other salts.
    command = (
        "from flex_assist.repository.duplicates import _gram_hashes as g;"
        "print(g('def f(a): return a').tolist())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(seen) == 1


def test_the_original_is_the_copy_among_most_files() -> None:
    paths = ["links/copy.py", "src/a.py", "src/b.py", "src/c.py"]
    stands = duplicates.originals(paths, ["x", "x", "y", "x"])
    assert stands == {
        "links/copy.py": "src/a.py",
        "src/a.py": "src/a.py",
        "src/b.py": "src/b.py",
        "src/c.py": "src/a.py",
    }


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_union_find_is_the_closure_of_its_pairs(pairs: list[tuple[int, int]]) -> None:
    sets = duplicates.UnionFind(31)
    names = list(range(31))
    for one, other in pairs:
        sets.join(one, other)
        old, new = names[one], names[other]
        names = [new if name == old else name for name in names]
    for one in range(31):
        for other in range(31):
            assert (sets.find(one) == sets.find(other)) == (names[one] == names[other])
