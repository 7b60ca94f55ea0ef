"""Which inputs of a model's layers matter: the importance matrix, as llama.cpp keeps it.

A quantizer that knows how large each input of a matrix usually is can round the weights that meet
large ones better. llama.cpp's own tool writes the sums of squares as GGUF; so do we, so that its
programs can read ours and we theirs.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from flex_assist.errors import ModelError
from flex_assist.files import write_atomically
from flex_assist.models.gguf_file import field, open_gguf, tensor_values

KIND = "imatrix"
SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Importance:
    """Of some tokens that went through a model.

    Attributes:
        sums: GGUF tensor name to the sum of squares of each of its inputs, (in,).
        tokens: How many tokens were summed over.
        sources: What the tokens were, for people.
    """

    sums: Mapping[str, NDArray[np.float32]]
    tokens: int
    sources: tuple[str, ...] = ()

    def means(self) -> dict[str, NDArray[np.float32]]:
        """The mean square of each input, by tensor name: what the quantizer takes."""
        return {name: sums / np.float32(self.tokens) for name, sums in self.sums.items()}


def write_importance(target: Path, importance: Importance, row_tokens: int) -> None:
    """Write it atomically.

    Args:
        row_tokens: How long the texts were that the model saw.
    """

    def fill(part: Path) -> None:
        with closing(gguf.GGUFWriter(part, KIND)) as writer:
            writer.add_type(gguf.GGUFType.IMATRIX)
            writer.add_array(gguf.Keys.IMatrix.DATASETS, list(importance.sources))
            writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, row_tokens)
            writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, -(-importance.tokens // row_tokens))
            # llama.cpp divides by the count itself.
            count = np.full((1, 1), importance.tokens, np.float32)
            for name, sums in importance.sums.items():
                writer.add_tensor(name + SUMS, sums[None].astype(np.float32))
                writer.add_tensor(name + COUNTS, count)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()

    write_atomically(target, fill)


def read_importance(path: Path) -> Importance:
    """What ``write_importance``, or llama.cpp's own tool for a dense model, wrote.

    Raises:
        ModelError: The file is damaged or holds something else.
    """
    reader = open_gguf(path)
    if field(reader, gguf.Keys.General.TYPE) != KIND:
        raise ModelError(f"{str(path)!r} is no importance matrix; make it with `flex-assist adapt`")
    tensors = {tensor.name: tensor_values(tensor) for tensor in reader.tensors}
    sums, seen = {}, set[float]()
    for name, values in tensors.items():
        if not name.endswith(SUMS):
            continue
        count = tensors.get(name.removesuffix(SUMS) + COUNTS)
        whole = count is not None and count.size == 1 and 1 <= count.item() < math.inf
        if not whole or not np.isfinite(values).all() or (values < 0).any():
            raise ModelError(f"{str(path)!r} is damaged at {name!r}; adapt again")
        assert count is not None
        seen.add(count.item())
        sums[name.removesuffix(SUMS)] = values.reshape(-1)
    if len(seen) != 1:
        raise ModelError(f"{str(path)!r} holds no sums, or sums over different texts; adapt again")
    sources = field(reader, gguf.Keys.IMatrix.DATASETS, [])
    return Importance(sums=sums, tokens=int(seen.pop()), sources=tuple(map(str, sources)))
