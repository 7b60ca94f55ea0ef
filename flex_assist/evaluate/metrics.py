"""Metrics of a completion against the text that was there."""

from rapidfuzz.distance import Levenshtein


def exact_match(predicted: str, wanted: str) -> bool:
    """Equal but for white space around."""
    return predicted.strip() == wanted.strip()


def edit_similarity(predicted: str, wanted: str) -> float:
    """1 - edit distance / longer length, of the stripped texts, in [0, 1]."""
    return float(Levenshtein.normalized_similarity(predicted.strip(), wanted.strip()))
