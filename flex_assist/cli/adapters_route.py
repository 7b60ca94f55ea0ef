"""``flex-assist adapters route``: who answers for each language, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, print_table, printable
from flex_assist.complete.root import root_of
from flex_assist.locations import locate

if TYPE_CHECKING:
    from flex_assist.adapters.router import Router


def route(
    repo: Annotated[Path, typer.Option(help="the repository")] = Path(),
    language: Annotated[
        list[str] | None, typer.Option(help="a language; may be given several times")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Show which adapter answers for each language, and why.

    Bits per byte are of held-back code of the language: the fewer, the better.
    """
    from flex_assist.adapters.router import Router

    locations = locate()
    root = root_of(repo, locations)
    router = Router(locations, root, config.load(locations, root).model.base)
    records = [_record(router, name) for name in language or router.languages()]
    if as_json:
        print_json({"routes": records})
        return
    if not records:
        print("no adapter answers here; run `flex-assist adapt`")
        return
    rows = [(one["language"], one["choice"], _figures(one["candidates"])) for one in records]
    print_table(("language", "choice", "bits per byte, where measured"), rows)
    for one in records:
        print(printable(f"{one['language']}: {one['reason']}"))


def _record(router: "Router", language: str) -> dict[str, Any]:
    found = router.route(language)
    return {
        "language": language,
        "choice": found.name,
        "reason": found.reason,
        "adapters": [str(path) for path in found.adapters],
        "candidates": [
            {
                "name": one.name,
                "bits_per_byte": one.bits_per_byte,
                "ci95": one.ci95,
                "versions": dict(one.versions),
            }
            for one in router.candidates(language)
        ],
    }


def _figures(candidates: list[dict[str, Any]]) -> str:
    known = [one for one in candidates if one["bits_per_byte"] is not None]
    told = [f"{one['name']} {one['bits_per_byte']:.3f}" for one in known]
    return ", ".join(told) or "not measured"
