"""Prompts for completion. One code makes the samples of training and the prompts of serving."""
