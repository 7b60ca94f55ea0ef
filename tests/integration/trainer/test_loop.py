"""The training loop on a model that trains in milliseconds."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flex_trainer import checkpoint, early_stopping, fourier
from flex_trainer.corpus import Sample
from flex_trainer.loop import Trainer
from flex_trainer.memory import OutOfMemory
from flex_trainer.recipe import Recipe
from flex_trainer.recovery import DivergedError, LossWatch

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
assert _spec is not None
assert _spec.loader is not None
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

STEPS = 14
RECIPE = Recipe(learning_rate=5e-3, rank=4, hessian_every=4, dtype="float32", threads=1)


def trainer(recipe: Recipe = RECIPE, steps: int = STEPS, dtype=torch.float32) -> Trainer:
    return Trainer(tiny.tiny_model(dtype=dtype), recipe, tiny.tiny_batches(steps))


def run(one: Trainer, until: int = 10**6) -> Trainer:
    one.run(report=lambda _: None, should_stop=lambda progress: progress.step >= until)
    return one


def same(left: Trainer, right: Trainer) -> bool:
    first, second = left.masters.state(), right.masters.state()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimizer", ["sophia", "adamw"])
def test_learns(optimizer):
    losses = run(trainer(replace(RECIPE, optimizer=optimizer), steps=80)).progress.losses
    assert sum(losses[-8:]) < 0.92 * sum(losses[:8])


def test_the_same_seed_gives_the_same_weights():
    assert same(run(trainer()), run(trainer()))


@pytest.mark.parametrize("optimizer", ["sophia", "adamw"])
@pytest.mark.parametrize("stop", [1, 6, 9])
def test_a_resumed_run_ends_at_the_same_weights_to_the_bit(tmp_path, optimizer, stop):
    recipe = replace(RECIPE, optimizer=optimizer)
    first = run(trainer(recipe), until=stop)
    first.save(tmp_path, "run")
    found = checkpoint.latest(tmp_path, "run", print)
    assert found is not None
    second = trainer(recipe)
    second.restore(*found)
    assert second.progress.step == stop
    whole = run(trainer(recipe))
    assert same(run(second), whole)
    assert second.progress.losses == whole.progress.losses


def test_what_was_ended_early_takes_no_more_steps_when_it_is_resumed(tmp_path):
    first = run(trainer(), until=4)
    first.end()
    first.save(tmp_path, "run")
    found = checkpoint.latest(tmp_path, "run", print)
    assert found is not None
    second = trainer()
    second.restore(*found)
    assert run(second).progress.step == 4
    assert same(first, second)


def test_the_spectral_penalty_leaves_less_high_frequency():
    shares = {}
    for mode, share in (("none", 0.0), ("spectral", 1.0)):
        one = run(trainer(replace(RECIPE, regularizer=mode, penalty_share=share), steps=60))
        shares[mode] = fourier.penalty(one._updates, "spectral").item()
    assert shares["spectral"] < 0.95 * shares["none"]


@pytest.mark.parametrize("mode", ["spectral", "permuted", "l2", "paper", "none"])
def test_every_mode_trains(mode):
    one = run(trainer(replace(RECIPE, regularizer=mode), steps=6))
    assert one.progress.step == 6
    assert all(torch.isfinite(master).all() for master in one.masters.masters)


def test_in_bfloat16_the_working_copies_are_the_masters_rounded():
    one = run(trainer(dtype=torch.bfloat16), until=5)
    for working, master in zip(one.masters.working, one.masters.masters, strict=True):
        assert master.dtype == torch.float32
        assert torch.equal(working, master.to(torch.bfloat16))


def test_a_batch_has_the_loss_of_its_samples_one_by_one():
    one = trainer()
    batch = tiny.tiny_batches(1)[0]
    together, labels = one._gradient(batch)
    one.masters.clear_gradients()
    alone = [one._gradient([sample]) for sample in batch]
    expected = sum(loss * count for loss, count in alone) / sum(count for _, count in alone)
    assert together == pytest.approx(expected, rel=1e-5)
    assert labels == sum(count for _, count in alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_a_batch_is_cut_into_rows_does_not_matter(dtype):
    found, close = [], 1e-6 if dtype == torch.float32 else 1e-3
    for row_tokens in (1, 30, 10_000):
        one = trainer(replace(RECIPE, row_tokens=row_tokens), dtype=dtype)
        loss, labels = one._gradient(tiny.tiny_batches(1)[0])
        found.append((loss, labels, [master.grad for master in one.masters.masters]))
    for loss, labels, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-4 if dtype == torch.float32 else 5e-3)
        assert labels == found[0][1]
        for left, right in zip(gradients, found[0][2], strict=True):
            torch.testing.assert_close(left, right, rtol=0.05, atol=close)


def test_b_moves_only_from_the_first_step_and_a_follows():
    one = run(trainer(), until=1)
    state = one.masters.state()
    assert any(tensor.abs().max() > 0 for name, tensor in state.items() if "lora_B" in name)


@pytest.mark.parametrize(("rho", "low", "high"), [(1e12, 0.9, 1.0), (1e-12, 0.0, 0.1)])
def test_reports_how_much_sophia_clips(rho, low, high):
    shares = []
    trainer(replace(RECIPE, rho=rho)).run(
        report=lambda step: shares.append(step.unclipped_share), should_stop=lambda _: False
    )
    reported = [share for share in shares if share is not None]
    assert len(reported) == len(range(1, STEPS, RECIPE.hessian_every))
    # The first estimate has no momentum behind it.
    assert low <= reported[-1] <= high


def test_shrinking_takes_the_update_towards_the_base():
    one = run(trainer())
    before = {name: tensor.clone() for name, tensor in one.masters.state().items()}
    one.masters.shrink(0.25)
    for name, tensor in one.masters.state().items():
        torch.testing.assert_close(tensor, before[name] * (0.25 if "lora_B" in name else 1.0))


def test_recomputed_activations_give_the_same_gradients():
    found = []
    for checkpointing in (False, True):
        one = trainer(replace(RECIPE, checkpointing=checkpointing))
        one._gradient(tiny.tiny_batches(1)[0])
        found.append([master.grad for master in one.masters.masters])
    for left, right in zip(*found, strict=True):
        assert torch.equal(left, right)


def test_the_hessian_waits_until_b_has_moved():
    one = trainer(replace(RECIPE, hessian_every=1))
    run(one, until=1)
    assert all("estimates" not in s or s["estimates"] == 0 for s in one._optimizer.state.values())
    run(one, until=2)
    assert all(state["hessian"].max() > 0 for state in one._optimizer.state.values())


def broken_at(one: Trainer, steps: list[int], value: float) -> list[str]:
    """Run with a loss that is ``value`` the first time that each of ``steps`` comes; the notes."""
    gradient, left = one._gradient, list(steps)

    def breaking(batch):
        loss, labels = gradient(batch)
        if one.progress.step in left:
            left.remove(one.progress.step)
            for master in one.masters.masters:
                master.grad.fill_(value)
            return value, labels
        return loss, labels

    one._gradient = breaking
    notes: list[str] = []
    one.run(report=lambda step: notes.extend(step.notes), should_stop=lambda _: False)
    return notes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["sophia", "adamw"])
def test_a_loss_that_is_no_number_goes_back_and_on(optimizer, value):
    one = trainer(replace(RECIPE, optimizer=optimizer), steps=40)
    notes = broken_at(one, [30], value)
    assert len(notes) == 1
    assert f"step 31: the loss was {value}; back to step 20" in notes[0]
    assert one.progress.step == 40
    assert (one.progress.recoveries, one.progress.rate_scale) == (1, 0.5)
    assert len(one.progress.losses) == 40
    assert all(torch.isfinite(master).all() for master in one.masters.masters)


def test_the_state_that_is_gone_back_to_stays_what_it_was():
    """Two blow-ups in a row: the second way back is not to what the first one made of it."""
    one = trainer(steps=40)
    run(one, until=21)
    good = (one.progress, {name: tensor.clone() for name, tensor in one.state().items()})
    kept = {name: tensor.clone() for name, tensor in good[1].items()}
    run(one, until=30)
    one._good = good
    one._notes.clear()
    one._recover("test")
    one._train_step(21, 40)
    for name, tensor in good[1].items():
        assert torch.equal(tensor, kept[name])


def test_what_diverges_again_and_again_ends_with_a_message():
    one = trainer(steps=40)
    with pytest.raises(DivergedError, match=r"blew up 5 times.*learning_rate"):
        broken_at(one, [22] * 9, float("nan"))


def test_a_loss_that_climbs_is_a_blow_up():
    watch = LossWatch()
    verdicts = [watch.verdict(loss, 1.0) for loss in [2.0] * 20 + [9.0] * 8]
    assert verdicts[:20] == [None] * 20
    assert any(verdict and "the loss rose from 2.00" in verdict for verdict in verdicts)


def test_short_memory_makes_shorter_rows_then_recomputes(monkeypatch):
    """As torch tells it, and the result is that of the plan."""
    whole = run(trainer(replace(RECIPE, row_tokens=640)))
    one = trainer(replace(RECIPE, row_tokens=640))
    hidden, failures = one._hidden, [2, 3, 5]
    calls = 0

    def failing(row):
        nonlocal calls
        calls += 1
        if calls in failures:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return hidden(row)

    monkeypatch.setattr(one, "_hidden", failing)
    notes: list[str] = []
    one.run(report=lambda step: notes.extend(step.notes), should_stop=lambda _: False)
    assert [note.split(": ")[1] for note in notes] == [
        "rows of 320 tokens from now on",
        "rows of 160 tokens from now on",
        "activations are computed again from now on",
    ]
    for name, tensor in one.masters.state().items():
        torch.testing.assert_close(tensor, whole.masters.state()[name], rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_at_all_is_told(monkeypatch):
    one = trainer()

    def failing(row):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(one, "_hidden", failing)
    with pytest.raises(OutOfMemory):
        run(one)


def test_other_errors_are_not_taken_for_short_memory(monkeypatch):
    one = trainer()

    def failing(row):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(one, "_hidden", failing)
    with pytest.raises(RuntimeError, match="shapes"):
        run(one)


def memorizing(steps: int = 60) -> Trainer:
    """One batch again and again, judged on a language in which something else follows."""
    batch = tiny.tiny_batches(1)[0]
    backwards = [
        Sample(tokens=s.tokens[::-1], labels=s.tokens[::-1], weights=s.weights) for s in batch
    ]
    recipe = replace(RECIPE, learning_rate=2e-2)
    return Trainer(tiny.tiny_model(), recipe, [batch] * steps, validation=backwards)


def test_training_ends_when_it_does_no_good_and_takes_the_best_weights():
    one = run(memorizing())
    history = dict(one.progress.validation)
    best = min(history, key=lambda step: history[step])
    assert one.progress.step < 60
    assert one.progress.step == max(history)
    assert len([step for step in history if step > best]) == early_stopping.PATIENCE
    one.take_best()
    again = run(memorizing(), until=best)
    assert same(one, again)


def test_the_best_weights_survive_a_checkpoint(tmp_path):
    whole = run(memorizing())
    first = run(memorizing(), until=12)
    first.save(tmp_path, "run")
    second = memorizing()
    found = checkpoint.latest(tmp_path, "run", print)
    assert found is not None
    second.restore(*found)
    run(second)
    assert second.progress.validation == whole.progress.validation
    for one in (whole, second):
        one.take_best()
    assert same(whole, second)


def test_without_validation_samples_there_is_no_early_end():
    one = run(trainer())
    assert (one.progress.step, one.progress.validation) == (STEPS, ())
    # Copies: what ``state`` gives on a CPU are the masters themselves.
    before = {name: tensor.clone() for name, tensor in one.masters.state().items()}
    one.take_best()
    assert all(torch.equal(one.masters.state()[name], before[name]) for name in before)
