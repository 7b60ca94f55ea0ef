"""What an engine is: the seam between prompts and whatever computes.

Implementations: ``local.LocalEngine`` (in this process), ``client.HostEngine`` (the shared engine
host, over a socket), ``remote.engine.RemoteEngine`` (a server, for repositories that opted in);
``choice.open_engine`` picks. Prompts arrive as token ids, so that serving asks in exactly those
that training used; ``tokenize`` turns text into them with the model's own vocabulary.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Protocol

PROTOCOL_VERSION = 3

# What answered: the base alone, adapters over it, the file in which they are merged, or a server.
Form = Literal["base", "adapter", "merged", "remote"]


class Priority(IntEnum):
    """Who goes first when several requests wait; lower is sooner."""

    COMPLETION = 0
    CHAT = 1
    BACKGROUND = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Which weights answer: a base model's GGUF file and what is added to it.

    KV, states and caches are keyed by this, never by tokens alone.

    Attributes:
        adapters: LoRA GGUF files; the sum of all their updates is added to the base.
        merged: A GGUF file of the base with the same sum in it. An engine may answer with it
            instead: the same function, but for rounding.
        name: The adapter's, for engines that know weights by name; the base has none.
        version: Of that adapter.
    """

    model: Path
    adapters: tuple[Path, ...] = ()
    merged: Path | None = None
    name: str = field(default="", compare=False)
    version: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """Text to be turned into token ids.

    Attributes:
        special: True only for text of our own (chat templates): control tokens in it count as such.
            Text of a repository or a person is encoded as text, whatever it contains.
    """

    text: str
    special: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a prompt builder must know of a model, read from its GGUF file.

    Attributes:
        fim_ids: Ids of the file's own infilling tokens (prefix, suffix, middle); None without.
        end_ids: Ids that end generation.
        chat_template: The Jinja template for chat, if the file has one.
    """

    architecture: str
    context_tokens: int
    vocabulary: int
    fim_ids: tuple[int, int, int] | None
    end_ids: tuple[int, ...]
    bos_id: int | None
    chat_template: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One generation.

    Attributes:
        tokens: The prompt. Shares KV with earlier requests of the same weights as far as equal.
        heal: Token healing: the prompt's last token, or the tokens of the word that it ends in, are
            left off and their bytes forced instead, in whichever tokens the model likes. They are
            not part of the answer's text.
        forced: Bytes that the answer must begin with. They are part of its text.
        stop_texts: Generation ends before any of these appears in the answer.
        temperature: 0 takes the likeliest token.
        document: Whose prompt it is. The KV of several documents is kept, so that going from one to
            another and back computes only what has changed. Any name; equal ones share.
        ahead: Nobody needs it yet. It goes after everything else, shares the KV of completions, and
            is cancelled as soon as one of them needs that.
        keep_local: Why this must not leave the machine, for people; empty where it may.
    """

    weights: Weights
    tokens: tuple[int, ...]
    max_tokens: int
    heal: bool = False
    forced: bytes = b""
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 0.95
    seed: int = 0
    priority: Priority = Priority.COMPLETION
    document: str = ""
    ahead: bool = False
    keep_local: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some more of the answer.

    Attributes:
        reused_tokens: As in ``Finished``.
        served: Where it was computed, for people, if that is worth a word.
        warning: What to mend, for people, if an engine had to do without something.
    """

    text: str
    form: Form = "base"
    reused_tokens: int = 0
    served: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last item of a generation.

    Attributes:
        text: The whole answer, ``forced`` included.
        reason: ``end``: an end token; ``text``: a stop text; ``length``: ``max_tokens`` or context.
        reused_tokens: Prompt tokens whose KV was still there.
        served, warning: As in ``Piece``.
    """

    text: str
    reason: Literal["end", "text", "length"]
    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    form: Form = "base"
    served: str = ""
    warning: str = ""


class Engine(Protocol):
    """Computes. Any call may raise ``EngineError`` or ``ModelError`` with a message for people."""

    async def facts(self, model: Path) -> ModelFacts:
        """Facts of a model file (loads its vocabulary if need be)."""
        ...

    async def tokenize(self, model: Path, pieces: Sequence[TextPiece]) -> list[list[int]]:
        """Token ids of each piece, without BOS or EOS."""
        ...

    async def spell(
        self, model: Path, tokens: Sequence[int], *, control: bool = False
    ) -> list[bytes]:
        """What each token stands for. Control tokens spell nothing, or their names."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece | Finished, None]:
        """Answer piece by piece, ``Finished`` last. Closing the iterator cancels the request."""
        ...

    async def warm(self, weights: Weights) -> None:
        """Load the weights now, so that the first request does not wait for them."""
        ...

    async def status(self) -> dict[str, Any]:
        """For people: process, models, contexts, queue."""
        ...

    async def close(self) -> None:
        """Let go of what this object holds. A shared host lives on."""
        ...
