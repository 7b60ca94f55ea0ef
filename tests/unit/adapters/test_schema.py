"""Files of older and newer versions of the product."""

import json
from pathlib import Path
from typing import Any

import pytest

from flex_assist.adapters.schema import TooNewError, read_json


def written(folder: Path, **record: Any) -> Path:
    path = folder / "some.json"
    path.write_text(json.dumps(record))
    return path


def test_a_newer_file_that_says_we_can_read_it(tmp_path: Path) -> None:
    path = written(tmp_path, schema=7, readable_from=2, size=3, later=1)
    assert read_json(path, 2)["size"] == 3


@pytest.mark.parametrize("also", [{}, {"readable_from": 3}])
def test_a_newer_file_that_needs_a_newer_reader(tmp_path: Path, also: dict[str, int]) -> None:
    path = written(tmp_path, schema=3, **also)
    with pytest.raises(TooNewError, match=r"schema 3, .* knows 2\); update"):
        read_json(path, 2)
    assert path.exists()


def test_an_older_file_goes_through_every_step(tmp_path: Path) -> None:
    steps = {
        1: lambda record: {"bytes": record["kb"] * 1000},
        2: lambda record: {"sizes": [record["bytes"]]},
    }
    found = read_json(written(tmp_path, schema=1, readable_from=1, kb=2), 3, steps)
    assert found == {"sizes": [2000], "schema": 3, "readable_from": 3}
    with pytest.raises(KeyError):
        read_json(written(tmp_path, schema=1, kb=2), 3, {1: steps[1]})


@pytest.mark.parametrize("schema", [0, -1, True, "1", None, 1.0, []])
def test_what_is_no_schema(tmp_path: Path, schema: Any) -> None:
    with pytest.raises(TypeError):
        read_json(written(tmp_path, schema=schema), 2)
    with pytest.raises(TypeError):
        read_json(written(tmp_path, schema=1, readable_from=schema), 2)
