"""Adapts a base model to a repository: one LoRA adapter per language."""
