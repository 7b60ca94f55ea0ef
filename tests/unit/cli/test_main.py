"""The boundary: one message and an exit code for every error, and help that says what there is."""

import errno
import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from flex_assist.cli import main as cli
from flex_assist.cli.output import print_json, print_table
from flex_assist.errors import (
    BusyError,
    ConfigError,
    DataError,
    EngineError,
    ExportError,
    FlexAssistError,
    MissingExtraError,
    ModelError,
)

COMMANDS = {
    "adapt", "adapters", "bench", "chat", "complete", "config", "doctor", "engine", "lsp", "models",
}  # fmt: skip


def failing(error: BaseException) -> Callable[[], Callable[[], None]]:
    def run() -> None:
        raise error

    return lambda: run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2), (MissingExtraError("training", "train"), 2),
        (DataError("wrong"), 1), (ModelError("wrong"), 1), (EngineError("wrong"), 1),
        (ExportError("wrong"), 1), (BusyError("wrong"), 1), (FlexAssistError("wrong"), 1),
        (OSError("wrong"), 1), (PermissionError(errno.EACCES, "Permission denied", "/x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1), (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_every_error_has_a_code_and_one_message(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "build", failing(error))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    shown = capsys.readouterr()
    assert shown.out == ""
    if code != 130:
        assert shown.err.startswith("flex-assist: ")
        assert shown.err.count("\n") == 1


def test_faults_of_the_system_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        monkeypatch.setattr(cli, "build", failing(OSError(number, "because", "/some/where")))
        with pytest.raises(SystemExit):
            cli.main()
        shown = capsys.readouterr().err
        assert "'/some/where': because" in shown
        assert "FLEX_ASSIST_HOME" in shown


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(cli.build(), ["--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f" {name} " in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_helps(name: str) -> None:
    result = CliRunner().invoke(cli.build(), [name, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["complete"], ["complete", "--wings"], ["bench", "completions"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.build(), arguments).exit_code == 2


def test_the_version() -> None:
    result = CliRunner().invoke(cli.build(), ["--version"])
    assert result.output.startswith("flex-assist 0.")


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "long"), [(1, "x"), ("wide", "")])
    assert capsys.readouterr().out == "a     long\n1     x\nwide\n"
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_no_number_that_json_does_not_know_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5], "b": (float("inf"), {"c": -float("inf")})})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": [None, {"c": None}]}
