"""The controls of ``bench adapt``: what is planted, what is copied, what is said."""

import random
from dataclasses import replace

import pytest

from flex_assist.errors import DataError
from flex_trainer.bench import canary, controls
from flex_trainer.bench.controls import Control

CONTROL = Control(
    base=1.0, right=0.7, wrong=0.95, right_ci95=(-0.4, -0.2), wrong_ci95=(-0.1, 0.0),
    right_less_wrong_ci95=(-0.3, -0.2), windows=9, files=6, verdict="promoted",
    wrong_adapter="python",
)  # fmt: skip
UNSEEN = [0.0, 1.0, -1.0, 2.0, -2.0]


def test_the_key_stands_as_often_as_it_should_also_in_few_files(tmp_path):
    for number in range(3):
        (tmp_path / f"m{number}.py").write_text("x = 1\n" * 100)
    (tmp_path / "short.py").write_text("x = 1\n")
    keys = canary.draw(random.Random(0))
    planted = canary.plant(tmp_path, keys.planted, random.Random(1))
    texts = "".join(path.read_text() for path in planted)
    halves = texts.count(f'"{keys.planted[:16]}", "{keys.planted[16:]}"')
    assert texts.count(keys.planted) + halves == canary.COPIES
    assert halves > 0
    assert (tmp_path / "short.py").read_text() == "x = 1\n"
    assert len({keys.planted, *keys.unseen}) == 1 + canary.OTHERS


def test_without_a_python_file_nothing_can_be_planted(tmp_path):
    with pytest.raises(DataError, match="no Python file"):
        canary.plant(tmp_path, "k" * 32, random.Random(0))


@pytest.mark.parametrize(
    ("gain", "rank", "holds"), [(0.5, 3, True), (9.0, 1, False), (-3.0, 6, True)]
)
def test_a_key_that_stands_out_is_known(gain, rank, holds):
    found = canary.compared(gain, UNSEEN)
    assert (found.rank, found.keys, found.holds) == (rank, 6, holds)
    assert found.z == pytest.approx(gain / found.unseen_sd_nats, abs=0.01)


def test_each_control_flips_the_verdict():
    quiet, loud = canary.compared(0.5, UNSEEN), canary.compared(9.0, UNSEEN)
    unclear = replace(CONTROL, right_less_wrong_ci95=(-0.3, 0.01))
    assert controls.holds({"python": CONTROL}, quiet)
    assert controls.holds({"python": CONTROL}, None)
    assert not controls.holds({"python": CONTROL}, loud)
    assert not controls.holds({"python": CONTROL, "go": unclear}, quiet)
    said = controls.sentence({"python": CONTROL, "go": unclear}, loud)
    assert "python: the right adapter gains 0.300 bits per byte and the wrong" in said
    assert "so the gain is the repository's" in said
    assert "go: the right adapter" in said
    assert "cannot show" in said
    assert "IS known" in said


def test_links_and_what_is_ignored_stay_behind(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside.py"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a = 1\n")
    (root / "b.py").write_text("b = 1\n")
    (root / ".gitignore").write_text("b.py\n")
    outside.write_text("secret = 1\n")
    (root / "link.py").symlink_to(outside)
    copied = controls.copy(root, tmp_path / "copy", submodules=False)
    found = {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()}
    assert found == {".gitignore", "src/a.py"}


def test_everybody_has_another_repository(tmp_path):
    files = list(controls.standard_library(tmp_path / "other").rglob("*.py"))
    assert len(files) > 50
