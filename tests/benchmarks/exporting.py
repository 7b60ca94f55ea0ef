"""What export costs, and what is left of an adapter in fewer bits.

On the starter model with an adapter that `flex-assist adapt` trained on this project's core, and on
code that it has not seen: PEFT against the merged Q8_0, 4 bits with the importance matrix and
without, how much of the update is in each form, and how long it takes. On synthetic files of two
sizes: the memory of merging and quantizing, and what follows for a model of 7 billion weights.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bars
import gguf
import numpy as np
import parity
from safetensors.torch import load_file

from flex_assist.adapters.forms import WITH_MATRIX, Parts, write_form
from flex_assist.adapters.manifest import IMATRIX_GGUF, LORA_GGUF, PEFT_WEIGHTS
from flex_assist.engine.llama import Model
from flex_assist.engine.protocol import Weights
from flex_assist.engine.quantize import TYPES, quantize
from flex_assist.evaluate.bootstrap import ratio_difference_ci95
from flex_assist.models import store
from flex_assist.models.merging import write_merged
from flex_assist.models.quantized import F16, write_model
from flex_assist.models.rounding import learn_correction
from flex_assist.models.survival import survival

CORE, TRAINER = bars.ROOT / "flex_assist", bars.ROOT / "trainer" / "flex_trainer"
WINDOW_TOKENS = 256
BUDGET = "5m"
# Of a model of 7 billion weights: rows and columns of its largest tensor.
LARGEST_OF_7B = (152_064, 3_584)
WIDTHS, WORDS, RANK = (1024, 2048), 65_536, 16
POLL_S = 0.005
# In a process of its own, so that its memory is its own.
MERGE = """
import sys
from pathlib import Path
from flex_assist.models.merging import write_merged
from flex_assist.models.quantized import F16
write_merged(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), None, kind=F16)
"""


def adapted(folder: Path, steps: int) -> Path:
    """Train on the core; the folder of the version.

    By steps: how large an update is, and so how much of it survives, depends on them, and on no
    machine's speed.
    """
    root, home = folder / "core", folder / "home"
    shutil.copytree(CORE, root, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
    environment = {**os.environ, "FLEX_ASSIST_HOME": str(home)}
    command = [bars.PROGRAM, "adapt", str(root), "--steps", str(steps), "--budget", BUDGET]
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 3):
        raise SystemExit(f"adapt ended with {done.returncode}")
    return next(home.glob(f"data/adapters/*/python/*/{LORA_GGUF}")).parent


def forms(version: Path, folder: Path, windows: Sequence[list[int]]) -> dict[str, Any]:
    """Each form of the merged model: seconds, bytes, survival and loss on code not seen.

    Beside what is exported: the importance matrix, and none, without a corrected length; and none
    with one, which says what the matrix itself is worth.
    """
    base = store.find("smollm2-135m").path
    lora, matrix = version / LORA_GGUF, version / IMATRIX_GGUF
    parts = Parts(base=base, lora=lora, fim=parity.FIM, matrix=matrix)
    found: dict[str, dict[str, Any]] = {}
    losses: dict[str, list[float]] = {}
    target = folder / "form.gguf"

    def measured(name: str, make: Callable[[], None]) -> None:
        begun_s = time.perf_counter()
        make()
        found[name] = {
            "merge_and_quantize_s": round(time.perf_counter() - begun_s, 2),
            "bytes": target.stat().st_size,
            "survival": survival(base, lora, target).record(),
            "nats": parity.mean(scores := parity.scores(Weights(model=target), windows)),
        }
        losses[name] = [float(one.sum()) for one in scores]

    sizes = [len(row) - 1 for row in windows]
    for kind in TYPES:
        measured(kind, partial(write_form, parts, target, kind, threads=parity.THREADS))
        if kind not in WITH_MATRIX:
            continue
        for name, used, lengthened in (
            (f"{kind} with imatrix, length not corrected", matrix, False),
            (f"{kind} without imatrix", None, False),
            (f"{kind} without imatrix, length corrected", None, True),
        ):
            measured(name, partial(compared, parts, target, kind, used, lengthened))
            # Of windows, paired: below nought where the exported form is better.
            found[name]["exported_less_this_ci95"] = [
                round(end, 5) for end in ratio_difference_ci95(losses[name], losses[kind], sizes)
            ]
    return found


def compared(parts: Parts, target: Path, kind: str, matrix: Path | None, lengthened: bool) -> None:
    """What is not exported, for comparison."""

    def rounded(source: Path, made: Path, *_: Path) -> None:
        quantize(source, made, kind, importance=matrix, threads=parity.THREADS)

    assert parts.matrix is not None
    gains, half = None, target.with_suffix(".f16")
    if lengthened:
        gains = learn_correction(parts.base, parts.lora, parts.matrix, target.parent, rounded).gains
    write_merged(parts.base, parts.lora, half, parts.fim, kind=F16, gains=gains)
    rounded(half, target)


def peft_nats(version: Path, windows: Sequence[list[int]]) -> float:
    """The loss of the adapter as PEFT computes it, in float32."""
    state = load_file(version / PEFT_WEIGHTS)
    named = {name.replace(".weight", ".default.weight"): tensor for name, tensor in state.items()}
    model = parity.peft_model(store.find("smollm2-135m").path, named)
    return parity.mean([parity.peft_loss(model, window) for window in windows])


def unseen(count: int) -> list[list[int]]:
    """Token ids of code of this project that is not in the core."""
    vocabulary = Model.load(store.find("smollm2-135m").path, vocab_only=True)
    texts = [path.read_text() for path in sorted(TRAINER.glob("*.py"))]
    rows = [vocabulary.tokenize(text)[:WINDOW_TOKENS] for text in texts]
    return [row for row in rows if len(row) == WINDOW_TOKENS][:count]


def memory(width: int, folder: Path) -> dict[str, Any]:
    """Peak memory of merging and quantizing a synthetic model, beside what a process has anyway."""
    base, lora, half = folder / "base.gguf", folder / "lora.gguf", folder / "half.gguf"
    numbers = _write_synthetic(base, lora, width)
    merge = [sys.executable, "-c", MERGE, *map(str, (base, lora, half))]
    program = [sys.executable, "-m", "flex_assist.engine.quantize"]
    idle = _peak_mb([sys.executable, "-c", "import gguf, flex_assist.engine.llama"])
    needed_mb = numbers * 4 / 1e6
    return {
        "width": width,
        "largest_tensor_float32_mb": round(needed_mb, 1),
        "idle_mb": idle,
        "merge_mb": _peak_mb(merge),
        "quantize_mb": _peak_mb([*program, str(half), str(folder / "q.gguf"), "Q8_0", "2"]),
    }


def _peak_mb(command: list[str]) -> float:
    """Most memory of a process's own. Pages of mapped files are the system's to drop."""
    peak = 0
    # The quantizer ends where nobody holds its input open.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]))
            time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    return round(peak / 1e3, 1)


def _write_synthetic(base: Path, lora: Path, width: int) -> int:
    """Weights in F16 and an update of all of them; how many numbers the largest has."""
    random = np.random.default_rng(0)
    shapes = {"token_embd.weight": (WORDS, width), "output_norm.weight": (width,)}
    shapes |= {f"blk.0.{name}.weight": (width, width) for name in ("attn_q", "attn_output")}
    shapes |= {"blk.0.attn_norm.weight": (width,), "blk.0.ffn_norm.weight": (width,)}
    model, update = gguf.GGUFWriter(base, "llama"), gguf.GGUFWriter(lora, "llama")
    for key, value in {
        "block_count": 1, "context_length": 512, "embedding_length": width, "vocab_size": WORDS,
        "feed_forward_length": width, "attention.head_count": 8, "attention.head_count_kv": 8,
    }.items():  # fmt: skip
        model.add_uint32(f"llama.{key}", value)
    model.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    update.add_string("adapter.type", "lora")
    update.add_float32("adapter.lora.alpha", float(RANK))
    for name, shape in shapes.items():
        values = random.standard_normal(shape, dtype=np.float32)
        model.add_tensor(name, values.astype(np.float16) if len(shape) == 2 else values)
        if len(shape) == 2:
            a, b = random.standard_normal((RANK, width)), random.standard_normal((shape[0], RANK))
            update.add_tensor(f"{name}.lora_a", a.astype(np.float32))
            update.add_tensor(f"{name}.lora_b", (b * 0.01).astype(np.float32))
    for writer in (model, update):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return WORDS * width


def extrapolated(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Memory for 7 billion weights: what grew between two sizes goes on growing so."""
    small, large = sizes
    wanted_mb = LARGEST_OF_7B[0] * LARGEST_OF_7B[1] * 4 / 1e6
    first, second = (one["largest_tensor_float32_mb"] for one in sizes)
    found = {"largest_tensor_float32_mb": round(wanted_mb, 1)}
    for part in ("merge_mb", "quantize_mb"):
        slope = (large[part] - small[part]) / (second - first)
        found[part] = round(large[part] + slope * (wanted_mb - second), 1)
        found[f"{part}_by_largest_tensor"] = round(slope, 3)
    return found


def measure(version: Path | None, steps: int, windows: int) -> dict[str, Any]:
    """All figures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        trained = version or adapted(folder, steps)
        rows = unseen(windows)
        base = folder / "base-q8_0.gguf"
        write_model(store.find("smollm2-135m").path, base)
        found = {
            "held_out_tokens": sum(len(row) - 1 for row in rows),
            "base_nats": parity.mean(parity.scores(Weights(model=base), rows)),
            "peft_nats": peft_nats(trained, rows),
            "forms": forms(trained, folder, rows),
        }
        sizes = [memory(width, folder) for width in WIDTHS]
    return {**found, "memory": {"sizes": sizes, "7b": extrapolated(sizes)}}


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """The bars of the issue."""
    made = found["forms"]
    return {
        "merged_q8_0_within_0.01_nats_of_peft": abs(made["Q8_0"]["nats"] - found["peft_nats"])
        <= 0.01,
        "q4_k_m_with_imatrix_at_least_as_good_as_without": made["Q4_K_M"]["nats"]
        <= made["Q4_K_M without imatrix"]["nats"],
        # Where the interval of the difference is above nought, the matrix did harm.
        "no_form_worse_than_without_imatrix": all(
            one["exported_less_this_ci95"][0] <= 0
            for name, one in made.items()
            if name.endswith("without imatrix")
        ),
        "survival_f16": made["F16"]["survival"]["mean"] >= 0.99,
        "survival_q8_0": made["Q8_0"]["survival"]["mean"] >= 0.9,
        # As the product makes them; the others are for comparison.
        "within_20_s": max(made[kind]["merge_and_quantize_s"] for kind in TYPES) <= 20,
        "7b_in_16_gb": max(found["memory"]["7b"][part] for part in ("merge_mb", "quantize_mb"))
        <= 16_000,
    }


def main() -> int:
    """Measure and write the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", type=Path, help="a version's folder, instead of training one")
    parser.add_argument("--steps", type=int, default=50, help="of the training")
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--print", action="store_true", help="print, and write no bar")
    arguments = parser.parse_args()
    found = measure(arguments.version, arguments.steps, arguments.windows)
    figures = {"command": bars.command("export"), **found, "bars": verdicts(found)}
    if arguments.print:
        print(json.dumps(figures, indent=2))
    else:
        bars.write("export", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
