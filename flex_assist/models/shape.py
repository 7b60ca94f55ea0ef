"""What a model's shape says of its size on disk and of the memory that it takes.

Everything is computed from a few numbers of the model's configuration: nothing to go out of date.
"""

from dataclasses import dataclass

# Bits that a weight takes in Q8_0: blocks of 32 bytes with a scale of 2.
Q8_0_BITS = 8.5
KV_BYTES = 2  # F16
RANK = 16
# Of an update's weight: float32 master, gradient, two moments.
UPDATE_BYTES = 16
# What a process holds beside weights: interpreter, libraries, buffers of the computation.
SERVING_REST_BYTES, TRAINING_REST_BYTES = 150e6, 900e6
# Values kept for the gradient of one token in one block, as multiples of the width.
KEPT_PER_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A dense decoder.

    Attributes:
        width: Of the residual stream.
        feed_forward: Width inside the feed-forward layers.
        tied: Whether the head is the embedding.
        gated: Whether the feed-forward layers have a gate: three matrices, not two.
    """

    vocabulary: int
    width: int
    feed_forward: int
    blocks: int
    heads: int
    kv_heads: int
    head_width: int
    tied: bool
    gated: bool

    @property
    def parameters(self) -> int:
        """Weights of all matrices; vectors are too few to count."""
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return embeddings + self.blocks * sum(rows * columns for rows, columns in self._linear())

    @property
    def update_parameters(self) -> int:
        """Weights of an adapter on all linear layers, at the usual rank."""
        return self.blocks * RANK * sum(rows + columns for rows, columns in self._linear())

    def download_bytes(self) -> int:
        """Of a Q8_0 file, without its vocabulary."""
        return int(self.parameters * Q8_0_BITS / 8)

    def serving_bytes(self, context_tokens: int = 2048) -> int:
        """Memory to serve it as Q8_0 with one context."""
        keys_and_values = 2 * self.blocks * self.kv_heads * self.head_width * KV_BYTES
        return int(self.download_bytes() + keys_and_values * context_tokens + SERVING_REST_BYTES)

    def training_bytes(self, row_tokens: int = 1024, weight_bytes: int = 2) -> int:
        """Memory to adapt it: frozen weights, the update, and one row kept for the gradient.

        The planner measures; this is to choose a model by.
        """
        kept = row_tokens * self.blocks * self.width * KEPT_PER_TOKEN * weight_bytes
        update = self.update_parameters * UPDATE_BYTES
        return int(self.parameters * weight_bytes + update + kept + TRAINING_REST_BYTES)

    def _linear(self) -> list[tuple[int, int]]:
        """(out, in) of the linear layers of one block."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        attention = [(queries, self.width), (keys, self.width), (keys, self.width)]
        outer = [(self.feed_forward, self.width)] * (2 if self.gated else 1)
        return [*attention, (self.width, queries), *outer, (self.width, self.feed_forward)]
