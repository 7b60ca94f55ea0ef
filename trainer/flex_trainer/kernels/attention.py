"""Causal attention over documents that are packed one behind the other.

Each document attends to itself only: attention is computed document by document, so a document's
result is the same wherever it stands, and no mask over the whole row is ever made. On a CPU the
products are plain ones, in blocks of queries that see no later keys; probabilities are computed
again in the backward pass instead of being kept.

Source of the gradient: Dao et al., "FlashAttention", arXiv 2205.14135, appendix B.2.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

NAME = "flex_packed"
# Queries of a block: fewer skip more keys that come later, more make larger products.
BLOCK = 512


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    lengths: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it.

    Args:
        module: Unused; the caller's.
        query: (B, H, T, d).
        key: (B, K, T, d), where K divides H.
        value: (B, K, T, d).
        attention_mask: Unused: the documents' lengths say all.
        scaling: Factor of the products of queries and keys.
        lengths: Tokens of each document, T together; B must then be 1. Without it each row is one
            document.
        sliding_window: Keys that a query sees, itself included; None for all before it.

    Returns:
        The weighted values, (B, T, H, d), and no weights.
    """
    del module, attention_mask, others
    batch, _, time, _ = query.shape
    sizes = tuple(lengths) if lengths is not None else (time,)
    if sum(sizes) != time or (lengths is not None and batch != 1):
        raise ValueError(f"documents of {sum(sizes)} tokens in a row of {time}")
    rows = []
    for row in range(batch):
        if query.device.type == "cpu":
            out = _PlainAttention.apply(  # type: ignore[no-untyped-call]
                query[row], key[row], value[row], scaling, sizes, sliding_window
            )
        else:
            out = _fused(query[row], key[row], value[row], scaling, sizes, sliding_window)
        rows.append(out)
    return torch.stack(rows), None


def _fused(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, sizes: Any, window: int | None = None
) -> Tensor:
    """(T, H, d) by torch's own fused kernel, document by document."""
    pieces = []
    for start, end in _bounds(sizes):
        part = slice(start, end)
        cut = window is not None and window < end - start
        unseen = _unseen(end - start, end - start, window, torch.float32, query.device)
        pieces.append(
            scaled_dot_product_attention(
                query[None, :, part],
                key[None, :, part],
                value[None, :, part],
                attn_mask=unseen == 0 if cut else None,
                is_causal=not cut,
                scale=scaling,
                enable_gqa=True,
            )[0]
        )
    return torch.cat(pieces, dim=1).transpose(0, 1)


class _PlainAttention(torch.autograd.Function):
    """(H, T, d), (K, T, d), (K, T, d) to (T, H, d)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        sizes: tuple[int, ...],
        window: int | None,
    ) -> Tensor:
        heads, time, width = query.shape
        query = query * scaling
        ctx.save_for_backward(query, key, value)
        ctx.scaling, ctx.sizes, ctx.window = scaling, sizes, window
        out = query.new_empty(time, heads, width)
        for first, start, end in _blocks(sizes, window):
            probability = _probability(query, key, first, start, end, window)
            weighted = probability @ value[:, first:end]  # (K, G (end - start), d)
            out[start:end].copy_(_ungrouped(weighted, end - start).transpose(0, 1))
        return out

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value = ctx.saved_tensors
        groups = key.shape[0]
        gradient = outer[0].transpose(0, 1)  # (H, T, d)
        d_query = torch.empty_like(query)
        d_key = torch.zeros_like(key, dtype=torch.float32)
        d_value = torch.zeros_like(value, dtype=torch.float32)
        for first, start, end in _blocks(ctx.sizes, ctx.window):
            keys, values = key[:, first:end], value[:, first:end]
            probability = _probability(query, key, first, start, end, ctx.window)
            d_out = _grouped(gradient[:, start:end], groups)
            d_value[:, first:end] += probability.mT @ d_out
            d_score = torch._softmax_backward_data(
                d_out @ values.mT, probability, -1, probability.dtype
            )
            d_query[:, start:end] = _ungrouped(d_score @ keys, end - start)
            d_key[:, first:end] += d_score.mT @ _grouped(query[:, start:end], groups)
        return (
            d_query.mul_(ctx.scaling), d_key.to(key.dtype), d_value.to(value.dtype),
            None, None, None,
        )  # fmt: skip


def _probability(
    query: Tensor, key: Tensor, first: int, start: int, end: int, window: int | None
) -> Tensor:
    """Weights of the keys from ``first`` on for the queries of a block, (K, G L, end - first)."""
    groups, length, keys = key.shape[0], end - start, end - first
    score = _grouped(query[:, start:end], groups) @ key[:, first:end].mT
    # Without a window only the block's own keys can come after a query.
    masked = keys if window is not None and window < keys else length
    unseen = _unseen(length, masked, window, score.dtype, score.device)
    score.view(groups, -1, length, keys)[..., -masked:].add_(unseen)
    return torch.softmax(score, dim=-1)


@functools.lru_cache(maxsize=64)
def _unseen(
    length: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Minus infinity where a key comes after its query or before its window, (L, keys).

    The queries stand at the last ``length`` of the keys.
    """
    offset = keys - length
    mask = torch.full((length, keys), float("-inf"), dtype=dtype, device=device)
    later = mask.triu(offset + 1)
    return later if window is None else later + mask.tril(offset - window)


def _grouped(heads: Tensor, groups: int) -> Tensor:
    """(H, L, d) to (K, G L, d): the queries that share a key head as rows of one product."""
    return heads.reshape(groups, -1, heads.shape[-1])


def _ungrouped(rows: Tensor, length: int) -> Tensor:
    """The way back, (H, L, d)."""
    return rows.reshape(-1, length, rows.shape[-1])


def _bounds(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    ends = list(itertools.accumulate(sizes))
    return zip([0, *ends[:-1]], ends, strict=True)


def _blocks(sizes: Sequence[int], window: int | None) -> Iterator[tuple[int, int, int]]:
    """First key, first query and end of each block of queries."""
    for first, last in _bounds(sizes):
        for start in range(first, last, BLOCK):
            seen = first if window is None else max(first, start - window + 1)
            yield seen, start, min(start + BLOCK, last)
