"""Settings that cannot be read: who says so, and who goes on without them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flex_assist.cli import doctor
from flex_assist.cli.engine import app
from flex_assist.locations import locate


def settings_check() -> doctor.Check:
    return next(one for one in doctor.examine(locate()) if one.name == "settings")


def test_doctor_reads_the_settings_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert settings_check().ok
    (tmp_path / ".flexassist.toml").write_text("[engine]\nthreads = 1\n")
    check = settings_check()
    assert not check.ok
    assert "engine.threads may not be set by a repository" in f"{check.found} {check.advice}"


def test_a_host_can_be_stopped_whatever_the_settings_say() -> None:
    file = locate().config_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[engine]\nthread = 1\n")
    done = CliRunner().invoke(app, ["stop"])
    assert done.exit_code == 0, done.output
    assert done.stdout == "not running\n"
