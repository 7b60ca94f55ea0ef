"""Measuring: spans to complete, metrics, and intervals."""
