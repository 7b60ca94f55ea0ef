"""The training loop on a model that trains in milliseconds."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flex_trainer import checkpoint, fourier
from flex_trainer.loop import Trainer
from flex_trainer.recipe import Recipe

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
    first.save(tmp_path)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    second = trainer(recipe)
    second.restore(*found)
    assert second.progress.step == stop
    whole = run(trainer(recipe))
    assert same(run(second), whole)
    assert second.progress.losses == whole.progress.losses


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
    assert len(reported) == -(-STEPS // RECIPE.hessian_every)
    # The first estimate has no momentum behind it.
    assert low <= reported[-1] <= high


def test_shrinking_takes_the_update_towards_the_base():
    one = run(trainer())
    before = {name: tensor.clone() for name, tensor in one.masters.state().items()}
    one.masters.shrink(0.25)
    for name, tensor in one.masters.state().items():
        torch.testing.assert_close(tensor, before[name] * (0.25 if "lora_B" in name else 1.0))
