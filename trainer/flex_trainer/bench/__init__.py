"""``flex-assist bench train`` and ``bench optimizers``: the trainer measured."""
