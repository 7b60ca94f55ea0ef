"""The table of measured routes: for each language of a repository, who answers best.

``adapt`` writes it when its adapters are made; the router reads it at each request. It is only
believed while the versions that were measured are the active ones, so whoever activates, rolls
back or removes a version need not know of it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from flex_assist.adapters.registry import NAME, VERSION
from flex_assist.adapters.schema import upgraded
from flex_assist.errors import DataError
from flex_assist.files import write_json_atomically
from flex_assist.language import BY_NAME, LANGUAGES

FILE_NAME = "routes.json"
SCHEMA = 1
# The least schema whose readers can use what is written now.
READABLE_FROM = 1
BASE = "base"
SHARED = "shared"
# Joins the names of adapters that are added.
PLUS = "+"
# The table of all languages takes some 10 KB.
MAX_FILE_BYTES = 1 << 20
Interval = tuple[float, float]
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who might answer for a language.

    Attributes:
        name: ``base``, an adapter's name, or ``shared+`` one: both added.
        versions: The adapters in it and their versions.
        bits_per_byte: On held-back code of the language; None where nothing was measured.
        ci95: Interval of the difference to the base, in bits per byte.
    """

    name: str
    versions: Mapping[str, str]
    bits_per_byte: float | None = None
    ci95: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRoute:
    """What was found for one language.

    Attributes:
        choice: Name of a candidate.
        reason: One sentence for people, with numbers.
    """

    choice: str
    reason: str
    candidates: tuple[Candidate, ...]

    def versions(self) -> dict[str, str]:
        """All adapters that were candidates, and their versions."""
        return {name: v for one in self.candidates for name, v in one.versions.items()}

    def chosen(self) -> Candidate:
        """The candidate that answers."""
        return next(one for one in self.candidates if one.name == self.choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The routes of one repository, by language."""

    base_model: str
    base_sha256: str
    routes: Mapping[str, MeasuredRoute]

    def with_earlier(self, earlier: "RouteTable | None") -> "RouteTable":
        """This, and what an earlier table of the same base says of other languages."""
        if earlier is None or earlier.base_sha256 != self.base_sha256:
            return self
        return replace(self, routes={**earlier.routes, **self.routes})


def adapters_for(language: str) -> tuple[str, ...]:
    """Names of the adapters that may answer for a language: its own, shared, related ones."""
    own = BY_NAME.get(language)
    related = [one.name for one in LANGUAGES if own and one.family == own.family and one != own]
    return (language, SHARED, *related)


def write(table: RouteTable, folder: Path) -> None:
    """Replace the table in a repository's folder of adapters."""
    write_json_atomically(
        folder / FILE_NAME, {"schema": SCHEMA, "readable_from": READABLE_FROM, **asdict(table)}
    )


def read(folder: Path) -> RouteTable | None:
    """The table in a repository's folder of adapters; None without one.

    Raises:
        DataError: It is damaged; TooNewError if only newer readers understand it.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        record = _typed(json.loads(data) if len(data) <= MAX_FILE_BYTES else None, dict)
        return _table(upgraded(record, SCHEMA, {}, path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read ({error!r}); run `flex-assist adapt` again"
        ) from error


def _table(record: dict[str, Any]) -> RouteTable:
    return RouteTable(
        base_model=_typed(record["base_model"], str),
        base_sha256=_typed(record["base_sha256"], str),
        routes={
            _name(language): _route(_typed(one, dict))
            for language, one in _typed(record["routes"], dict).items()
        },
    )


def _route(record: dict[str, Any]) -> MeasuredRoute:
    candidates = tuple(_candidate(_typed(one, dict)) for one in _typed(record["candidates"], list))
    choice = _typed(record["choice"], str)
    if choice not in {one.name for one in candidates}:
        raise ValueError(f"the choice {choice!r} is no candidate")
    return MeasuredRoute(choice=choice, reason=_typed(record["reason"], str), candidates=candidates)


def _candidate(record: dict[str, Any]) -> Candidate:
    name, versions = _typed(record["name"], str), _typed(record["versions"], dict)
    parts = [] if name == BASE else name.split(PLUS)
    if sorted(versions) != sorted(parts) or not all(map(NAME.fullmatch, parts)):
        raise ValueError(f"{name!r} does not consist of {sorted(versions)!r}")
    for version in versions.values():
        if not VERSION.fullmatch(_typed(version, str)):
            raise ValueError(f"{version!r} is no version")
    ci95 = record["ci95"]
    if ci95 is not None and len(_typed(ci95, list)) != 2:
        raise ValueError(f"{ci95!r} is no interval")
    return Candidate(
        name=name,
        versions=versions,
        bits_per_byte=None if record["bits_per_byte"] is None else _number(record["bits_per_byte"]),
        ci95=(_number(ci95[0]), _number(ci95[1])) if ci95 is not None else None,
    )


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no language")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _typed(value: object, kind: type[Kind]) -> Kind:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
