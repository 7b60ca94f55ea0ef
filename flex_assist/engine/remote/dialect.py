"""One request in a server's words, and its answers in ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flex_assist.engine.protocol import GenerateRequest
from flex_assist.engine.remote.server import Make, Target

Reason = Literal["end", "text", "length"]
_MOST_SEED = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one event says.

    Attributes:
        reason: Why the answer ends here; None if it goes on.
    """

    text: str = ""
    reason: Reason | None = None
    prompt_tokens: int | None = None
    reused_tokens: int | None = None
    completion_tokens: int | None = None


def path_of(make: Make) -> tuple[str, bool]:
    """The path that completes, and whether it counts from the root instead of from ``/v1``."""
    return ("/completion", True) if make == "llama.cpp" else ("/completions", False)


def body(
    make: Make,
    target: Target,
    request: GenerateRequest,
    prompt: Sequence[int] | str,
    end_ids: Sequence[int],
) -> dict[str, Any]:
    """A request. Its forced bytes, if any, become a grammar where the server knows grammars."""
    common: dict[str, Any] = {
        "model": target.model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "temperature": float(request.temperature),
        "top_p": float(request.top_p),
        "seed": request.seed % _MOST_SEED,
        "stream": True,
    }
    forced = request.forced.decode("utf-8")
    stops = [stop for stop in request.stop_texts if not _touches(forced, stop)]
    if make == "llama.cpp":
        return common | _llama_cpp(target, request, forced, stops)
    common |= {"max_tokens": request.max_tokens}
    if make == "vllm":
        # It says which stop text ended the answer; of others that is not known, so they get none.
        common |= {
            "stop": stops,
            "stop_token_ids": sorted({*request.stop_ids, *end_ids}),
            "add_special_tokens": False,
            "stream_options": {"include_usage": True},
        }
    return common


def read(make: Make, event: Mapping[str, Any]) -> Part:
    """What an event says; what is not as it should be is passed over."""
    return _read_llama_cpp(event) if make == "llama.cpp" else _read_openai(event)


def can_force(make: Make) -> bool:
    """Whether an answer can be made to begin with given text."""
    return make == "llama.cpp"


def _llama_cpp(
    target: Target, request: GenerateRequest, forced: str, stops: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "stop": stops,
        # As drawn here: from the nucleus of the sharpened distribution, nothing else.
        "samplers": ["temperature", "top_p"],
        "repeat_penalty": 1.0,
        "return_tokens": False,
        "cache_prompt": target.cached,
    }
    if target.loras is not None:
        found["lora"] = [{"id": number, "scale": scale} for number, scale in target.loras]
    if forced:
        letters = "".join(f"\\U{ord(letter):08X}" for letter in forced)
        found["grammar"] = f'root ::= "{letters}" [^\\x00]*'
    return found


def _read_llama_cpp(event: Mapping[str, Any]) -> Part:
    text = event.get("content")
    text = text if isinstance(text, str) else ""
    if event.get("stop") is not True:
        return Part(text=text)
    reasons: dict[object, Reason] = {"eos": "end", "word": "text"}
    timings = event.get("timings")
    timings = timings if isinstance(timings, Mapping) else {}
    return Part(
        text=text,
        reason=reasons.get(event.get("stop_type"), "length"),
        prompt_tokens=_count(event.get("tokens_evaluated")),
        reused_tokens=_count(timings.get("cache_n")),
        completion_tokens=_count(event.get("tokens_predicted")),
    )


def _read_openai(event: Mapping[str, Any]) -> Part:
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    choice = choice if isinstance(choice, Mapping) else {}
    text, ended = choice.get("text"), choice.get("finish_reason")
    reason: Reason | None = None
    if ended is not None:
        by_text = isinstance(choice.get("stop_reason"), str)
        reason = "length" if ended == "length" else "text" if by_text else "end"
    usage = event.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    details = usage.get("prompt_tokens_details")
    return Part(
        text=text if isinstance(text, str) else "",
        reason=reason,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        reused_tokens=_count(details.get("cached_tokens"))
        if isinstance(details, Mapping)
        else None,
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _touches(forced: str, stop: str) -> bool:
    """Whether the server would find a stop text in what is forced, or begin to."""
    return stop in forced or any(
        stop.startswith(forced[at:]) for at in range(max(0, len(forced) - len(stop)), len(forced))
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
