"""Infilling tokens."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FimTokens:
    """The infilling tokens that a model was trained with.

    The prompt is suffix first: ``suffix_id, suffix, prefix_id, prefix``, so that typing only
    appends to it. ``end_id`` ends the middle. ``middle_id`` may stand between prefix and middle,
    as clients of other makes put it.
    """

    suffix_id: int
    prefix_id: int
    middle_id: int
    end_id: int
