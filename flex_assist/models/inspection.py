"""What a GGUF file tells of a model: its shape, its infilling tokens, whether it can chat."""

from dataclasses import dataclass
from pathlib import Path

import gguf

from flex_assist.models.gguf_file import architecture, field, open_gguf
from flex_assist.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """Of one file.

    Attributes:
        fim: Texts of its infilling tokens: prefix, suffix, middle; None where it has none.
        chat: Whether it has a chat template.
    """

    shape: ModelShape
    fim: tuple[str, str, str] | None
    chat: bool


def inspect(path: Path) -> Inspected:
    """Read the header of a model's file.

    Raises:
        ModelError: It is damaged, or lacks what every model has.
    """
    reader = open_gguf(path)
    kind = architecture(reader)
    names = {tensor.name for tensor in reader.tensors}
    tokens = field(reader, gguf.Keys.Tokenizer.LIST, [])

    def number(key: str, otherwise: int = 0) -> int:
        found = field(reader, f"{kind}.{key}", otherwise)
        # Some families write one number for each block.
        return max(found) if isinstance(found, list) else int(found)

    width, heads = number("embedding_length"), max(1, number("attention.head_count"))
    shape = ModelShape(
        vocabulary=len(tokens),
        width=width,
        feed_forward=number("feed_forward_length"),
        blocks=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_width=number("attention.key_length", width // heads),
        tied="output.weight" not in names,
        gated="blk.0.ffn_gate.weight" in names,
    )
    keys = gguf.Keys.Tokenizer
    ids = [field(reader, key) for key in (keys.FIM_PRE_ID, keys.FIM_SUF_ID, keys.FIM_MID_ID)]
    known = [tokens[one] for one in ids if isinstance(one, int) and 0 <= one < len(tokens)]
    fim = (known[0], known[1], known[2]) if len(known) == len(ids) else None
    chat = isinstance(field(reader, keys.CHAT_TEMPLATE), str)
    return Inspected(shape=shape, fim=fim, chat=chat)
