"""``flex-assist adapters forget``. Light to import: models come when the command runs."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flex_assist import config
from flex_assist.cli.output import JSON_HELP, print_json, print_table, say
from flex_assist.complete.root import root_of
from flex_assist.config import Settings
from flex_assist.errors import DataError
from flex_assist.locations import Locations, locate
from flex_assist.processes import own_command
from flex_trainer.cli import EXIT_NOTHING_PROMOTED

if TYPE_CHECKING:
    from flex_assist.adapters.traces import Trace
    from flex_assist.repository.documents import Document
    from flex_trainer.forget import Removed
    from flex_trainer.forget_proof import Proof

Bits = dict[str, float | None]


def command(
    paths: Annotated[list[str], typer.Argument(help="files or folders of the repository")],
    repo: Annotated[Path, typer.Option(help="the repository")] = Path(),
    budget: Annotated[
        str | None, typer.Option(help="time for training anew, e.g. 90s, 8m, 1h")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="train the affected adapters anew")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show which adapter versions would go")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="let these paths be learnt again by the next run")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Forget files: delete every adapter that knows them, train anew without, and prove it."""
    locations = locate()
    root = root_of(repo, locations).resolve()
    settings = config.load(locations, root, {"training.budget": budget})
    from flex_trainer import forget

    names = list(dict.fromkeys(forget.relative(path, root) for path in paths))
    if undo:
        forget.remember(names, root, locations)
        say(f"to be learnt again by the next run: {', '.join(names)}")
        return
    if dry_run:
        _preview(forget.traces_of(names, root, settings, locations), as_json)
        return
    gone, left = _texts(names, root, settings)
    before = _bits(gone, root, settings, locations)
    removed = forget.forget(names, root, settings, locations)
    _tell(removed)
    trained = _train(removed, root, settings) if train and removed.languages else None
    from flex_trainer.forget_proof import own_lines, prove

    proof = prove(root, locations, own_lines(gone, left))
    after = _bits(gone, root, settings, locations)
    if as_json:
        record = {
            **asdict(removed),
            "languages": removed.languages,
            "proof": {**asdict(proof), "holds": proof.holds, "bits_per_byte": [before, after]},
            "alike": _alike(gone, left),
            "adapt": trained,
        }
        print_json(record)
    else:
        for path in _alike(gone, left):
            say(f"nearly the same, and not forgotten: {path}")
        _show(proof, before, after, trained)
    raise typer.Exit(0 if proof.holds else 1)


def _preview(found: "Sequence[Trace]", as_json: bool) -> None:
    if as_json:
        print_json({"traces": [asdict(one) for one in found]})
        return
    rows = [(one.name, one.version, ", ".join(one.languages)) for one in found]
    print_table(("adapter", "version", "languages to train anew"), rows)


def _texts(
    names: Sequence[str], root: Path, settings: Settings
) -> "tuple[list[Document], list[Document]]":
    """The documents below ``names``, and all others."""
    from flex_assist.repository.forgotten import Forgotten
    from flex_assist.repository.snapshot import read_documents

    wanted = Forgotten(paths={name: frozenset() for name in names})
    documents = read_documents(root, settings.mining)
    gone = [one for one in documents if wanted.has_path(one.path)]
    return gone, [one for one in documents if not wanted.has_path(one.path)]


def _alike(gone: "Sequence[Document]", left: "Sequence[Document]") -> list[str]:
    """Files that say nearly the same as what is forgotten."""
    from flex_assist.repository.duplicates import exact_matches

    pairs = exact_matches([one.text for one in gone], [one.text for one in left])
    return sorted({left[number].path for _, number in pairs})


def _bits(gone: "Sequence[Document]", root: Path, settings: Settings, locations: Locations) -> Bits:
    """Bits per byte of the forgotten text: for the base, and for what answers for its language."""
    import asyncio

    from flex_assist.adapters.router import Router
    from flex_assist.engine.local import LocalEngine
    from flex_assist.engine.protocol import Weights
    from flex_assist.models import store
    from flex_trainer.forget_proof import bits_per_byte

    if not gone:
        return {}
    model = store.serving_path(settings.model.base, locations)
    language = gone[0].language
    texts = [one for one in gone if one.language == language]
    route = Router(locations, root, settings.model.base).route(language)

    async def measure() -> Bits:
        engine = LocalEngine(settings.engine)
        try:
            found: Bits = {"base": await bits_per_byte(engine, Weights(model=model), texts)}
            if route.adapters:
                found[route.name] = await bits_per_byte(engine, route.weights(model), texts)
            return found
        finally:
            await engine.close()

    return asyncio.run(measure())


def _train(removed: "Removed", root: Path, settings: Settings) -> dict[str, Any]:
    """Adapt the affected languages, in a process of its own."""
    command = own_command("flex_assist", "adapt", str(root), "--json")
    command += ["--budget", settings.training.budget]
    command += [part for name in removed.languages for part in ("--language", name)]
    say(f"training anew: {', '.join(removed.languages)} ({settings.training.budget})")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, EXIT_NOTHING_PROMOTED):
        # What is gone is gone; only the new adapters are missing.
        raise DataError(
            f"{', '.join(removed.paths)}: forgotten, and all that knew of it is deleted; but "
            "training anew failed (see above), so the base model answers. Run `flex-assist adapt`"
        )
    return dict(json.loads(done.stdout))


def _tell(removed: "Removed") -> None:
    count = len(removed.traces)
    say(
        f"forgotten: {', '.join(removed.paths)}; deleted {count} adapter "
        f"version{'' if count == 1 else 's'}"
        + (" and the checkpoints of an unfinished run" if removed.checkpoints else "")
        + (f"; the base answers for {', '.join(removed.active)}" if removed.active else "")
    )


def _show(proof: "Proof", before: Bits, after: Bits, trained: dict[str, Any] | None) -> None:
    lines = f"for {proof.lines} of its lines" if proof.lines else "(no text left to look for)"
    print(f"versions that know it   {', '.join(proof.versions) or 'none'}")
    print(f"files searched          {proof.files_searched} {lines}")
    print(f"files that quote it     {', '.join(proof.quoted_in) or 'none'}")
    for when, found in (("before", before), ("now", after)):
        shown = ", ".join(f"{name} {bits:.3f}" for name, bits in found.items() if bits is not None)
        if shown:
            print(f"bits per byte {when:9} {shown}")
    if trained is not None:
        for name, found in trained["languages"].items():
            print(f"{name:<23} {found['reason']}")
    if any(name != "base" for name in after):
        print("What is still known of it is what other files say alike.")
    if proof.quoted_in:
        print("A chat quotes it: delete that conversation, then run this again.")
