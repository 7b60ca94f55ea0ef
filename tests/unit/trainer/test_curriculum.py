"""What each adapter is trained on, and in which order."""

from dataclasses import replace

from flex_assist.repository.documents import Document
from flex_trainer import curriculum
from flex_trainer.corpus import Sample
from flex_trainer.curriculum import Lessons
from flex_trainer.recipe import Recipe
from flex_trainer.selection import AdapterTask


class Numbers:
    """A corpus whose samples are numbered."""

    def __init__(self, documents: object, seed: int) -> None:
        del documents, seed

    def samples(self, epoch: int) -> list[Sample]:
        return [
            Sample(tokens=(at,) * 4, labels=(at,) * 4, weights=(1.0,) * 4)
            for at in range(100 * epoch, 100 * epoch + 12)
        ]


def task(name: str) -> AdapterTask:
    text = Document(path=f"{name}.x", language=name, text="", sha256=name, is_test=False, cluster=0)
    return AdapterTask(name=name, languages=(name,), train=(text,), tune=(), test=(), tokens=10_000)


def taught(share: float, steps: int = 10) -> Lessons:
    recipe = replace(Recipe(batch_tokens=4), common_share=share)
    return curriculum.lessons(task("go"), recipe, steps, Numbers)


def numbers(batches: list[list[Sample]]) -> list[int]:
    return [sample.tokens[0] for batch in batches for sample in batch]


def test_without_a_share_all_steps_are_its_own():
    found = taught(0.0)
    assert found.common == []
    assert len(found.own) == 10


def test_the_share_goes_to_the_common_adapter_and_nothing_is_seen_twice():
    alone, shared = taught(0.0), taught(0.4)
    assert (len(shared.common), len(shared.own)) == (4, 6)
    assert numbers([*shared.common, *shared.own]) == numbers(alone.own)
    assert len(set(numbers(alone.own))) == 10


def test_each_adapter_keeps_a_step_of_its_own():
    assert len(taught(0.9, steps=1).own) == 1


def test_the_common_steps_are_of_one_language_each_in_an_order_by_the_seed():
    first = Lessons(common=[[s] for s in Numbers(0, 0).samples(0)], own=[], validation=())
    second = Lessons(common=[[s] for s in Numbers(0, 0).samples(1)], own=[], validation=())
    mixed = curriculum.mixed([first, second], 0)
    assert sorted(numbers(mixed)) == [*range(12), *range(100, 112)]
    assert numbers(mixed) == numbers(curriculum.mixed([first, second], 0))
    assert numbers(mixed) != numbers(curriculum.mixed([first, second], 1))
    halves = [number < 100 for number in numbers(mixed)]
    assert halves != sorted(halves, reverse=True)
