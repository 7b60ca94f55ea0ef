"""Writing a LoRA adapter as GGUF."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ExportError
from flex_assist.files import write_atomically
from flex_assist.models.architectures import Layout, layout
from flex_assist.models.gguf_file import architecture, open_gguf, tensor_values
from flex_assist.models.provenance import LoraIdentity

# The trained base is the dequantized GGUF base: rounding to bfloat16 is all that may differ.
LEAST_COSINE = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraModule:
    """One module's update in the trainer's layout: scale * b @ a.

    Attributes:
        module: Its path, e.g. ``model.layers.0.self_attn.q_proj``.
        a: (r, in), float32.
        b: (out, r), float32.
        weight: Gives the frozen weight that it was trained on, (out, in): the layout is checked by
            it. Asked for when needed, so that they are not all in memory at once.
    """

    module: str
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float
    weight: Callable[[], NDArray[np.float32]] | None = None


def write_lora(
    base: Path,
    target: Path,
    modules: Mapping[str, LoraModule],
    identity: LoraIdentity | None = None,
) -> None:
    """Write a LoRA GGUF file for ``base``, atomically.

    llama.cpp scales by alpha / r; the module's scale is folded into B and alpha written as r.

    Raises:
        ExportError: Nothing to write, ranks differ, or a layout check fails.
    """
    ranks = {module.a.shape[0] for module in modules.values()}
    if len(ranks) != 1:
        raise ExportError(f"an adapter needs modules of one rank, not of {sorted(ranks)}")
    reader = open_gguf(base)
    plan = layout(reader, architecture(reader))
    check_layout(reader, plan, modules)
    updates = {}
    for _, module in sorted(modules.items()):
        name = f"{plan.gguf_name(module.module)}.weight"
        updates[name] = (module.a, plan.to_gguf(name, module.b * np.float32(module.scale)))
    write_updates(target, plan.architecture, updates, identity)


def write_updates(
    target: Path,
    architecture: str,
    updates: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    identity: LoraIdentity | None,
) -> None:
    """Write a LoRA GGUF file, atomically, with nothing in it but this.

    Args:
        updates: By the GGUF name of a weight, a (r, in) and b (out, r) in the file's order of rows;
            b @ a is added as it is.
    """
    # llama.cpp multiplies each by alpha / its rank.
    alpha = max(a.shape[0] for a, _ in updates.values())

    def fill(part: Path) -> None:
        with closing(gguf.GGUFWriter(part, architecture)) as writer:
            writer.add_string(gguf.Keys.General.TYPE, gguf.GGUFType.ADAPTER)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
            for key, value in (identity.metadata() if identity else {}).items():
                add = writer.add_string if isinstance(value, str) else writer.add_uint32
                add(key, value)
            for name, (a, b) in updates.items():
                scaled = b * np.float32(a.shape[0] / alpha)
                writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a, np.float32))
                writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(scaled, np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()

    write_atomically(target, fill)


def check_layout(reader: gguf.GGUFReader, plan: Layout, modules: Mapping[str, LoraModule]) -> None:
    """Compare each trained-on weight with the GGUF tensor that its update goes to.

    Raises:
        ExportError: They are not the same weight in the layout assumed; says if the other fits.
    """
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for module in modules.values():
        name = f"{plan.gguf_name(module.module)}.weight"
        if name not in tensors:
            raise ExportError(f"the base has no tensor {name!r} for {module.module!r}")
        if module.weight is None:
            continue
        stored, trained = tensor_values(tensors[name]), module.weight()
        fit = _cosine(plan.to_gguf(name, trained), stored)
        if fit < LEAST_COSINE:
            other = _cosine(trained, stored)
            raise ExportError(
                f"{name!r} does not match the weight that was trained (cosine {fit:.4f}, "
                f"without re-ordering {other:.4f}); the adapter would be wrong, nothing is written"
            )


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    if left.shape != right.shape:
        return 0.0
    norms = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return float(np.vdot(left, right)) / norms if norms else 1.0
