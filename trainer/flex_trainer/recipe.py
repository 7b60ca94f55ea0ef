"""What a run is trained with, planned once and stored."""

from dataclasses import dataclass

# Found by the sweeps in docs/log.md.
LEARNING_RATE = {"sophia": 1.2e-3, "adamw": 1e-3}
ALPHA_PER_RANK = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, besides the data and the base.

    Attributes:
        batch_tokens: Tokens of a step.
        row_tokens: Tokens that go through the model at once; a step is as many rows as it needs.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        nf4: Hold the base's linear layers in 4 bits.
        common_share: Of each adapter's steps, those that train one common adapter first.
        hessian_every: Steps between two estimates of the Hessian.
        penalty_share: |grad penalty| / |grad loss| that the regularizer aims at.
        shrink: What the trained update is multiplied by before it is exported: below 1 the model
            keeps more of what the base does well, copying from the text around the cursor first.
        dtype: Of the base and the adapter's working copies: ``bfloat16`` or ``float32``.
    """

    optimizer: str = "sophia"
    regularizer: str = "spectral"
    rank: int = 16
    alpha_per_rank: int = ALPHA_PER_RANK
    learning_rate: float = LEARNING_RATE["sophia"]
    batch_tokens: int = 1280
    row_tokens: int = 512
    checkpointing: bool = False
    nf4: bool = False
    common_share: float = 0.0
    hessian_every: int = 10
    rho: float = 2.0
    beta_momentum: float = 0.9
    beta_hessian: float = 0.95
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    penalty_share: float = 0.1
    penalty_after: float = 0.1
    shrink: float = 0.7
    seed: int = 0
    dtype: str = "bfloat16"
    device: str = "cpu"
    threads: int = 2
