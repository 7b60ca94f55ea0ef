"""One arm of the comparison: what is measured, in a process of its own, and what came out.

Its own process, so that its peak memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from flex_assist.errors import FlexAssistError
from flex_assist.processes import WAIT_POLICY
from flex_trainer import startup

# Documents of an update, on both sides.
UPDATE_DOCUMENTS = 8
WORKER = "flex_trainer.bench.worker"
# Nothing from the network, nothing said, and nothing written but into the temporary folder.
ENVIRONMENT = {
    **startup.OFFLINE,
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
# How the peer's threads wait for each other: they sleep, or do as OpenMP does by itself, which is
# faster where nothing else is at work, and many times slower where something is. Ours choose.
PASSIVE, DEFAULT = "passive", "default"


class ArmError(FlexAssistError):
    """An arm's process failed: it may have needed more memory than there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What to measure.

    Attributes:
        side: ``ours`` or ``peer``.
        base: The base model's GGUF file.
        documents: JSON file with a list of token ids for each document.
        count: How many of them are used.
        length: Most tokens of a document, and of a packed row of the peer.
        dtype: Of the base.
        micro_batch: Documents that the peer computes at once.
        checkpointing: Whether the peer computes activations twice instead of keeping them.
        adapter_dtype: Of the peer's adapter; ours has masters in float32 in any case.
        packing: Whether the peer packs documents.
        waiting: ``passive`` or ``default``, see ``PASSIVE``.
    """

    side: str
    base: str
    documents: str
    count: int
    length: int
    dtype: str
    device: str
    micro_batch: int = 1
    checkpointing: bool = False
    adapter_dtype: str = "float32"
    packing: bool = False
    waiting: str = PASSIVE

    def describe(self) -> str:
        """For people."""
        if self.side == "ours":
            return "ours"
        return (
            f"peer, micro-batch {self.micro_batch}, checkpointing "
            f"{'on' if self.checkpointing else 'off'}, {self.adapter_dtype} adapter"
            f"{', packed' if self.packing else ''}, {self.waiting} waiting"
        )

    def choices(self) -> dict[str, Any]:
        """What distinguishes an arm of the peer."""
        return {
            "micro_batch": self.micro_batch,
            "checkpointing": self.checkpointing,
            "adapter_dtype": self.adapter_dtype,
            "packing": self.packing,
            "waiting": self.waiting,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came out, over all updates but the first.

    Attributes:
        tokens_per_s: Tokens of real text, no padding.
        peak_memory_mb: Of the process; on a GPU, what torch held there.
        tokens: That were counted.
        model_flop_utilization: None where the GPU's peak is not known.
    """

    tokens_per_s: float
    peak_memory_mb: float
    tokens: int
    seconds: float
    updates: int
    model_flop_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An arm and what it gave, or why it gave nothing."""

    arm: Arm
    found: Measurement | None = None
    error: str | None = None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self.found) if self.found else {"tokens_per_s": None}
        return {**self.arm.choices(), **found, "error": self.error}


def shape(arm: Arm, lengths: Sequence[int]) -> tuple[int, int]:
    """The peer's micro-batch, and how many of them make an update as large as ours.

    Packed rows hold about ``arm.length`` tokens of several documents.
    """
    rows = UPDATE_DOCUMENTS
    if arm.packing:
        update_tokens = sum(lengths) / (len(lengths) / UPDATE_DOCUMENTS)
        rows = max(1, round(update_tokens / arm.length))
    micro_batch = min(arm.micro_batch, rows)
    return micro_batch, max(1, round(rows / micro_batch))


def measure(arm: Arm) -> Measurement:
    """Run an arm.

    Raises:
        ArmError: Its process failed; the message has its last words.
    """
    with tempfile.TemporaryDirectory(prefix="flex-assist-bench-") as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", WORKER, str(answer)],
            input=json.dumps(asdict(arm)),
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
            env=_environment(arm, folder),
            check=False,
        )
        if done.returncode or not answer.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            why = lines[-1] if lines else f"exit code {done.returncode}"
            raise ArmError(f"{arm.describe()} cannot be measured: {why}")
        return Measurement(**json.loads(answer.read_text()))


def _environment(arm: Arm, folder: str) -> dict[str, str]:
    given = {key: value for key, value in os.environ.items() if key != WAIT_POLICY}
    if arm.waiting == PASSIVE:
        given[WAIT_POLICY] = PASSIVE
    return {**given, **ENVIRONMENT, "HF_HOME": folder, "TMPDIR": folder}


def try_out(arm: Arm) -> Cell:
    """Run an arm that may fail, e.g. for lack of memory."""
    try:
        return Cell(arm=arm, found=measure(arm))
    except ArmError as error:
        return Cell(arm=arm, error=str(error))


def best(cells: Sequence[Cell]) -> Cell:
    """The one with the most tokens a second.

    Raises:
        ArmError: All have failed; says why the first did.
    """
    done = [cell for cell in cells if cell.found is not None]
    if not done:
        raise ArmError(cells[0].error or "nothing was measured")
    return max(done, key=lambda cell: cell.found.tokens_per_s if cell.found else 0.0)


def middle(runs: Sequence[Measurement]) -> Measurement:
    """Medians of speed and memory; of the rest, the first's."""
    shares = [run.model_flop_utilization for run in runs if run.model_flop_utilization is not None]
    return replace(
        runs[0],
        tokens_per_s=round(median(run.tokens_per_s for run in runs), 1),
        peak_memory_mb=round(median(run.peak_memory_mb for run in runs), 1),
        model_flop_utilization=round(median(shares), 4) if shares else None,
    )


def ratios(ours: Measurement, peer: Measurement, packed: Measurement) -> dict[str, float]:
    """Ours over the peer's: more is better for speed, less for memory."""
    return {
        "tokens_per_s": round(ours.tokens_per_s / peer.tokens_per_s, 3),
        "tokens_per_s_packed": round(ours.tokens_per_s / packed.tokens_per_s, 3),
        "peak_memory": round(ours.peak_memory_mb / peer.peak_memory_mb, 3),
    }
