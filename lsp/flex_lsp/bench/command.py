"""The command ``bench latency``. Light: what it needs comes when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flex_assist.cli.output import JSON_HELP, print_json, print_table
from flex_assist.errors import ConfigError
from flex_assist.locations import locate

ROWS = {
    "p50_ms": "model call p50, ms",
    "p95_ms": "model call p95, ms",
    "p99_ms": "model call p99, ms",
    "waited_p50_ms": "waited for: p50, ms",
    "waited_p95_ms": "waited for: p95, ms",
    "prefill_p50_ms": "of it prompt p50, ms",
    "decode_p50_ms": "of it answer p50, ms",
    "shown_p50_ms": "key to shown p50, ms",
    "shown_p95_ms": "key to shown p95, ms",
    "shown_p99_ms": "key to shown p99, ms",
    "shown": "shown",
    "model_calls": "model calls",
    "calls_ahead": "of them ahead",
    "calls_cancelled": "of them given up",
    "cache_hits": "cache hits",
    "tokens_computed": "tokens computed",
    "cpu_s": "CPU seconds",
    "others_cpu_s": "CPU seconds of all else on the machine",
    "accepted": "accepted",
    "accepted_characters": "accepted characters",
    "accepted_characters_per_s": "accepted characters a second",
    "seconds": "seconds",
}


def latency(
    model: Annotated[
        Path | None,
        typer.Option(help="GGUF file with infilling tokens; by default the merged file of --repo"),
    ] = None,
    repo: Annotated[
        Path, typer.Option(help="repository whose active adapter's merged file is taken")
    ] = Path(),
    trace: Annotated[Path | None, typer.Option(help="another typing trace, JSON")] = None,
    seconds: Annotated[
        float, typer.Option(help="only the beginning of the trace; 0 takes all", min=0)
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="of either engine; 0 takes all cores", min=0)] = 0,
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="measure llama.cpp's server too")
    ] = True,
    llama_server: Annotated[
        Path | None, typer.Option(help="a llama-server of your own, instead of the package's")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Types a recorded trace against ours and against llama.cpp's server, driven as llama.vim does.

    In real time, one after the other: about three minutes each. The server comes with the extra
    `peers`.
    """
    from flex_assist.engine.pool import available_threads
    from flex_lsp.bench import server
    from flex_lsp.bench.latency import LatencyBench, run
    from flex_lsp.bench.trace import FOLDER, read

    if peer and llama_server is None:
        server.check_installed()
    events = read(trace or FOLDER / "history.json")
    bench = LatencyBench(
        model=_model(model, repo),
        trace=events.shortened(seconds) if seconds else events,
        threads=threads or available_threads(),
        peer=peer,
        server=llama_server,
    )
    found = run(bench)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _model(model: Path | None, repo: Path) -> Path:
    from flex_assist.adapters.manifest import MERGED_GGUF
    from flex_assist.adapters.registry import Registry

    if model is not None:
        if not model.is_file():
            raise ConfigError(f"{str(model)!r} is not there; give a GGUF file")
        return model.resolve()
    registry = Registry(locate(), repo)
    for name in registry.names():
        version = registry.active(name)
        if version is not None and (version.folder / MERGED_GGUF).is_file():
            return version.folder / MERGED_GGUF
    raise ConfigError(
        f"{str(repo)!r} has no active adapter with a merged file; give --model FILE, or adapt it"
    )


def _print(found: dict[str, Any]) -> None:
    sides = [name for name in ("ours", "peer") if found[name]]
    print_table(
        ["", *sides],
        [[text, *(_shown(found[side][key]) for side in sides)] for key, text in ROWS.items()],
    )
    for side in sides:
        speed = " ".join(f"{key}={value}" for key, value in found[side]["raw"].items())
        print(f"raw {side}: {speed}")
    for name, value in (found["ratio"] or {}).items():
        print(f"ratio {name}: {_shown(value)}")
    print(
        f"switching adapters p95: {found['switch_p95_ms']} ms on top of an answer, which is "
        f"{found['stay_p95_ms']} ms above its median at p95"
    )


def _shown(value: object) -> str:
    return "-" if value is None else str(value)
