"""What starts light stays light: nothing heavy is loaded before it is needed."""

import importlib
import pkgutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

import flex_assist

PROGRAM = Path(sys.executable).with_name("flex-assist")
HEAVY = (
    "torch", "transformers", "peft", "pygls", "lsprotocol", "textual", "llama_cpp", "numpy", "gguf",
    "bm25s", "datasketch", "detect_secrets", "huggingface_hub", "tree_sitter",
)  # fmt: skip
HELP_MS = 300
# Other processes may be at work; the number is printed.
UNDER_LOAD = 3


def loaded(code: str) -> set[str]:
    """Names of the heavy packages that are loaded after ``code``."""
    report = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(eval(done.stdout.splitlines()[-1], {"__builtins__": {}}))


@pytest.mark.parametrize(
    "code",
    [
        "import flex_assist",
        "from flex_assist.cli.main import build; build()",
        "from typer.testing import CliRunner; from flex_assist.cli.main import build\n"
        "assert CliRunner().invoke(build(), ['--help']).exit_code == 0",
        "from typer.testing import CliRunner; from flex_assist.cli.main import build\n"
        "assert CliRunner().invoke(build(), ['adapt', '--help']).exit_code == 0",
        "from typer.testing import CliRunner; from flex_assist.cli.main import build\n"
        "assert CliRunner().invoke(build(), ['bench', 'train', '--help']).exit_code == 0",
        "import flex_assist.complete.service, flex_assist.engine.client, flex_assist.config",
    ],
    ids=["package", "commands", "help", "adapt-help", "bench-help", "front-end"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded(code) == set()


def test_the_commands_load_no_event_loop() -> None:
    program = "import sys; from flex_assist.cli.main import build; build()"
    check = "assert 'asyncio' not in sys.modules; assert 'ssl' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"{program}; {check}"], check=True)


def test_the_check_itself_sees_what_is_loaded() -> None:
    assert loaded("import numpy") == {"numpy"}


def test_help_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    times_ms = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([PROGRAM, "--help"], capture_output=True, check=True)
        times_ms.append((time.perf_counter() - started) * 1000)
    median_ms = statistics.median(times_ms)
    with capsys.disabled():
        print(f"\nflex-assist --help: {median_ms:.0f} ms (median of 5; to be below {HELP_MS})")
    assert median_ms < HELP_MS * UNDER_LOAD


def test_the_program_and_the_module_are_the_same() -> None:
    arguments = ["--version"]
    one = subprocess.run([PROGRAM, *arguments], capture_output=True, check=True)
    two = subprocess.run(
        [sys.executable, "-m", "flex_assist", *arguments], capture_output=True, check=True
    )
    assert one.stdout == two.stdout == f"flex-assist {flex_assist.__version__}\n".encode()


def modules() -> list[str]:
    roots = ("flex_assist", "flex_trainer", "flex_lsp", "flex_tui")
    names = []
    for root in roots:
        package = importlib.import_module(root)
        names += [root, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{root}."))]
    return [name for name in names if not name.endswith("__main__")]


def test_every_all_is_true() -> None:
    code = "\n".join(
        [
            "import importlib, warnings",
            f"for name in {modules()!r}:",
            "    module = importlib.import_module(name)",
            "    names = list(getattr(module, '__all__', []))",
            "    assert len(names) == len(set(names)), name",
            "    missing = [one for one in names if not hasattr(module, one)]",
            "    assert not missing, (name, missing)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_errors_module_exports_every_error() -> None:
    module: ModuleType = importlib.import_module("flex_assist.errors")
    errors = {name for name, value in vars(module).items() if isinstance(value, type)}
    assert errors == set(module.__all__)
