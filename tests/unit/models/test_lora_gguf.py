"""Adapters as GGUF: the layout of the family, and what llama.cpp reads."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.errors import ExportError, ModelError
from flex_assist.models.architectures import Layout, layout
from flex_assist.models.gguf_file import architecture, field, open_gguf, tensor_values
from flex_assist.models.lora_gguf import LoraModule, check_layout, write_lora

RANK, SCALE = 4, 2.0
QUERY = "model.layers.0.self_attn.q_proj"
NAMES = {
    QUERY: "blk.0.attn_q.weight",
    "model.layers.1.self_attn.k_proj": "blk.1.attn_k.weight",
    "model.layers.1.self_attn.v_proj": "blk.1.attn_v.weight",
    "model.layers.0.mlp.down_proj": "blk.0.ffn_down.weight",
}
shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))


def plan_of(heads: int, kv_heads: int) -> Layout:
    return Layout(architecture="llama", blocks=1, heads=(heads, kv_heads), reordered=True)


@given(shapes, st.sampled_from(["attn_q", "attn_k", "attn_v", "ffn_up"]))
def test_the_layouts_go_around(shape: tuple[int, int, int, int], kind: str) -> None:
    heads, kv_heads, half, width = shape
    plan = plan_of(heads, kv_heads)
    rows = {"attn_q": heads, "attn_k": kv_heads}.get(kind, 3) * 2 * half
    weight = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    name = f"blk.0.{kind}.weight"
    stored = plan.to_gguf(name, weight)
    assert stored.shape == weight.shape
    np.testing.assert_array_equal(plan.from_gguf(name, stored), weight)
    np.testing.assert_array_equal(plan.to_gguf(name, plan.from_gguf(name, weight)), weight)
    assert kind in ("attn_q", "attn_k") or (stored == weight).all()
    # Rows only move: what is in a row stays together.
    np.testing.assert_array_equal(np.sort(stored[:, 0]), np.sort(weight[:, 0]))


def test_the_order_is_the_familys() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    # One head of 8: the two halves of the rotation lie beside each other.
    wanted = [0, 4, 1, 5, 2, 6, 3, 7]
    assert plan_of(1, 1).to_gguf("blk.0.attn_q.weight", rows)[:, 0].tolist() == wanted
    assert plan_of(2, 1).to_gguf("blk.0.attn_q.weight", rows)[:, 0].tolist() == [
        0, 2, 1, 3, 4, 6, 5, 7,
    ]  # fmt: skip
    assert plan_of(2, 1).to_gguf("blk.0.attn_k.weight", rows)[:, 0].tolist() == wanted


def test_rows_that_heads_cannot_share() -> None:
    with pytest.raises(ModelError, match="heads"):
        plan_of(3, 1).to_gguf("blk.0.attn_q.weight", np.zeros((8, 1), np.float32))


def test_names(tiny: Path) -> None:
    reader = open_gguf(tiny)
    plan = layout(reader, architecture(reader))
    for module, name in NAMES.items():
        assert f"{plan.gguf_name(module)}.weight" == name
    for module in ("model.layers.0.nothing", "model.layers.7.self_attn.q_proj", ""):
        with pytest.raises(ModelError, match="no module"):
            plan.gguf_name(module)


def modules_of(base: Path, names: dict[str, str] | None = None) -> dict[str, LoraModule]:
    """Random updates, with the weights in the trainer's layout."""
    reader, random = open_gguf(base), np.random.default_rng(2)
    plan = layout(reader, architecture(reader))
    stored = {tensor.name: tensor_values(tensor) for tensor in reader.tensors}
    found = {}
    for module, name in (names or NAMES).items():
        out, width = stored[name].shape
        found[module] = LoraModule(
            module=module,
            a=random.normal(size=(RANK, width)).astype(np.float32),
            b=random.normal(size=(out, RANK)).astype(np.float32) * 0.1,
            scale=SCALE,
            weight=functools.partial(plan.from_gguf, name, stored[name]),
        )
    return found


def test_the_adapter_says_what_was_trained(tiny: Path, tmp_path: Path) -> None:
    modules, target = modules_of(tiny), tmp_path / "adapter.gguf"
    write_lora(tiny, target, modules)
    reader = open_gguf(target)
    assert field(reader, "general.type") == "adapter"
    assert field(reader, "adapter.type") == "lora"
    assert field(reader, "adapter.lora.alpha") == RANK
    assert architecture(reader) == "llama"
    tensors = {tensor.name: tensor_values(tensor) for tensor in reader.tensors}
    assert set(tensors) == {f"{name}.lora_{side}" for name in NAMES.values() for side in "ab"}
    base = open_gguf(tiny)
    plan = layout(base, "llama")
    for module in modules.values():
        name = NAMES[module.module]
        # llama.cpp adds alpha / r * B A, and alpha is r.
        delta = tensors[f"{name}.lora_b"] @ tensors[f"{name}.lora_a"]
        wanted = module.scale * module.b @ module.a
        np.testing.assert_allclose(plan.from_gguf(name, delta), wanted, rtol=1e-4, atol=1e-5)


def test_a_weight_in_the_wrong_order_is_noticed(tiny: Path, tmp_path: Path) -> None:
    modules = modules_of(tiny)
    reader = open_gguf(tiny)
    plan = layout(reader, "llama")
    own = modules[QUERY]
    assert own.weight is not None
    wrong = {
        **modules,
        QUERY: replace(own, weight=lambda: plan.to_gguf("blk.0.attn_q.weight", own.weight())),
    }
    with pytest.raises(ExportError, match="does not match the weight that was trained"):
        write_lora(tiny, tmp_path / "out.gguf", wrong)
    with pytest.raises(ExportError, match=r"without re-ordering 1\.0000"):
        check_layout(reader, replace(plan, reordered=True), {QUERY: unordered(own, plan)})
    assert list(tmp_path.iterdir()) == []


def unordered(module: LoraModule, plan: Layout) -> LoraModule:
    assert module.weight is not None
    return replace(module, weight=lambda: plan.to_gguf("blk.0.attn_q.weight", module.weight()))


def test_nothing_wrong_is_written(tiny: Path, tmp_path: Path) -> None:
    modules, target = modules_of(tiny), tmp_path / "out.gguf"
    own = modules[QUERY]
    ranks = {**modules, QUERY: replace(own, a=own.a[:2], b=own.b[:, :2])}
    other = {"x": replace(own, module="model.layers.1.mlp.up_proj", weight=None)}
    shape = {QUERY: replace(own, weight=lambda: np.ones((8, 3), np.float32))}
    for given_modules in ({}, ranks, other, shape):
        with pytest.raises(ExportError):
            write_lora(tiny, target, given_modules)
    assert list(tmp_path.iterdir()) == []
