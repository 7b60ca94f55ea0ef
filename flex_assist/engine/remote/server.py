"""What a server is and has: its make, its models and adapters, and whether its tokens are ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final, Literal

from flex_assist.engine.protocol import Weights
from flex_assist.engine.remote.faults import KEY_REFUSED, Misfit, RemoteFault, key_refused
from flex_assist.engine.remote.transport import Transport, shown
from flex_assist.language import BY_NAME
from flex_assist.remote_settings import RemoteSettings

Make = Literal["vllm", "llama.cpp", "other"]
# Cut alike by no two vocabularies that are worth telling apart: letters of several scripts, signs,
# indentation, digits, a line's end.
PROBE: Final = (
    'def größe(x, y=2.5):\n\treturn f"π≈{x!r} 日本語" # naïve 1234567\r\n        if x != y: pass\n'
)
# Earlier builds of llama.cpp use KV again across adapters (issue 26207); this one was seen not to.
APART_SINCE_BUILD: Final = 11549
_NOT_THERE = frozenset({400, 404, 405, 415, 422, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What was found.

    Attributes:
        bases: Models that are no LoRA of another one, as far as the server says.
        loras: llama.cpp's adapters: name to number.
        apart: Whether it keeps the KV of one adapter from another one.
    """

    make: Make
    models: tuple[str, ...]
    bases: tuple[str, ...]
    loras: Mapping[str, int]
    apart: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is to answer.

    Attributes:
        model: The model's name.
        loras: llama.cpp's adapters with their scales; None where it has none.
        label: For people.
        cached: Whether KV of earlier requests may be used again.
    """

    model: str
    loras: tuple[tuple[int, float], ...] | None
    label: str
    cached: bool = True


async def look(transport: Transport, host: str) -> Server:
    """Ask a server what it is.

    Raises:
        RemoteFault: It does not say.
    """
    status, found = await transport.fetch(transport.address("/models"))
    if status in KEY_REFUSED:
        raise key_refused(host, status)
    records = found.get("data") if isinstance(found, dict) else None
    if status != 200 or not isinstance(records, list):
        raise RemoteFault(
            f"{host} has no list of models below {transport.address('/models')!r} ({status}); "
            "url must end where /completions begins, mostly in /v1"
        )
    records = [one for one in records if isinstance(one, dict) and isinstance(one.get("id"), str)]
    owners = {str(one.get("owned_by", "")).lower() for one in records}
    make: Make = "other"
    if "llamacpp" in owners:
        make = "llama.cpp"
    elif "vllm" in owners:
        make = "vllm"
    return Server(
        make=make,
        models=tuple(one["id"] for one in records),
        bases=tuple(one["id"] for one in records if not one.get("parent")),
        loras=await _loras(transport) if make == "llama.cpp" else {},
        apart=make != "llama.cpp" or await _build(transport) >= APART_SINCE_BUILD,
    )


def choose(server: Server, settings: RemoteSettings, weights: Weights) -> Target:
    """Who answers for these weights.

    Raises:
        Misfit: Nobody there can.
    """
    return replace(_chosen(server, settings, weights), cached=server.apart or not server.loras)


def _chosen(server: Server, settings: RemoteSettings, weights: Weights) -> Target:
    if not weights.name:
        return _base(server, settings)
    name = settings.name_of(weights.name, weights.version)
    if name in server.loras:
        scales = tuple((number, float(one == name)) for one, number in server.loras.items())
        return Target(model=server.models[0] if server.models else "", loras=scales, label=name)
    if name in server.models:
        return Target(model=name, loras=_none_of(server), label=name)
    known = ", ".join((*server.loras, *server.models)) or "nothing"
    raise Misfit(
        f"{settings.host} has no adapter {name!r}, only {shown(known)}; serve it there, or set "
        "remote's `adapter` to its name"
    )


async def same_vocabulary(
    transport: Transport, host: str, model: str, ours: list[int]
) -> bool | None:
    """Whether the server cuts ``PROBE`` into the tokens ``ours``; None if it cannot be asked."""
    body = {
        # vLLM's words, then llama.cpp's.
        "model": model, "prompt": PROBE, "add_special_tokens": False,
        "content": PROBE, "add_special": False, "parse_special": False,
    }  # fmt: skip
    status, found = await transport.fetch(transport.address("/tokenize", root=True), body)
    if status in _NOT_THERE:
        return None
    if status in KEY_REFUSED:
        raise key_refused(host, status)
    tokens = found.get("tokens") if isinstance(found, dict) else None
    if status != 200 or not isinstance(tokens, list):
        raise RemoteFault(f"{host} answers {status} when asked for the tokens of a text")
    return tokens == ours


def _base(server: Server, settings: RemoteSettings) -> Target:
    if settings.base:
        if settings.base not in server.models:
            raise Misfit(
                f"{settings.host} has no model {settings.base!r}, only "
                f"{shown(', '.join(server.models))}; set remote's `base`"
            )
        return Target(model=settings.base, loras=_none_of(server), label=settings.base)
    # A merged file is no LoRA of another model, and yet an adapter's.
    adapted = {settings.name_of(name, "") for name in (*BY_NAME, "shared")}
    bases = [name for name in server.bases if name not in adapted]
    if len(bases) != 1:
        raise Misfit(
            f"{settings.host} has {len(bases) or 'no'} models that could be the base, of "
            f"{shown(', '.join(server.models)) or 'none'}; set remote's `base`"
        )
    return Target(model=bases[0], loras=_none_of(server), label=bases[0])


def _none_of(server: Server) -> tuple[tuple[int, float], ...] | None:
    return tuple((number, 0.0) for number in server.loras.values()) or None


async def _loras(transport: Transport) -> dict[str, int]:
    """llama.cpp's adapters by the name of their file, or of its folder where that says nothing."""
    status, found = await transport.fetch(transport.address("/lora-adapters", root=True))
    if status != 200 or not isinstance(found, list):
        return {}
    return {
        _named(one["path"]): one["id"]
        for one in found
        if isinstance(one, dict) and isinstance(one.get("path"), str) and _is_number(one.get("id"))
    }


async def _build(transport: Transport) -> int:
    """The number of llama.cpp's build; 0 where it does not say."""
    _, found = await transport.fetch(transport.address("/props", root=True))
    build = found.get("build_info") if isinstance(found, dict) else None
    number = re.match(r"b?(\d{1,9})(?!\d)", build) if isinstance(build, str) else None
    return int(number[1]) if number else 0


def _named(path: str) -> str:
    pure: Any = PureWindowsPath(path) if "\\" in path else PurePosixPath(path)
    return str(pure.parent.name) if pure.stem == "adapter" and pure.parent.name else str(pure.stem)


def _is_number(value: object) -> bool:
    return type(value) is int
