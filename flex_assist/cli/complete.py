"""``flex-assist complete PATH:LINE:COLUMN``: the completion that an editor would get there."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flex_assist import config, language
from flex_assist.cli.output import JSON_HELP, print_json, say
from flex_assist.complete.root import find_root
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate

if TYPE_CHECKING:
    from flex_assist.complete.request import Completion, CompletionRequest

_FROM_ONE = re.compile(r"0*[1-9][0-9]{0,8}")


def command(
    place: Annotated[
        str, typer.Argument(metavar="PATH:LINE:COLUMN", help="the cursor; both count from 1")
    ],
    language_name: Annotated[
        str | None, typer.Option("--language", help="language, if the file name does not say it")
    ] = None,
    adapter: Annotated[str, typer.Option(help="auto, none, or the name of an adapter")] = "auto",
    stdin: Annotated[
        bool, typer.Option("--stdin", help="read the text from standard input, not from PATH")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="also tell why: prompt, files, adapter, filters, time")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Complete at a cursor and print what an editor would show."""
    import asyncio

    from flex_assist.complete import why
    from flex_assist.complete.request import CompletionRequest

    path, line, column = parse_place(place)
    if language_name is not None and language_name not in language.BY_NAME:
        known = ", ".join(sorted(language.BY_NAME))
        raise ConfigError(f"unknown language {language_name!r}; known: {known}")
    text = _decode(sys.stdin.buffer.read(), "standard input") if stdin else _read(path)
    offset = offset_of(text, line, column)
    request = CompletionRequest(
        before=text[:offset],
        after=text[offset:],
        path=str(path.absolute()),
        language_id=_language_id(language_name),
        adapter=adapter,
        trigger="invoked",
    )
    completion = asyncio.run(_complete(request, path))
    if as_json:
        told = {"explanation": why.as_data(completion)} if explain else {}
        print_json(as_dict(completion) | told)
    else:
        print(completion.text)
        if explain:
            say("\n".join(why.lines(completion)))
        elif not completion.text:
            made = completion.explanation
            reason = (made.nothing if made is not None else "") or "--explain tells more"
            say(f"nothing is suggested here: {reason}")
    if completion.warning:
        say(completion.warning)


def as_dict(completion: "Completion") -> dict[str, object]:
    """A completion as the command line's contract has it."""
    return {
        "completion": completion.text,
        "language": completion.language,
        "adapter": completion.adapter,
        "reason": completion.reason,
        "form": completion.form,
        "source": completion.source,
        "timings_ms": completion.timings_ms,
        "prompt_tokens": completion.prompt_tokens,
        "reused_tokens": completion.reused_tokens,
        "completion_tokens": completion.completion_tokens,
        "notes": list(completion.notes),
    }


def parse_place(place: str) -> tuple[Path, int, int]:
    """Split ``PATH:LINE:COLUMN``; the path may have colons.

    Raises:
        ConfigError: It is not of that form.
    """
    path, line, column = (*place.rsplit(":", 2), "", "")[:3]
    if not path or not _FROM_ONE.fullmatch(line) or not _FROM_ONE.fullmatch(column):
        raise ConfigError(f"{place!r} is not PATH:LINE:COLUMN, e.g. src/app.py:12:5 (from 1)")
    return Path(path), int(line), int(column)


def offset_of(text: str, line: int, column: int) -> int:
    """Characters before a place that counts from 1.

    Raises:
        ConfigError: The text has fewer lines, or the line fewer characters.
    """
    lines = text.split("\n")
    if line > len(lines):
        raise ConfigError(f"line {line} is past the end; the text has {len(lines)} lines")
    own = lines[line - 1].removesuffix("\r")
    if column > len(own) + 1:
        raise ConfigError(
            f"column {column} is past the end; line {line} ends at column {len(own) + 1}"
        )
    return sum(len(one) + 1 for one in lines[: line - 1]) + column - 1


def _language_id(name: str | None) -> str | None:
    return language.BY_NAME[name].lsp_ids[0] if name else None


def _read(path: Path) -> str:
    # A pipe would be waited for; a folder gets the system's own words.
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{str(path)!r} is not a file; name one, or use --stdin")
    try:
        return _decode(path.read_bytes(), repr(str(path)))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text: convert it, or take another") from error


async def _complete(request: "CompletionRequest", path: Path) -> "Completion":
    from flex_assist.complete.region import at_cursor
    from flex_assist.complete.service import CompletionService
    from flex_assist.engine.choice import open_engine

    locations = locate()
    root = find_root(path, locations)
    settings = config.load(locations, root)
    engine = open_engine(locations, settings)
    try:
        service = CompletionService(
            engine=engine, settings=settings, locations=locations, root=root
        )
        region = at_cursor(
            request.before, request.after, path=request.path, language_id=request.language_id
        )
        found = (region.outer or region).language
        await service.warm(found.name if found else None, request.adapter)
        return await service.complete(request)
    finally:
        await engine.close()
