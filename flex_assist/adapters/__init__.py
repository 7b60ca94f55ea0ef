"""Adapters on disk: what each version is, which one is active, and which one answers."""
