"""An engine host that writes down how what it answers with came about, and what makes sure of it.

On quantized weights KV depends on the batches in which it was computed. So of each context the
batches are kept that what it holds came from, through cuts, aborts and states that were put aside;
a fresh context that computes the same batches must give the same answer.
"""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from flex_assist.engine import context, generation, host, pool
from flex_assist.engine.context import Context
from flex_assist.engine.interrupt import Interrupt
from flex_assist.engine.llama import Model, native
from flex_assist.engine.protocol import Finished, GenerateRequest, Weights

# A batch: the place of its first token, and its tokens.
Batch = tuple[int, list[int]]
CONTROL_EVERY: Final = 10
# Of states that were put aside, how they came about: any of them may come back.
_aside: dict[int, tuple[list[Batch], int]] = {}


class Recorded(Context):
    """A context that knows its batches. Batches of which nothing is left are forgotten."""

    batches: list[Batch]

    def extend(
        self, tokens: Sequence[int], interrupt: Interrupt | None = None, **given: Any
    ) -> None:
        """As ``Context.extend``."""
        at = self.length
        super().extend(tokens, interrupt, **given)
        kept = [batch for batch in getattr(self, "batches", []) if batch[0] < at]
        self.batches = [*kept, (at, list(tokens))]

    def saved(self, *given: Any) -> Any:
        """As ``Context.saved``."""
        kept = getattr(super(), "saved")(*given)  # noqa: B009
        if kept is not None:
            _aside[_digest(kept)] = (list(getattr(self, "batches", [])), len(kept.tokens))
        return kept

    def restore(self, kept: Any) -> None:
        """As ``Context.restore``."""
        getattr(super(), "restore")(kept)  # noqa: B009
        if not self.length:
            # It was not taken back.
            self.batches = []
            return
        # Nothing that is unknown may pass for wrong.
        batches, length = _aside[_digest(kept)]
        assert length == self.length
        self.batches = list(batches)

    def held(self) -> list[Batch]:
        """The batches that the KV came from."""
        return [batch for batch in getattr(self, "batches", []) if batch[0] < self.length]

    def sequences(self) -> int:
        """Sequences that the KV holds, and must not: more than its own, or tokens beyond it."""
        last = native.llama_memory_seq_pos_max(self._memory, 0)
        return int(last != self.length - 1)


@contextlib.contextmanager
def recording(samples: Path, every: int) -> Iterator[None]:
    """Add every so-many-th answer that is computed in this process to ``samples``.

    At the end, how many contexts are open still.
    """
    answered, generate, opened = 0, generation.generate, pool.Context
    contexts: list[Recorded] = []

    def recorded(
        used: Context, vocabulary: Any, request: GenerateRequest, interrupt: Interrupt
    ) -> Iterator[Any]:
        nonlocal answered
        assert isinstance(used, Recorded)
        answered += 1
        wanted = answered % every == 0
        before = (used.held(), used.length) if wanted else None
        for item in generate(used, vocabulary, request, interrupt):
            if before is not None and isinstance(item, Finished):
                _write(samples, request, before, item)
            yield item

    class Listed(Recorded):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            contexts.append(self)

        def close(self) -> None:
            _note(samples, {"leaked": self.sequences() if self._handle is not None else 0})
            contexts.remove(self)
            super().close()

    generation.generate = recorded  # type: ignore[assignment]
    setattr(pool, "Context", Listed)  # noqa: B010
    try:
        yield
    finally:
        generation.generate = generate
        setattr(pool, "Context", opened)  # noqa: B010
    _note(samples, {"contexts_left": len(contexts)})


def serve(arguments: Sequence[str], samples: Path, every: int) -> int:
    """``flex_assist.engine.host``, recorded."""
    with recording(samples, every):
        return host.main(arguments)


def verify(samples: Path, most: int, context_tokens: int, threads: int) -> dict[str, Any]:
    """Replay at most so many of the samples, spread over all; how many agree."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    asked = [line for line in lines if "request" in line]
    chosen = [asked[at * len(asked) // most] for at in range(most)] if len(asked) > most else asked
    models: dict[Path, Model] = {}
    chosen.sort(key=lambda one: str(one["request"]["weights"]))
    adapters = sorted({tuple(one["request"]["weights"]["adapters"]) for one in chosen})
    wrong, differs = 0, 0
    for at, sample in enumerate(chosen):
        wrong += not _agrees(sample, models, context_tokens, threads)
        if at % CONTROL_EVERY == 0:
            # The same under other weights: such a mistake would be seen.
            own = adapters.index(tuple(sample["request"]["weights"]["adapters"]))
            other = adapters[(own + 1) % len(adapters)]
            sample["request"]["weights"]["adapters"] = list(other)
            differs += not _agrees(sample, models, context_tokens, threads)
    for model in models.values():
        model.close()
    return {
        "samples": len(chosen),
        # Half of the prompt, at least: what two prompts have by chance does not count.
        "with_reuse": sum(2 * one["reused"] >= len(one["request"]["tokens"]) for one in chosen),
        "wrong": wrong,
        "controls": len(chosen[::CONTROL_EVERY]),
        "controls_that_differ": differs,
        "leaked_sequences": sum(line.get("leaked", 0) for line in lines),
        # None: whoever served did not come to its end.
        "contexts_left": next(
            (one["contexts_left"] for one in lines if "contexts_left" in one), None
        ),
        "contexts_closed": sum("leaked" in line for line in lines),
    }


def _agrees(
    sample: dict[str, Any], models: dict[Path, Model], context_tokens: int, threads: int
) -> bool:
    request = _request(dict(sample["request"]), sample["form"])
    path = request.weights.model
    if path not in models:
        models[path] = Model.load(path)
    model = models[path]
    adapters = [model.load_adapter(adapter) for adapter in request.weights.adapters]
    fresh = context.Context(model, adapters, context_tokens, threads)
    for at, tokens in sample["batches"]:
        fresh._truncate(at)
        fresh.extend(tokens)
    fresh._truncate(sample["length"])
    spellings = pool._LoadedModel(
        model=model, context_tokens=context_tokens, merged=False, gpu_layers=0
    )
    *_, last = generation.generate(fresh, spellings.spelling, request, Interrupt())
    fresh.close()
    assert isinstance(last, Finished)
    told = _outcome(last)
    return told == {key: sample[key] for key in told}


def _outcome(item: Finished) -> dict[str, Any]:
    """What must be alike."""
    return {
        "text": item.text, "reason": item.reason, "count": item.completion_tokens,
        "reused": item.reused_tokens,
    }  # fmt: skip


def _request(data: dict[str, Any], form: str) -> GenerateRequest:
    weights = data.pop("weights")
    model, merged = Path(weights["model"]), weights["merged"]
    adapters = tuple(Path(adapter) for adapter in weights["adapters"])
    if form == "merged":
        model, adapters = Path(merged), ()
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    forced = data["forced"].encode("latin-1")
    values = {**data, **lists, "forced": forced}
    return GenerateRequest(weights=Weights(model=model, adapters=adapters), **values)


def _write(
    samples: Path, request: GenerateRequest, before: tuple[list[Batch], int], item: Finished
) -> None:
    data = dataclasses.asdict(request)
    data["weights"] = {
        "model": str(request.weights.model),
        "adapters": [str(adapter) for adapter in request.weights.adapters],
        "merged": str(request.weights.merged) if request.weights.merged else None,
    }
    data["forced"] = request.forced.decode("latin-1")
    batches, length = before
    record = {"request": data, "batches": batches, "length": length, **_outcome(item)}
    _note(samples, {**record, "form": item.form})


def _note(samples: Path, record: dict[str, Any]) -> None:
    with samples.open("a") as file:
        file.write(json.dumps(record, default=str) + "\n")


def _digest(kept: Any) -> int:
    return zlib.crc32(memoryview(kept.state), hash(kept.tokens) & 0xFFFFFFFF)
