"""``flex-assist bench``: measure."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from flex_assist import config, language
from flex_assist.cli.output import JSON_HELP, print_json, say
from flex_assist.config import Settings
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import Locations, locate

FIELDS = ("id", "path", "language", "prefix", "suffix", "middle")


def group() -> typer.Typer:
    """The group with the core's own command; products add theirs (``flex_assist.bench``)."""
    app = typer.Typer(no_args_is_help=True, help="Measure.")
    app.callback()(_group)
    app.command("completions")(completions)
    return app


def _group() -> None:
    """Measure."""


def completions(
    cases: Annotated[Path, typer.Option(help="cases, JSON lines, .gz or not")],
    out: Annotated[Path | None, typer.Option(help="write the completions here, JSON lines")] = None,
    adapter: Annotated[str, typer.Option(help="auto, none, or the name of an adapter")] = "auto",
    repo: Annotated[
        Path | None, typer.Option(help="repository whose adapters and files are used")
    ] = None,
    limit: Annotated[int, typer.Option(help="only so many cases; 0 takes all", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Complete at given cursors and compare with what stood there."""
    import asyncio

    if repo is not None and not repo.is_dir():
        raise ConfigError(f"{str(repo)!r} is not a folder; give the folder of a repository")
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"{str(out)!r} cannot be written: make its folder first")
    records = read_cases(cases)
    records = records[:: max(1, len(records) // limit)][:limit] if limit else records
    locations = locate()
    settings = config.load(locations, repo)
    answers = asyncio.run(_answer(records, settings, locations, repo, adapter))
    if out is not None:
        with _open(out, "wt") as file:
            for answer in answers:
                file.write(json.dumps(answer) + "\n")
    summary = summarize(records, [answer["completion"] for answer in answers])
    if as_json:
        print_json(summary)
    else:
        for kind, found in summary["kinds"].items():
            print(
                f"{kind:16} {found['cases']:5} cases  exact match {found['exact_match']:.3f}  "
                f"edit similarity {found['edit_similarity']:.3f}"
            )


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Cases of a file.

    Raises:
        DataError: The file is missing or empty, or a line is not a case; names the line.
    """
    try:
        with _open(path, "rt") as file:
            records = list(_records(path, file))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    if not records:
        raise DataError(f"{str(path)!r} has no cases; give a file of JSON lines")
    return records


def _records(path: Path, file: IO[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number} is not JSON: {error}") from error
        missing = [key for key in FIELDS if not isinstance(record, dict) or key not in record]
        if missing:
            raise DataError(f"{path}:{number} has no {missing[0]!r}")
        wrong = [key for key in FIELDS[1:] if not isinstance(record[key], str)]
        if wrong:
            raise DataError(f"{path}:{number}: {wrong[0]!r} is {record[wrong[0]]!r}, not a text")
        yield record


def summarize(records: Sequence[dict[str, Any]], texts: Sequence[str]) -> dict[str, Any]:
    """Exact match and edit similarity, by kind and for all cases."""
    from flex_assist.evaluate.metrics import edit_similarity, exact_match

    groups: dict[str, list[int]] = {"all": list(range(len(records)))}
    for at, record in enumerate(records):
        groups.setdefault(str(record.get("kind", "other")), []).append(at)
    kinds = {}
    for kind, members in groups.items():
        pairs = [(texts[at], str(records[at]["middle"])) for at in members]
        size = max(1, len(pairs))
        kinds[kind] = {
            "cases": len(pairs),
            "exact_match": round(sum(exact_match(*pair) for pair in pairs) / size, 4),
            "edit_similarity": round(sum(edit_similarity(*pair) for pair in pairs) / size, 4),
        }
    return {"kinds": kinds}


def _open(path: Path, mode: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8")


async def _answer(
    records: Sequence[dict[str, Any]],
    settings: Settings,
    locations: Locations,
    root: Path | None,
    adapter: str,
) -> list[dict[str, Any]]:
    from flex_assist.complete.request import CompletionRequest
    from flex_assist.complete.service import CompletionService
    from flex_assist.engine.choice import open_engine

    engine = open_engine(locations, settings)
    service = CompletionService(engine=engine, settings=settings, locations=locations, root=root)
    answers = []
    try:
        await service.warm(None, adapter)
        for number, record in enumerate(records, start=1):
            known = language.BY_NAME.get(record["language"])
            started = time.perf_counter()
            found = await service.complete(
                CompletionRequest(
                    before=record["prefix"],
                    after=record["suffix"],
                    path=record["path"],
                    language_id=known.lsp_ids[0] if known else None,
                    adapter=adapter,
                )
            )
            latency_ms = (time.perf_counter() - started) * 1000
            answers.append(
                {
                    "id": record["id"],
                    "completion": found.text,
                    "adapter": found.adapter,
                    "latency_ms": round(latency_ms, 1),
                    "notes": list(found.notes),
                }
            )
            if number % 25 == 0:
                say(f"{number} of {len(records)} cases")
    finally:
        await engine.close()
    return answers
