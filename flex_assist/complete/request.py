"""What a completion is asked with, and what comes back."""

from dataclasses import dataclass, field
from typing import Literal

from flex_assist.engine.protocol import Form


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
    """

    before: str
    after: str
    path: str | None = None
    language_id: str | None = None
    adapter: str = "auto"
    trigger: Literal["automatic", "invoked"] = "automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What is inserted at the cursor; ``text`` is empty when there is nothing good to say.

    Attributes:
        adapter: Name of the adapter that answered, or ``base``.
        reason: Why this adapter, for people.
        form: What computed: ``base``, ``adapter`` over it, or both ``merged`` into one file.
        timings_ms: context, queue, prefill, decode, trim, total.
        notes: What the filters did, in their order, e.g. ``"cut at the suffix"``.
        warning: What to mend, for people, if another engine than the wanted one had to answer.
    """

    text: str
    language: str | None
    adapter: str
    reason: str
    form: Form = "base"
    timings_ms: dict[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    completion_tokens: int = 0
    notes: tuple[str, ...] = ()
    warning: str = ""
