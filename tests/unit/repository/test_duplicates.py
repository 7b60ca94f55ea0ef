"""Copies and near-copies."""

import os
import subprocess
import sys

import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given
from hypothesis import strategies as st

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
    kept: list[int] = []
    insert = MinHashLSH.insert

    def count(index: MinHashLSH, key: int, sketch: MinHash) -> None:
        kept.append(key)
        insert(index, key, sketch)

    monkeypatch.setattr(MinHashLSH, "insert", count)
    texts = [MODULE.replace("step_7", f"other_{n}") for n in range(duplicates.MAX_COMPARED + 20)]
    assert set(duplicates.cluster(texts)) == {0}
    assert len(kept) == duplicates.MAX_COMPARED


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
