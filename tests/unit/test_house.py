"""The rules of the house that no tool checks."""

import ast
import re
import tomllib
import warnings
from pathlib import Path

import pytest

import flex_assist

ROOT = Path(__file__).parents[2]
PACKAGES = ("flex_assist", "trainer/flex_trainer", "lsp/flex_lsp", "tui/flex_tui")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
MOST_FUNCTION_LINES, MOST_FILE_LINES = 60, 450
WANTED_FUNCTION_LINES, WANTED_FILE_LINES = 40, 400
# The places where any exception at all may be caught, so that one bad request ends nothing else.
TEXT_FILES = (".py", ".md", ".toml", ".sh", ".lua", ".ts", ".mjs", ".json", ".tcss", ".yml")
# Put together here, so that this file does not hold what it looks for.
FOREIGN = re.compile(
    "|".join(
        [rf"/{'work'}/", rf"{'brief'}/common", rf"\b{'issues'} show\b", rf"/tmp/{'bash'}_jobs"]
    )
)


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]


def shown(found: list[tuple[str, int]]) -> str:
    return "\n".join(f"{size:5} {name}" for name, size in sorted(found, key=lambda one: -one[1]))


def test_the_packages_are_found() -> None:
    assert len(FILES) > 100


def test_functions_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [one for path in FILES for one in functions(path)]
    long = [one for one in sizes if one[1] > WANTED_FUNCTION_LINES]
    if long:
        with capsys.disabled():
            print(f"\nfunctions of more than {WANTED_FUNCTION_LINES} lines:\n{shown(long)}")
    assert not [one for one in long if one[1] > MOST_FUNCTION_LINES]


def test_files_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [(str(p.relative_to(ROOT)), p.read_text("utf-8").count("\n")) for p in FILES]
    long = [one for one in sizes if one[1] > WANTED_FILE_LINES]
    if long:
        with capsys.disabled():
            print(f"\nfiles of more than {WANTED_FILE_LINES} lines:\n{shown(long)}")
    assert not [one for one in long if one[1] > MOST_FILE_LINES]


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = ast.parse(text)
    assert not imported(tree) & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                assert not (keyword.arg == "shell" and value), f"{path}:{node.lineno}"
                assert not (keyword.arg == "trust_remote_code" and value), f"{path}:{node.lineno}"
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "os.system", "os.popen"), f"{path}:{node.lineno}"
            if name == "torch.load":
                assert any(keyword.arg == "weights_only" for keyword in node.keywords)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert path.stem not in ("utils", "helpers", "manager", "misc", "common")


def own_texts() -> list[Path]:
    folders = ("flex_assist", "trainer", "lsp", "tui", "tests", "docs", "scripts", ".ci")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    hidden = {"node_modules", "__pycache__", "out", "dist"}
    return [
        path
        for path in files
        if (path.suffix in TEXT_FILES or path.name in ("Makefile", "run"))
        and not hidden & set(path.relative_to(ROOT).parts)
    ]


def test_no_foreign_place_is_named() -> None:
    found = []
    for path in own_texts():
        for number, line in enumerate(path.read_text("utf-8", "replace").split("\n"), start=1):
            if FOREIGN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == flex_assist.__version__


def test_the_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert flex_assist.__version__ in text or "Unreleased" in text
