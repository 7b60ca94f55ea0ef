"""The training loop: one story, from top to bottom."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from flex_trainer import (
    checkpoint,
    early_stopping,
    fourier,
    lora,
    losses,
    memory,
    packing,
    recovery,
    schedule,
)
from flex_trainer.checkpoint import Progress
from flex_trainer.corpus import UNLABELLED, Sample
from flex_trainer.early_stopping import Stopper
from flex_trainer.kernels.recompute import recompute_layers
from flex_trainer.memory import OutOfMemory
from flex_trainer.packing import Row, hidden_states, pack, split
from flex_trainer.parallel import Workers
from flex_trainer.recipe import Recipe
from flex_trainer.recovery import DivergedError, LossWatch
from flex_trainer.sophia import SophiaG

# Steps between two copies of the state in memory, to which a run that blew up goes back.
KEEP_EVERY = 20
# Shorter rows save no more memory: most documents are longer.
LEAST_ROW_TOKENS = 160
IDLE = Sample(tokens=(0,), labels=(UNLABELLED,), weights=(0.0,))
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step, for whoever watches.

    Attributes:
        tokens: Of the whole batch.
        notes: What went wrong, and what was done about it.
    """

    step: int
    steps: int
    loss: float
    tokens: int
    seconds: float
    unclipped_share: float | None = None
    penalty: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the batch over the step's time."""
        return self.tokens / self.seconds


class Trainer:
    """Trains one adapter on a list of batches.

    Args:
        model: The base with its LoRA attached.
        batches: What each step sees; their number is the number of steps.
        factors: For the regularizer ``activation``: ``moments.input_factors``.
        workers: This process among those that train together.
        validation: Samples of code that is not trained on; with them training ends when it does
            no good any more, at the weights that were best.
        give_way: Called before each row is computed: others on this machine may go first.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        batches: Sequence[Sequence[Sample]],
        factors: Mapping[str, Tensor] | None = None,
        workers: Workers | None = None,
        validation: Sequence[Sample] = (),
        give_way: Callable[[], object] = lambda: None,
    ) -> None:
        self._give_way = give_way
        self._recipe, self._batches, self._validation = recipe, batches, validation
        self._stopper = Stopper()
        self._workers = workers or Workers()
        self._device = torch.device(recipe.device)
        self._core = model.get_base_model()
        self._head: Tensor = self._core.get_output_embeddings().weight
        self._row_tokens = recipe.row_tokens
        self._use_checkpointing(recipe.checkpointing)
        self.masters = lora.Masters.of(model)
        orders = recipe.seed if recipe.regularizer == "permuted" else None
        self._updates = lora.updates(model, self.masters, orders, factors)
        self._optimizer = make_optimizer(self.masters.masters, recipe)
        self._strength = fourier.Strength(share=recipe.penalty_share)
        self._hessian_labels = 1
        self._watch, self._notes = LossWatch(), list[str]()
        self.progress = Progress(step=0, tokens=0, seconds=0.0, strength=0.0)
        self._good: tuple[Progress, dict[str, Tensor]] | None = None

    def run(
        self, *, report: Callable[[StepReport], None], should_stop: Callable[[Progress], bool]
    ) -> Progress:
        """Train to the end, or until ``should_stop`` says so after a step.

        Raises:
            DivergedError: The run blew up again and again.
            OutOfMemory: A step does not fit, however small its rows are.
        """
        steps = len(self._batches)
        while not self._is_over and not self._workers.any(should_stop(self.progress)):
            if self._good is None or self.progress.step >= self._good[0].step + KEEP_EVERY:
                self._good = (self.progress, {k: v.clone() for k, v in self.state().items()})
            report(self._train_step(self.progress.step, steps))
            if self._validation and early_stopping.due(self.progress.step, steps):
                self._validate()
        self._good = None
        return self.progress

    def end(self) -> None:
        """Take no more steps, also after a checkpoint has been taken up."""
        self.progress = replace(self.progress, ended=True)

    def take_best(self) -> None:
        """Go back to the weights that were best on the validation samples, if there are any."""
        if self._stopper.weights is not None:
            self.masters.load(self._stopper.weights)

    def forget(self) -> None:
        """Drop what only training needs; the weights stay."""
        self._optimizer.state.clear()

    @property
    def _is_over(self) -> bool:
        done = self.progress.ended or self.progress.step >= len(self._batches)
        return done or self._stopper.exhausted

    def _train_step(self, step: int, steps: int) -> StepReport:
        started = time.perf_counter()
        batch = self._batches[step]
        rate = self._recipe.learning_rate * schedule.rate(step, steps) * self.progress.rate_scale
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            if isinstance(self._optimizer, SophiaG):
                group["rho"] = self._recipe.rho * self.progress.rho_scale
        self._notes.clear()
        unclipped = self._within_memory(lambda: self._estimate_hessian(step, batch))
        loss, labels, penalty = self._within_memory(
            lambda: (*self._gradient(batch), self._penalize(step, steps))
        )
        masters = self.masters.masters
        norm = float(torch.nn.utils.clip_grad_norm_(masters, self._recipe.gradient_clip))
        wrong = self._watch.verdict(loss, norm)
        if wrong is None:
            self._update()
            self.progress = replace(
                self.progress,
                step=step + 1,
                tokens=self.progress.tokens + labels,
                strength=self._strength.value,
                losses=(*self.progress.losses, round(loss, 5)),
            )
        else:
            self._recover(wrong)
        seconds = time.perf_counter() - started
        self.progress = replace(self.progress, seconds=self.progress.seconds + seconds)
        return StepReport(
            step=self.progress.step,
            steps=steps,
            loss=loss,
            tokens=sum(len(sample.tokens) for sample in batch),
            seconds=seconds,
            unclipped_share=unclipped,
            penalty=penalty,
            notes=tuple(self._notes),
        )

    def state(self) -> dict[str, Tensor]:
        """Weights and optimizer, for a checkpoint."""
        state = {f"weight.{name}": tensor for name, tensor in self.masters.state().items()}
        for name, master in zip(self.masters.names, self.masters.masters, strict=True):
            for key, value in self._optimizer.state.get(master, {}).items():
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                state[f"optimizer.{key}.{name}"] = tensor.detach().cpu().contiguous()
        best = self._stopper.weights or {}
        state |= {f"best.{name}": tensor for name, tensor in best.items()}
        state["hessian_labels"] = torch.tensor(self._hessian_labels)
        return state

    def restore(self, progress: Progress, state: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint; ``state`` stays as it is."""
        self.masters.load({name: state[f"weight.{name}"] for name in self.masters.names})
        for name, master in zip(self.masters.names, self.masters.masters, strict=True):
            suffix = f".{name}"
            kept = {
                key.removeprefix("optimizer.").removesuffix(suffix): value
                for key, value in state.items()
                if key.startswith("optimizer.") and key.endswith(suffix)
            }
            if kept:
                self._optimizer.state[master] = {
                    key: _placed(key, value, master.device) for key, value in kept.items()
                }
        self._hessian_labels = int(state["hessian_labels"])
        self._strength.value = progress.strength
        self._watch = LossWatch.after(progress.losses)
        best = {
            key.removeprefix("best."): value.clone()
            for key, value in state.items()
            if key.startswith("best.")
        }
        self._stopper = Stopper(history=list(progress.validation), weights=best or None)
        self.progress = progress

    def save(self, folder: Path, run: str) -> None:
        """Write a checkpoint of the run that ``run`` names."""
        checkpoint.save(folder, self.progress, self.state(), run)

    def _gradient(self, batch: Sequence[Sample]) -> tuple[float, int]:
        """Gradients of the mean loss to the masters; gives the loss in nats and its labels."""
        weight = max(sum(packing.weight_of(sample) for sample in batch), 1.0)
        total = 0.0
        for row in self._rows(batch):
            loss = losses.loss_sum(self._hidden(row), self._head, row.labels, row.weights)
            torch.autograd.backward(loss / weight)
            self.masters.take_gradients()
            total += float(loss.detach())
        total = self._workers.sum_gradients(self.masters.masters, total)
        return total / weight, sum(packing.labels_of(sample) for sample in batch)

    def _estimate_hessian(self, step: int, batch: Sequence[Sample]) -> float | None:
        """Gauss-Newton-Bartlett: the squared gradient on labels that the model itself draws.

        Held in the first step: B is zero there, and with it the curvature of A.
        """
        if not isinstance(self._optimizer, SophiaG) or step == 0:
            return None
        if (step - 1) % self._recipe.hessian_every:
            return None
        # Of each sample, so that it does not matter who computes it, and in which row.
        rng = random.Random(f"{self._recipe.seed}:{step}")
        draws = {id(sample): [rng.random() for _ in sample.tokens] for sample in batch}
        self._hessian_labels = max(1, sum(packing.labels_of(sample) for sample in batch))
        for row in self._rows(batch, draws):
            drawn = losses.loss_sum(self._hidden(row), self._head, row.labels, draws=row.draws)
            torch.autograd.backward(drawn / self._hessian_labels)
            self.masters.take_gradients()
        self._workers.sum_gradients(self.masters.masters, 0.0)
        self._optimizer.update_hessian()
        self.masters.clear_gradients()
        return self._optimizer.unclipped_share(self._hessian_labels)

    @torch.no_grad()
    def _validate(self) -> None:
        started, total = time.perf_counter(), 0.0
        for row in self._rows(self._validation):
            hidden = self._hidden(row)
            total += float(losses.loss_sum(hidden, self._head, row.labels, row.weights))
        weight = sum(packing.weight_of(sample) for sample in self._validation)
        loss = round(self._workers.total(total) / max(weight, 1.0), 5)
        self._stopper.see(self.progress.step, loss, self.masters.state())
        self.progress = replace(
            self.progress,
            seconds=self.progress.seconds + time.perf_counter() - started,
            validation=tuple(self._stopper.history),
        )

    def _rows(
        self, batch: Sequence[Sample], draws: Mapping[int, list[float]] | None = None
    ) -> list[Row]:
        """This worker's part of a batch."""
        shares = [split(share, self._row_tokens) for share in self._workers.share(batch)]
        rows = [pack(group, self._device, draws) for group in shares[self._workers.rank]]
        if self._workers.sharded:
            # All must come by for their part of the base.
            rows += [pack([IDLE], self._device)] * (max(map(len, shares)) - len(rows))
        return rows

    def _hidden(self, row: Row) -> Tensor:
        """Last hidden states, (1, T, d)."""
        self._give_way()
        return hidden_states(self._core, row)

    def _penalize(self, step: int, steps: int) -> float | None:
        """Add the regularizer's gradient to that of the loss."""
        mode = self._recipe.regularizer
        if mode == "none" or step < self._recipe.penalty_after * steps:
            return None
        masters = self.masters.masters
        value = fourier.penalty(self._updates, mode)
        gradients = torch.autograd.grad(value, masters)
        norms = torch._foreach_norm(gradients)
        from_loss = torch._foreach_norm([m.grad for m in masters if m.grad is not None])
        strength = self._strength.update(
            float(torch.stack(list(from_loss)).norm()), float(torch.stack(list(norms)).norm())
        )
        for master, gradient in zip(masters, gradients, strict=True):
            if master.grad is not None:
                master.grad.add_(gradient, alpha=strength)
        return float(value.detach())

    def _update(self) -> None:
        if isinstance(self._optimizer, SophiaG):
            self._optimizer.step(labels=self._hessian_labels)
        else:
            self._optimizer.step()
        self.masters.publish()
        self.masters.clear_gradients()

    def _recover(self, wrong: str) -> None:
        """Back to the last state that was good, with smaller steps from there on."""
        self.masters.clear_gradients()
        at, count = self.progress.step + 1, self.progress.recoveries + 1
        if count > recovery.MOST_RECOVERIES or self._good is None:
            raise DivergedError(
                f"training blew up {count} times (step {at}: {wrong}); try a lower "
                f"training.learning_rate than {self._recipe.learning_rate:g}, or another base"
            )
        seconds = self.progress.seconds
        self.restore(*self._good)
        self.progress = replace(self.progress, seconds=seconds, recoveries=count)
        self._notes.append(
            f"step {at}: {wrong}; back to step {self.progress.step} with a learning rate of "
            f"{self.progress.rate_scale:g} times the planned one"
        )

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        """Do ``work``; where memory is short, take smaller rows and do it again."""
        while True:
            try:
                with memory.out_of_memory_is_told():
                    return work()
            except OutOfMemory:
                if self._workers.sharded:
                    raise
            # Outside of the handler: an exception keeps what its frames held.
            self.masters.clear_gradients()
            memory.release()
            self._step_down()

    def _step_down(self) -> None:
        if self._row_tokens > LEAST_ROW_TOKENS:
            self._row_tokens = max(LEAST_ROW_TOKENS, self._row_tokens // 2)
            self._notes.append(f"memory is short: rows of {self._row_tokens} tokens from now on")
        elif not self._checkpointing:
            self._use_checkpointing(True)
            self._notes.append("memory is short: activations are computed again from now on")
        else:
            raise OutOfMemory

    def _use_checkpointing(self, wanted: bool) -> None:
        self._checkpointing = wanted
        recompute_layers(self._core.model.layers, wanted)


def _placed(key: str, value: Tensor, device: torch.device) -> Tensor | int:
    """A part of an optimizer's state where the optimizer wants it, as a copy."""
    if key == "estimates":
        return int(value)
    # AdamW counts its steps on the CPU.
    return value.clone() if key == "step" else value.to(device, copy=True)


def make_optimizer(parameters: Sequence[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, over float32 masters."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=(recipe.beta_momentum, 0.95),
        )
    return SophiaG(
        parameters,
        lr=recipe.learning_rate,
        betas=(recipe.beta_momentum, recipe.beta_hessian),
        rho=recipe.rho,
        weight_decay=recipe.weight_decay,
    )
