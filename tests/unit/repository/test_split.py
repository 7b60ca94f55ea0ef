"""The split: whole clusters, the shares it promises, and nothing that depends on order."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.repository.documents import Document
from flex_assist.repository.split import divide, is_test


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


def held(documents: list[Document], sides: dict[int, str], *wanted: str) -> list[Document]:
    return [one for one in documents if sides.get(one.cluster) in wanted]


def changes_of(documents: list[Document]) -> st.SearchStrategy[list[set[str]]]:
    paths = [one.path for one in documents] + ["gone.py"]
    return st.lists(st.sets(st.sampled_from(paths), max_size=4), max_size=8)


@given(repositories(), st.floats(0.02, 0.5), st.integers(0, 9), st.randoms(), st.data())
def test_split_is_deterministic_and_keeps_half(
    documents: list[Document], share: float, seed: int, order: random.Random, data: st.DataObject
) -> None:
    changes = data.draw(changes_of(documents))
    sides = divide(documents, share=share, seed=seed, changes=changes)
    shuffled = list(documents)
    order.shuffle(shuffled)
    assert divide(shuffled, share=share, seed=seed, changes=changes) == sides
    assert set(sides) <= {one.cluster for one in documents}
    files = Counter(one.language for one in documents)
    out = Counter(one.language for one in held(documents, sides, "test", "tune", "recent"))
    recent = held(documents, sides, "recent")
    assert len(recent) <= 0.05 * len(documents)
    for language, count in files.items():
        assert out[language] <= count // 2
        if count < 4:
            assert out[language] == 0


@given(st.integers(0, 200), st.floats(0.02, 0.5), st.integers(0, 99))
def test_single_files_give_the_share_and_the_least_numbers(
    count: int, share: float, seed: int
) -> None:
    documents = [document(n, "python", n, test=n % 3 == 0) for n in range(count)]
    sides = divide(documents, share=share, seed=seed)
    least = min(8, int(0.4 * count))
    expected = 0 if count < 4 else min(max(round(count * share), least), count // 2)
    assert len(held(documents, sides, "test")) == expected
    tune = round(0.05 * count) if count >= 40 else 0
    assert len(held(documents, sides, "tune")) == min(tune, count // 2 - expected)


def test_tests_and_others_are_held_out_in_proportion() -> None:
    documents = [document(n, "go", n, test=n < 30) for n in range(100)]
    sides = divide(documents, share=0.1, seed=3)
    found = sorted(one.is_test for one in held(documents, sides, "test"))
    assert found == [False] * 7 + [True] * 3


def test_each_language_has_its_share() -> None:
    documents = [document(n, "go" if n < 100 else "java", n) for n in range(300)]
    sides = divide(documents, share=0.1, seed=0)
    assert Counter(d.language for d in held(documents, sides, "test")) == {"go": 10, "java": 20}
    assert Counter(d.language for d in held(documents, sides, "tune")) == {"go": 5, "java": 10}


def test_seeds_differ() -> None:
    documents = [document(n, "go", n) for n in range(100)]
    assert len({frozenset(divide(documents, share=0.1, seed=seed)) for seed in range(5)}) == 5


def test_a_new_file_leaves_most_others_on_their_side() -> None:
    documents = [document(n, "go", n) for n in range(100)]
    before = divide(documents[:-1], share=0.1, seed=0)
    after = divide(documents, share=0.1, seed=0)
    assert len(before.items() & after.items()) >= 13


def test_one_great_cluster_holds_nothing_out() -> None:
    documents = [document(n, "go", 0) for n in range(20)]
    assert divide(documents, share=0.1, seed=0) == {}


def test_the_least_number_is_met_by_small_clusters() -> None:
    documents = [document(n, "go", n // 3) for n in range(12)]
    sides = divide(documents, share=0.1, seed=0)
    assert len(held(documents, sides, "test")) == 6


def test_the_newest_commits_are_held_out_and_sweeping_ones_are_not() -> None:
    documents = [document(n, "go", n // 2) for n in range(200)]
    paths = [one.path for one in documents]
    sweeping, newest, older, oldest = set(paths[100:120]), {paths[0]}, {paths[3]}, set(paths[20:29])
    changes = [sweeping, newest, older, oldest, {paths[40]}]
    sides = divide(documents, share=0.1, seed=0, changes=changes)
    # Whole clusters of two files each, and no more than 5 % of all files.
    clusters = {one.cluster for one in held(documents, sides, "recent")}
    assert {0, 1} < clusters < {0, 1, 10, 11, 12, 13, 14}
    assert len(held(documents, sides, "recent")) == 10
    # They count towards what is held out for testing.
    assert len(held(documents, sides, "test", "recent")) == 20


def test_a_file_of_a_sweeping_commit_only_is_not_recent() -> None:
    documents = [document(n, "go", n) for n in range(100)]
    changes = [{one.path for one in documents[:6]}]
    assert not held(documents, divide(documents, share=0.1, seed=0, changes=changes), "recent")


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
