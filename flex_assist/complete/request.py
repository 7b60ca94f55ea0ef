"""What a completion is asked with, and what comes back."""

from dataclasses import dataclass, field
from typing import Literal

from flex_assist.complete.edits import EditedSpan
from flex_assist.complete.explanation import Explanation
from flex_assist.engine.protocol import Form

# Where an answer comes from: computed for this request; known from an earlier one, as typing agreed
# with it; or computed ahead, while the one before it was shown.
Source = Literal["model", "cache", "ahead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A cursor in a text.

    Attributes:
        before: The document's text up to the cursor.
        after: The text from the cursor on.
        path: The file's path: inside the repository relative to its root, else absolute; None for a
            document without a file.
        language_id: The editor's ``languageId``; the file name decides where it is unknown.
        adapter: ``auto``, ``none``, or the name of an adapter.
        trigger: ``automatic`` while typing, ``invoked`` when asked for by hand.
        first_answer_ms: After so long the beginning of an answer is enough; more of it is computed
            on and is there at the next key. None waits for all of it.
        edited: Spans that were edited in other files, the newest first.
        fresh: Ask the model even where the answer is known.
    """

    before: str
    after: str
    path: str | None = None
    language_id: str | None = None
    adapter: str = "auto"
    trigger: Literal["automatic", "invoked"] = "automatic"
    first_answer_ms: float | None = None
    edited: tuple[EditedSpan, ...] = ()
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What is inserted at the cursor; ``text`` is empty when there is nothing good to say.

    Attributes:
        adapter: Name of the adapter that answered, or ``base``.
        reason: Why this adapter, for people.
        form: What computed: ``base``, ``adapter`` over it, or both ``merged`` into one file.
        source: ``model``, or ``cache`` and ``ahead`` where this request made no model call: then it
            has no tokens.
        timings_ms: context, queue, prefill, decode, trim, total.
        several: Whether it may have more than one line, if it is gone on with.
        notes: What the filters did, in their order, e.g. ``"cut at the suffix"``.
        explanation: What it was made of; None where no model was asked.
        warning: What to mend, for people, if another engine than the wanted one had to answer.
    """

    text: str
    language: str | None
    adapter: str
    reason: str
    form: Form = "base"
    source: Source = "model"
    timings_ms: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    several: bool = False
    notes: tuple[str, ...] = ()
    explanation: Explanation | None = None
    warning: str = ""
