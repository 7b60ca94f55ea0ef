"""Parts of a decoder with hand-written gradients: less time and memory than automatic ones."""

from flex_trainer.kernels.install import install
from flex_trainer.kernels.lora_linear import LoraLinear
from flex_trainer.kernels.nf4 import Nf4Linear

__all__ = ["LoraLinear", "Nf4Linear", "install"]
