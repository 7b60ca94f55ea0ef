"""The main job on real input: adapt a repository, then complete in files it has not seen.

Without ``--repo`` the repository is the source of a published package that is installed here.
"""

import argparse
import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from flex_assist import config
from flex_assist.complete.context import RepositoryContext
from flex_assist.complete.request import Completion, CompletionRequest
from flex_assist.complete.service import CompletionService
from flex_assist.engine.choice import open_engine
from flex_assist.evaluate.cases import Case, draw_cases
from flex_assist.evaluate.metrics import edit_similarity, exact_match
from flex_assist.locations import locate
from flex_assist.prompt.retrieval import RepositoryIndex
from flex_assist.repository.snapshot import Snapshot, take_snapshot

PACKAGE = "peft"
FOLDER = Path("demo")
CASES, SHOWN = 40, 6
INTERRUPTED = 130
# After so long no further place is tried.
SECONDS = 150.0
CONTEXT_LINES = 4


def main() -> int:
    """Adapt, complete, compare. Gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", type=Path, help="another repository")
    parser.add_argument("--budget", default="6m", help="time for adapting, e.g. 6m")
    arguments = parser.parse_args()
    console = Console()
    root = arguments.repo.resolve() if arguments.repo else published_package(PACKAGE)
    os.environ.setdefault("FLEX_ASSIST_HOME", str((FOLDER / "home").resolve()))
    console.rule(f"flex-assist adapt {root} --budget {arguments.budget}")
    command = [sys.executable, "-m", "flex_assist", "adapt", str(root)]
    code = subprocess.run([*command, "--budget", arguments.budget], check=False).returncode
    if code not in (0, 3):
        return code
    console.rule("completions in held-out files, before and after")
    settings = config.load(locate(), root)
    snapshot = take_snapshot(root, settings.mining, seed=settings.training.seed)
    cases = draw_cases(snapshot.test, CASES, settings.training.seed)
    try:
        asyncio.run(compare(console, root, snapshot, cases))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


async def compare(console: Console, root: Path, snapshot: Snapshot, cases: list[Case]) -> None:
    """Show the first places as they are completed, count the others, and sum up."""
    done: list[tuple[Case, Completion, Completion]] = []
    try:
        with console.status("loading the model") as status:
            async for case, before, after in complete(root, snapshot, cases):
                done.append((case, before, after))
                if len(done) <= SHOWN:
                    show(console, case, before, after)
                status.update(f"{len(done)} of {len(cases)} places completed, before and after")
    finally:
        # After Ctrl-C too.
        if done:
            summarize(console, *(list(column) for column in zip(*done, strict=True)))


def published_package(name: str) -> Path:
    """A copy of an installed package's source, as a repository of its own."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {name!r} is not installed; run make setup")
    source = Path(next(iter(spec.submodule_search_locations)))
    target = (FOLDER / name).resolve()
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")
    shutil.copytree(source, target / name, ignore=ignored)
    return target


async def complete(
    root: Path, snapshot: Snapshot, cases: list[Case]
) -> AsyncIterator[tuple[Case, Completion, Completion]]:
    """Completions of the base and of the adapted model, as an editor would get them.

    Retrieval sees the training part only: the answers are in the held-out files.
    """
    locations = locate()
    settings = config.load(locations, root)
    engine = open_engine(locations, settings)
    service = CompletionService(
        engine=engine,
        settings=settings,
        locations=locations,
        root=root,
        context=RepositoryContext(root, settings, RepositoryIndex(snapshot.train)),
    )
    started_s = time.monotonic()
    try:
        for case in cases:
            if time.monotonic() - started_s > SECONDS:
                break
            before, after = [
                await service.complete(
                    CompletionRequest(
                        before=case.before,
                        after=case.after,
                        path=case.document.path,
                        adapter=adapter,
                    )
                )
                for adapter in ("none", "auto")
            ]
            yield case, before, after
    finally:
        await engine.stop_host()
        await engine.close()


def show(console: Console, case: Case, before: Completion, after: Completion) -> None:
    """One place: what stands before the cursor, and what each wrote there."""
    lines = "\n".join(case.before.split("\n")[-CONTEXT_LINES:])
    console.print(Syntax(lines + "▮", case.document.language, theme="ansi_dark", word_wrap=True))
    table = Table(expand=True, title=case.document.path, title_justify="left")
    for heading in ("what stood there", "base model", f"adapted ({after.adapter})"):
        table.add_column(heading, ratio=1, overflow="fold")
    cells = [case.middle, before.text, after.text]
    table.add_row(*(Syntax(text.strip("\n") or " ", case.document.language, theme="ansi_dark")
                    for text in cells))  # fmt: skip
    console.print(table)
    console.print()


def summarize(
    console: Console, cases: list[Case], before: list[Completion], after: list[Completion]
) -> None:
    """The figures over all places."""
    table = Table(title=f"{len(cases)} places in held-out files")
    for heading in ("", "exact match", "edit similarity", "median ms"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, answers in (("base model", before), ("adapted", after)):
        pairs = [(got.text, case.middle) for got, case in zip(answers, cases, strict=True)]
        exact = sum(exact_match(*pair) for pair in pairs) / len(pairs)
        similar = sum(edit_similarity(*pair) for pair in pairs) / len(pairs)
        times = sorted(answer.timings_ms["total"] for answer in answers)
        table.add_row(name, f"{exact:.1%}", f"{similar:.3f}", f"{times[len(times) // 2]:.0f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
