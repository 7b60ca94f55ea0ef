"""The split: whole clusters, the shares it promises, and nothing that depends on order."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository.documents import Document
from flex_assist.repository.split import held_out_clusters, is_test


def document(number: int, language: str, cluster: int, test: bool = False) -> Document:
    return Document(
        path=f"src/file_{number:04d}",
        language=language,
        text="",
        sha256="",
        is_test=test,
        cluster=cluster,
    )


def repositories() -> st.SearchStrategy[list[Document]]:
    rows = st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.booleans())
    return st.lists(rows, max_size=60).map(
        lambda drawn: [document(n, *row) for n, row in enumerate(drawn)]
    )


@given(repositories(), st.floats(0.02, 0.5), st.integers(0, 9), st.randoms())
def test_split_is_deterministic_and_keeps_half(
    documents: list[Document], share: float, seed: int, order: random.Random
) -> None:
    held = held_out_clusters(documents, share=share, seed=seed)
    shuffled = list(documents)
    order.shuffle(shuffled)
    assert held_out_clusters(shuffled, share=share, seed=seed) == held
    assert held <= {one.cluster for one in documents}
    files = Counter(one.language for one in documents)
    out = Counter(one.language for one in documents if one.cluster in held)
    for language, count in files.items():
        assert out[language] <= count // 2
        if count < 4:
            assert out[language] == 0


@given(st.integers(0, 200), st.floats(0.02, 0.5), st.integers(0, 99))
def test_single_files_give_the_share_and_the_least_numbers(
    count: int, share: float, seed: int
) -> None:
    documents = [document(n, "python", n, test=n % 3 == 0) for n in range(count)]
    held = held_out_clusters(documents, share=share, seed=seed)
    least = 0 if count < 4 else 1 if count < 8 else 2
    expected = 0 if count < 4 else min(max(round(count * share), least), count // 2)
    assert len(held) == expected


def test_tests_and_others_are_held_out_in_proportion() -> None:
    documents = [document(n, "go", n, test=n < 30) for n in range(100)]
    held = held_out_clusters(documents, share=0.1, seed=3)
    assert (
        sorted(one.is_test for one in documents if one.cluster in held) == [False] * 7 + [True] * 3
    )


def test_each_language_has_its_share() -> None:
    documents = [document(n, "go" if n < 20 else "java", n) for n in range(100)]
    held = held_out_clusters(documents, share=0.1, seed=0)
    assert Counter(d.language for d in documents if d.cluster in held) == {"go": 2, "java": 8}


def test_seeds_differ() -> None:
    documents = [document(n, "go", n) for n in range(100)]
    assert len({held_out_clusters(documents, share=0.1, seed=seed) for seed in range(5)}) == 5


def test_a_new_file_leaves_most_others_on_their_side() -> None:
    documents = [document(n, "go", n) for n in range(100)]
    before = held_out_clusters(documents[:-1], share=0.1, seed=0)
    after = held_out_clusters(documents, share=0.1, seed=0)
    assert len(before & after) >= 9


def test_one_great_cluster_holds_nothing_out() -> None:
    documents = [document(n, "go", 0) for n in range(20)]
    assert held_out_clusters(documents, share=0.1, seed=0) == frozenset()


def test_the_least_number_is_met_by_small_clusters() -> None:
    documents = [document(n, "go", n // 3) for n in range(12)]
    held = held_out_clusters(documents, share=0.1, seed=0)
    assert sum(one.cluster in held for one in documents) == 3


@pytest.mark.parametrize(
    "path",
    [
        "tests/helpers.py", "a/__tests__/x.ts", "test_x.py", "conftest.py", "x_test.go",
        "x.test.ts", "x.spec.tsx", "src/test/java/A.java", "FooTest.java", "FooTests.cs",
        "user_spec.rb", "TestFoo.java",
    ],
)  # fmt: skip
def test_test_paths(path: str) -> None:
    assert is_test(path)


@pytest.mark.parametrize(
    "path", ["contest.py", "latest.ts", "attest/x.go", "Testament.java", "a.py"]
)
def test_other_paths(path: str) -> None:
    assert not is_test(path)
