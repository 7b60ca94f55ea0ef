"""What workers and widgets tell the screen. Workers change nothing themselves."""

from dataclasses import dataclass

from textual.message import Message

from flex_assist.chat.service import Answered, Prepared


@dataclass
class QuestionSubmitted(Message):
    """The person sends what is in the input."""

    text: str


@dataclass
class TypingChanged(Message):
    """The text or the cursor of the input moved; ``before`` is the text up to the cursor."""

    before: str


@dataclass
class SuggestionTaken(Message):
    """A suggestion takes the place of what was typed of it."""

    replacement: str


@dataclass
class AdapterClicked(Message):
    """The adapter in the status line was clicked."""


@dataclass
class SuggestionsFound(Message):
    """What fits the text before the cursor when the search began.

    Attributes:
        choices: What would be inserted, and a note on it.
    """

    before: str
    choices: tuple[tuple[str, str], ...]


@dataclass
class AnswerPrepared(Message):
    """The model begins to read.

    Attributes:
        number: Which answer this is about; that one may be given up already.
    """

    number: int
    prepared: Prepared


@dataclass
class AnswerPiece(Message):
    """Some more of the answer."""

    number: int
    text: str


@dataclass
class AnswerEnded(Message):
    """There will be no more of it.

    Attributes:
        answered: The numbers; None if it was stopped or failed.
        error: Why it failed; None if it did not.
    """

    number: int
    answered: Answered | None = None
    error: str | None = None


@dataclass
class ModelReady(Message):
    """The model was loaded; or it could not be, for the reason given."""

    error: str | None = None
