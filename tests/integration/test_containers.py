"""Files of several languages as a hostile repository has them.

The generator lies in a folder of shared data: ``FLEX_ASSIST_SHARED`` or ``../shared`` beside the
checkout. Its test is skipped where it is absent.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flex_assist.repository import notebooks
from flex_assist.repository.containers import extract, kind_of, part_at
from flex_assist.repository.documents import Objection

CHECKOUT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FLEX_ASSIST_SHARED", CHECKOUT.parent / "shared"))
GENERATOR = SHARED / "data" / "make_bad_repo.py"
SIZE = 1_000_000
# A fifth of a second is usual for the slowest; what grows with the square takes hours.
LIMIT_S = 5.0

MARKUP = [
    "<script>", "<style>", "<script ", "<script a='", '<script a="', "<script a=", "<script a = ",
    "<script a=\"'", "<script a='\" ", "<script></script>", "<script/>", "</script>", "<script\n",
    "<script>\n", "<script>a</script", "<script>  \n</script>", "<div><script>", "<!--", "<!-->",
    "<?php", "<?= ?>", "<", "\n", " ", "---\n",
]  # fmt: skip
STARTED = [
    ("<script", " "), ("<script", "/"), ("<script a", " "), ("<script a=", " "),
    ("<script a='", "x"), ("<script a=", "x"), ("<script>", " "), ("<script>", "\n"),
    ("---", " "), ("---\n", "\n"), ("<script>", "</script"), ("<script a", "\n/ "),
]  # fmt: skip
CELLS = [
    '"', '\\"', '"\\"', "'\"", "'''", '"""\\', '"""\\"""', "'''\\", "!ls\n", "!\\\n", "%time\n",
    "(\n", "\\\n", "#\n", "\n", " ", "a?", "a, ", "x.", "a = !", "%%bash\n", "%",
]  # fmt: skip
JSON = ["[", "{", "[1,", '{"a":', '"', "1", "\\", '{"cells":[']


@pytest.mark.parametrize(("start", "unit"), [*(("", unit) for unit in MARKUP), *STARTED])
def test_hostile_markup_takes_linear_time(start: str, unit: str) -> None:
    text = start + unit * (SIZE // len(unit))
    started = time.process_time()
    extract("a.vue", text)
    part_at("astro", text[: SIZE // 2], text[SIZE // 2 :])
    assert time.process_time() - started < LIMIT_S


@pytest.mark.parametrize("unit", CELLS)
def test_a_hostile_cell_takes_linear_time(unit: str) -> None:
    source = unit * (SIZE // len(unit))
    text = json.dumps({"cells": [{"cell_type": "code", "source": source}]})
    started = time.process_time()
    extract("a.ipynb", text)
    assert time.process_time() - started < LIMIT_S


@pytest.mark.parametrize("unit", JSON)
def test_hostile_json_is_refused(unit: str) -> None:
    started = time.process_time()
    found = extract("a.ipynb", unit * (SIZE // len(unit)))
    assert isinstance(found, Objection)
    assert found.rule == "notebook"
    assert time.process_time() - started < LIMIT_S


def test_a_notebook_of_many_cells_and_large_outputs() -> None:
    output = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo" * 1_000_000}}
    cells = [{"cell_type": "code", "source": f"x{n} = {n}", "outputs": []} for n in range(20_000)]
    text = json.dumps({"cells": [{**cells[0], "outputs": [output]}, *cells[1:]]})
    assert len(text) < notebooks.MAX_FILE_BYTES
    started = time.process_time()
    found = extract("a.ipynb", text, limit_bytes=SIZE)
    assert isinstance(found, dict)
    assert found["python"].count("\n\n") == 19_999
    assert "iVBOR" not in found["python"]
    assert time.process_time() - started < LIMIT_S


@pytest.mark.skipif(not GENERATOR.is_file(), reason=f"no {GENERATOR}")
def test_the_containers_of_a_bad_repository(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(GENERATOR), str(tmp_path / "case"), "--no-git", "--many", "5"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    entries = json.loads((tmp_path / "case/EXPECT.json").read_text())["entries"]
    paths = {entry["path"]: entry["expect"] for entry in entries if kind_of(entry["path"])}
    assert len(paths) >= 7
    found = {}
    for path, expect in paths.items():
        text = (tmp_path / "case/repo" / path).read_bytes().decode("utf-8", "replace")
        found[path] = extract(path, text)
        assert expect != "skip" or isinstance(found[path], Objection)
        assert expect != "train" or isinstance(found[path], dict)
    assert found["nb/ok.ipynb"] == {
        "python": "import math\ndef nb_good(x):\n    return math.sqrt(x)\n\nx = 1\n"
    }
    assert found["nb/big_output.ipynb"] == {"python": "plot()\n"}
    vue = found["mixed/App.vue"]
    assert isinstance(vue, dict)
    assert vue["css"] == "div { color: red }\n"
    assert vue["typescript"].startswith('import { ref } from "vue";\n')
    assert found["mixed/page.html"] == {"javascript": "function pageFn(a){ return a+1; }\n"}
