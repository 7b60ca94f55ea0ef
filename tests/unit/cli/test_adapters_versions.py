"""``adapters activate``, ``rollback``, ``remove`` and ``show --verify``, and what doctor says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flex_assist.adapters.manifest import LORA_GGUF
from flex_assist.adapters.registry import AdapterVersion, Registry
from flex_assist.cli.doctor import _adapters, _socket
from flex_assist.cli.main import build
from flex_assist.errors import ConfigError, DataError
from flex_assist.locations import locate

FIRST, SECOND = "20260101T000000Z-0001", "20260102T000000Z-0002"


@pytest.fixture
def registry(tmp_path: Path, promote: Callable[..., AdapterVersion]) -> Registry:
    registry = Registry(locate(), tmp_path)
    promote(registry, version=FIRST)
    promote(registry, version=SECOND, verdict="kept-base", reason="no better")
    return registry


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        command = ["adapters", *arguments, "--repo", str(tmp_path)]
        return CliRunner().invoke(build(), command, catch_exceptions=True)

    return run


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_rolling_back_and_activating(registry: Registry, call: Callable[..., Result]) -> None:
    found = said(call("rollback", "python", "--json"))
    assert (found["active"], found["before"]) == (FIRST, SECOND)
    result = call("activate", f"python/{SECOND}")
    assert f"{SECOND} answers now (before: {FIRST})" in result.stdout
    assert "it was not promoted: no better" in result.stderr
    assert registry.active_version("python") == SECOND


def test_nothing_is_removed_unasked(registry: Registry, call: Callable[..., Result]) -> None:
    result = call("remove", f"python/{SECOND}")
    assert isinstance(result.exception, ConfigError)
    assert "--yes" in str(result.exception)
    assert registry.version_names("python") == [FIRST, SECOND]
    found = said(call("remove", f"python/{FIRST}", "--yes", "--json"))
    assert found == {"name": "python", "removed": [FIRST], "deactivated": None}
    assert "no version of python is active" in call("remove", "python", "--all", "--yes").stdout
    assert registry.folders() == []


@pytest.mark.parametrize("name", ["python", "python/", "/x", "python/../..", f"go/{FIRST}", "go"])
def test_what_is_not_there_is_not_removed(
    registry: Registry, call: Callable[..., Result], name: str
) -> None:
    assert isinstance(call("remove", name, "--yes").exception, ConfigError)
    if name == "go":
        assert isinstance(call("remove", name, "--all", "--yes").exception, ConfigError)
    assert len(registry.folders()) == 2


def test_all_files_are_compared_when_asked(
    registry: Registry, call: Callable[..., Result], promote: Callable[..., AdapterVersion]
) -> None:
    assert call("show", "python", "--verify").exit_code == 0
    promote(registry, artefacts={LORA_GGUF: "0" * 64})
    assert call("show", "python").exit_code == 0
    result = call("show", "python", "--verify")
    assert isinstance(result.exception, DataError)
    assert "adapter.gguf has changed" in str(result.exception)


def test_doctor_tells_and_mends(registry: Registry) -> None:
    (check,) = _adapters(locate(), fix=False)
    assert (check.ok, check.found) == (True, "2 versions of 1 repositories")
    staged = registry.stage("python")
    (check,) = _adapters(locate(), fix=False)
    assert not check.ok
    assert str(staged) in check.found
    (check,) = _adapters(locate(), fix=True)
    assert check.ok
    assert check.found.endswith("(removed)")


def test_doctor_removes_a_socket_that_nobody_serves() -> None:
    socket = locate().socket
    assert list(_socket(locate(), fix=True)) == []
    socket.parent.mkdir(parents=True)
    for path in (socket, socket.with_suffix(".port")):
        path.touch()
    (check,) = _socket(locate(), fix=False)
    assert not check.ok
    (check,) = _socket(locate(), fix=True)
    assert check.ok
    assert not socket.exists()
