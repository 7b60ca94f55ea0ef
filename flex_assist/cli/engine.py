"""``flex-assist engine``: the process that holds the model."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from flex_assist.cli.output import JSON_HELP, print_json, printable
from flex_assist.config import EngineSettings
from flex_assist.locations import locate

app = typer.Typer(no_args_is_help=True, help="The engine host.")
AsJson = Annotated[bool, typer.Option("--json", help=JSON_HELP)]


@app.callback()
def _group() -> None:
    """The engine host."""


@app.command("status")
def status(as_json: AsJson = False) -> None:
    """Show whether the engine host runs, and what it holds."""
    found = _with_engine(lambda engine: engine.host_status())
    record = {"running": found is not None, **(found or {})}
    if as_json:
        print_json(record)
    elif found is None:
        print("not running; it starts with the first completion")
    else:
        print(
            f"running, process {found.get('process')}, since {found.get('uptime_s', 0):.0f} s, "
            f"idle for {found.get('idle_s', 0):.0f} s of {found.get('idle_exit_s', 0):.0f}"
        )
        for kind in ("models", "contexts"):
            for item in found.get(kind, []):
                print(f"  {kind[:-1]:8} {item}")
        for item in found.get("forms", []):
            adapters = ", ".join(item["adapters"])
            print(printable(f"  form     {item['form']} for {adapters}: {item['why']}"))


@app.command("stop")
def stop(as_json: AsJson = False) -> None:
    """Stop the engine host. What it was asked is asked of the next one, or ends with an error."""
    stopped = _with_engine(lambda engine: engine.stop_host())
    if as_json:
        print_json({"stopped": stopped})
    else:
        print("stopped; the next completion starts it again" if stopped else "not running")


def _with_engine(call: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    import asyncio

    from flex_assist.engine.client import HostEngine

    async def run() -> Any:
        # Neither starts a host, and so neither needs settings: stopping one is what to do after
        # changing them, also where they cannot be read.
        engine = HostEngine(locate(), EngineSettings())
        try:
            return await call(engine)
        finally:
            await engine.close()

    return asyncio.run(run())
