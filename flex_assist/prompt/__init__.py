"""Prompts for completion. The same code makes the samples of training and the prompts of serving."""
