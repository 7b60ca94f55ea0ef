"""The training loop: one story, from top to bottom."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flex_trainer import checkpoint, fourier, lora, losses, schedule
from flex_trainer.checkpoint import Progress
from flex_trainer.corpus import Sample
from flex_trainer.packing import Row, pack, split
from flex_trainer.recipe import Recipe
from flex_trainer.sophia import SophiaG


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step, for whoever watches."""

    step: int
    steps: int
    loss: float
    tokens: int
    tokens_per_s: float
    unclipped_share: float | None
    penalty: float | None


class Trainer:
    """Trains one adapter on a list of batches.

    Args:
        model: The base with its LoRA attached.
        batches: What each step sees; their number is the number of steps.
        factors: For the regularizer ``activation``: ``moments.input_factors``.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        batches: Sequence[Sequence[Sample]],
        factors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._model, self._recipe, self._batches = model, recipe, batches
        self._device = torch.device(recipe.device)
        self._core = model.get_base_model()
        self._head: Tensor = self._core.get_output_embeddings().weight
        self.masters = lora.Masters.of(model)
        orders = recipe.seed if recipe.regularizer == "permuted" else None
        self._updates = lora.updates(model, self.masters, orders, factors)
        self._optimizer = make_optimizer(self.masters.masters, recipe)
        self._strength = fourier.Strength(share=recipe.penalty_share)
        self._hessian_labels = 1
        self.progress = Progress(step=0, tokens=0, seconds=0.0, strength=0.0)

    def run(
        self, *, report: Callable[[StepReport], None], should_stop: Callable[[Progress], bool]
    ) -> Progress:
        """Train to the end, or until ``should_stop`` says so after a step."""
        steps = len(self._batches)
        while self.progress.step < steps and not should_stop(self.progress):
            started = time.perf_counter()
            step, batch = self.progress.step, self._batches[self.progress.step]
            factor = schedule.rate(step, steps)
            for group in self._optimizer.param_groups:
                group["lr"] = self._recipe.learning_rate * factor
            unclipped = self._estimate_hessian(step, batch)
            loss, labels = self._gradient(batch)
            penalty = self._penalize(step, steps)
            torch.nn.utils.clip_grad_norm_(self.masters.masters, self._recipe.gradient_clip)
            self._step()
            self.masters.publish()
            self.masters.clear_gradients()
            seconds = time.perf_counter() - started
            before = self.progress
            self.progress = Progress(
                step=step + 1,
                tokens=before.tokens + labels,
                seconds=before.seconds + seconds,
                strength=self._strength.value,
                losses=(*before.losses, round(loss, 5)),
            )
            tokens = sum(len(sample.tokens) for sample in batch)
            report(
                StepReport(
                    step=step + 1,
                    steps=steps,
                    loss=loss,
                    tokens=tokens,
                    tokens_per_s=tokens / seconds,
                    unclipped_share=unclipped,
                    penalty=penalty,
                )
            )
        return self.progress

    def state(self) -> dict[str, Tensor]:
        """Weights and optimizer, for a checkpoint."""
        state = {f"weight.{name}": tensor for name, tensor in self.masters.state().items()}
        for name, master in zip(self.masters.names, self.masters.masters, strict=True):
            for key, value in self._optimizer.state.get(master, {}).items():
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                state[f"optimizer.{key}.{name}"] = tensor.detach().cpu().contiguous()
        state["hessian_labels"] = torch.tensor(self._hessian_labels)
        return state

    def restore(self, progress: Progress, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""
        self.masters.load({name: state[f"weight.{name}"] for name in self.masters.names})
        for name, master in zip(self.masters.names, self.masters.masters, strict=True):
            suffix = f".{name}"
            kept = {
                key.removeprefix("optimizer.").removesuffix(suffix): value
                for key, value in state.items()
                if key.startswith("optimizer.") and key.endswith(suffix)
            }
            if "estimates" in kept:
                self._optimizer.state[master] = {**kept, "estimates": int(kept["estimates"])}
            elif kept:
                self._optimizer.state[master] = dict(kept)
        self._hessian_labels = int(state["hessian_labels"])
        self._strength.value = progress.strength
        self.progress = progress

    def save(self, folder: Any) -> None:
        """Write a checkpoint."""
        checkpoint.save(folder, self.progress, self.state())

    def _gradient(self, batch: Sequence[Sample]) -> tuple[float, int]:
        """Gradients of the mean loss to the masters; gives the loss in nats and its labels."""
        rows = self._rows(batch)
        weight = max(sum(row.weight for row in rows), 1.0)
        total = 0.0
        for row in rows:
            loss = losses.loss_sum(self._hidden(row), self._head, row.labels, row.weights)
            torch.autograd.backward(loss / weight)
            self.masters.take_gradients()
            total += float(loss.detach())
        return total / weight, sum(row.count for row in rows)

    def _estimate_hessian(self, step: int, batch: Sequence[Sample]) -> float | None:
        """Gauss-Newton-Bartlett: the squared gradient on labels that the model itself draws."""
        if not isinstance(self._optimizer, SophiaG) or step % self._recipe.hessian_every:
            return None
        generator = torch.Generator(self._device).manual_seed(self._recipe.seed * 1_000_003 + step)
        rows = self._rows(batch)
        self._hessian_labels = max(1, sum(row.count for row in rows))
        for row in rows:
            drawn = losses.loss_sum(self._hidden(row), self._head, row.labels, generator=generator)
            torch.autograd.backward(drawn / self._hessian_labels)
            self.masters.take_gradients()
        self._optimizer.update_hessian()
        self.masters.clear_gradients()
        return self._optimizer.unclipped_share(self._hessian_labels)

    def _rows(self, batch: Sequence[Sample]) -> list[Row]:
        groups = split(batch, self._recipe.row_tokens)
        return [pack(group, self._device) for group in groups]

    def _hidden(self, row: Row) -> Tensor:
        """Last hidden states, (1, T, d)."""
        hidden: Tensor = self._core.model(
            input_ids=row.ids, position_ids=row.positions, lengths=row.lengths
        ).last_hidden_state
        return hidden

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

    def _step(self) -> None:
        if isinstance(self._optimizer, SophiaG):
            self._optimizer.step(labels=self._hessian_labels)
        else:
            self._optimizer.step()


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
