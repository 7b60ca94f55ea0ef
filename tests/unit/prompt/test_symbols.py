"""Definitions and imports, in each language's own source."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flex_assist.language import LANGUAGES, by_path
from flex_assist.prompt.symbols import ImportTable, definitions

SOURCES = Path(__file__).parents[2] / "data" / "syntax"
# Name and first line, from 1, of some of what each file defines.
DEFINED = {
    "Stock.cs": {("Stock", 7), ("Add", 21), ("IShelf", 44), ("Level", 49), ("Order", 53)},
    "Stock.java": {("Stock", 8), ("LOW_LEVEL", 9), ("add", 19), ("Shelf", 38), ("Level", 42)},
    "Stock.kt": {("LOW_LEVEL", 5), ("Stock", 8), ("add", 12), ("Shops", 35), ("isLow", 39)},
    "Stock.php": {("LOW_LEVEL", 7), ("Stock", 10), ("add", 21), ("Named", 37), ("worth", 43)},
    "stock.c": {("LOW_LEVEL", 4), ("stock", 7), ("stock_t", 12), ("stock_add", 17), ("worth", 29)},
    "stock.cpp": {("Level", 9), ("Stock", 12), ("add", 17), ("worth", 33), ("half", 43)},
    "stock.go": {("LowLevel", 9), ("Stock", 12), ("Shelf", 17), ("Add", 22), ("Worth", 32)},
    "stock.js": {("LOW_LEVEL", 3), ("Stock", 6), ("add", 13), ("worth", 24), ("isLow", 33)},
    "stock.py": {("LOW_LEVEL", 5), ("Stock", 8), ("add", 15), ("worth", 24)},
    "stock.rb": {("Shop", 3), ("LOW_LEVEL", 4), ("Stock", 7), ("add", 16), ("empty", 25)},
    "stock.rs": {("LOW_LEVEL", 4), ("Stock", 7), ("Shelf", 12), ("Level", 16), ("add", 23)},
    "stock.sh": {("LOW_LEVEL", 6), ("SHOP", 7), ("add_goods", 10), ("worth", 22)},
    "stock.ts": {("LOW_LEVEL", 3), ("Goods", 5), ("Level", 10), ("Stock", 13), ("half", 37)},
    "stock.tsx": {("Props", 3), ("Row", 9), ("List", 17)},
}
NOT_DEFINED = {"total", "price", "goods", "count", "name", "stock.counts"}
# The file that each imports, by its path in a repository.
IMPORTED = {
    "Stock.java": "src/main/shop/prices/PriceList.java",
    "Stock.kt": "src/shop/prices.kt",
    "Stock.php": "src/Prices/PriceList.php",
    "stock.c": "include/prices.h",
    "stock.go": "shop/prices/price.go",
    "stock.js": "src/prices.js",
    "stock.py": "src/shop/prices.py",
    "stock.rb": "src/prices.rb",
    "stock.rs": "src/prices.rs",
    "stock.sh": "src/prices.sh",
    "stock.ts": "src/prices.ts",
    "stock.tsx": "src/prices.tsx",
}


def test_every_language_has_a_source() -> None:
    known = {by_path(path) for path in SOURCES.iterdir()}
    assert set(DEFINED) == {path.name for path in SOURCES.iterdir()}
    assert {one.name for one in known if one} >= {"python", "go", "shell", "kotlin", "csharp"}


@pytest.mark.parametrize("name", DEFINED)
def test_definitions(name: str) -> None:
    language = by_path(name)
    assert language is not None
    text = (SOURCES / name).read_text(encoding="utf-8")
    found = definitions(text, language)
    assert {(one.name, one.first_line + 1) for one in found} >= DEFINED[name]
    assert not {one.name for one in found} & NOT_DEFINED
    lines = text.split("\n")
    for one in found:
        assert 0 <= one.first_line <= one.last_line <= len(lines)
        assert one.name in "\n".join(lines[one.first_line : one.last_line + 1])


@pytest.mark.parametrize("name", IMPORTED)
def test_imports(name: str) -> None:
    language, wanted = by_path(name), IMPORTED[name]
    assert language is not None
    found_language = by_path(wanted)
    assert found_language is not None
    text = (SOURCES / name).read_text(encoding="utf-8")
    others = [(f"src/other{number}{Path(wanted).suffix}", found_language.name) for number in "12"]
    table = ImportTable([(wanted, found_language.name), *others])
    assert table.imported(text, f"src/{name}", found_language.name) == {wanted}
    assert table.imported(text, f"src/{name}", "none of these") == frozenset()


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        ("from .b import c\n", "x/a.py", "x/b.py"),
        ("from ..y.b import c\n", "x/z/a.py", "x/y/b.py"),
        ("from . import b\n", "x/a.py", "x/b.py"),
        ("import x\n", "a.py", "x/__init__.py"),
        ("import x.b as c\n", "a.py", "x/b.py"),
    ],
)
def test_relative_imports_and_packages(text: str, path: str, wanted: str) -> None:
    table = ImportTable((name, "python") for name in ["x/b.py", "x/y/b.py", "x/__init__.py"])
    assert wanted in table.imported(text, path, "python")


def test_a_name_of_many_files_means_none() -> None:
    table = ImportTable((f"x{number}/config.py", "python") for number in range(9))
    assert table.imported("import config\n", "a.py", "python") == frozenset()
    assert table.imported("from x3.config import y\n", "a.py", "python") == {"x3/config.py"}


def test_a_file_does_not_import_itself() -> None:
    table = ImportTable([("x/a.py", "python")])
    assert table.imported("from x.a import b\n", "x/a.py", "python") == frozenset()


@given(st.text(max_size=300), st.sampled_from(LANGUAGES))
def test_any_text_is_taken(text: str, language: object) -> None:
    name = language.name  # type: ignore[attr-defined]
    rows = text.count("\n")
    for one in definitions(text, language):  # type: ignore[arg-type]
        assert 0 <= one.first_line <= one.last_line <= rows
    ImportTable([("a/b.py", name)]).imported(text, "a/c.py", name)
