"""Settings: the layers, and every way to get one wrong."""

import dataclasses
import os
from pathlib import Path

import pytest

from flex_assist import config
from flex_assist.config import REPOSITORY_FILE, Settings, as_dict, load, sections
from flex_assist.errors import ConfigError
from flex_assist.locations import Locations, locate


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def test_without_files_the_defaults_hold(locations: Locations) -> None:
    assert load(locations, environment={}) == Settings()


def test_later_layers_win(locations: Locations, repository: Path) -> None:
    locations.config_file.write_text(
        "[prompt]\nretrieval_tokens = 1\nretrieval_chunks = 1\nprefix_tokens = 100\n"
        "[training]\nseed = 1\n"
    )
    (repository / REPOSITORY_FILE).write_text("[prompt]\nretrieval_tokens = 2\n")
    environment = {"FLEX_ASSIST_PROMPT_PREFIX_TOKENS": "200", "FLEX_ASSIST_TRAINING_SEED": "2"}
    found = load(locations, repository, {"training.seed": 3, "training.rank": None}, environment)
    assert found.prompt.retrieval_chunks == 1
    assert found.prompt.retrieval_tokens == 2
    assert found.prompt.prefix_tokens == 200
    assert found.training.seed == 3
    assert found.training.rank == 16


def test_all_faults_come_in_one_message(locations: Locations, repository: Path) -> None:
    locations.config_file.write_text("[engine]\nthreads = -1\nwings = 2\n[nothing]\na = 1\n")
    (repository / REPOSITORY_FILE).write_text(
        "[training]\nseed = 1\n[prompt]\nretrieval_chunks = 99\n"
    )
    environment = {"FLEX_ASSIST_TRAINING_OPTIMIZER": "sgd"}
    with pytest.raises(ConfigError) as caught:
        load(locations, repository, {"chat.max_tokens": "many"}, environment)
    lines = str(caught.value).split("\n")
    assert len(lines) == 7
    user, own = str(locations.config_file), str(repository / REPOSITORY_FILE)
    for line, source, key in zip(
        lines,
        [user, user, user, own, own, "environment", "command line"],
        ["engine.threads", "engine.wings", "nothing", "training.seed", "prompt.retrieval_chunks",
         "training.optimizer", "chat.max_tokens"],
        strict=True,
    ):  # fmt: skip
        assert line.startswith(source)
        assert key in line


def test_a_repository_sets_only_what_it_may(locations: Locations, repository: Path) -> None:
    path = repository / REPOSITORY_FILE
    for section, kind in sections().items():
        for field in dataclasses.fields(kind):
            value = field.default
            shown = list(value) if isinstance(value, tuple) else value
            text = str(shown).lower() if isinstance(shown, bool) else repr(shown)
            path.write_text(f"[{section}]\n{field.name} = {text}\n")
            if field.metadata["repository"]:
                assert load(locations, repository, environment={}) == Settings()
            else:
                with pytest.raises(ConfigError, match="may not be set by a repository"):
                    load(locations, repository, environment={})


def test_what_runs_or_reaches_out_is_never_the_repositorys() -> None:
    allowed = {
        f"{section}.{field.name}"
        for section, kind in sections().items()
        for field in dataclasses.fields(kind)
        if field.metadata["repository"]
    }
    assert allowed == {
        "prompt.retrieval_tokens", "prompt.retrieval_chunks", "completion.enabled",
        "completion.disabled_languages", "mining.held_out_share",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("engine", "threads = true"),
        ("engine", "threads = 1.5"),
        ("engine", 'threads = "2"'),
        ("engine", "threads = 9999"),
        ("engine", "idle_exit_s = nan"),
        ("engine", "idle_exit_s = inf"),
        ("engine", "idle_exit_s = 0.5"),
        ("training", "learning_rate = 1" + "0" * 400),
        ("completion", "enabled = 1"),
        ("completion", 'disabled_languages = "go"'),
        ("completion", "disabled_languages = [1]"),
        ("training", 'optimizer = "Sophia"'),
        ("model", "base = 3"),
        ("model", "base = []"),
    ],
)
def test_bad_values(locations: Locations, section: str, text: str) -> None:
    locations.config_file.write_text(f"[{section}]\n{text}\n")
    key = f"{section}.{text.split(' ')[0]}"
    with pytest.raises(ConfigError, match=f"{key} = "):
        load(locations, environment={})


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("COMPLETION_ENABLED", "no", False),
        ("COMPLETION_ENABLED", "TRUE", True),
        ("COMPLETION_DISABLED_LANGUAGES", "go, rust,", ("go", "rust")),
        ("COMPLETION_TIMEOUT_S", "3", 3.0),
        ("ENGINE_THREADS", "4", 4),
        ("MODEL_BASE", "a.gguf", "a.gguf"),
    ],
)
def test_the_environments_texts(name: str, text: str, wanted: object) -> None:
    section, _, key = name.lower().partition("_")
    found = load(locate(), environment={f"FLEX_ASSIST_{name}": text})
    assert getattr(getattr(found, section), key) == wanted


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_a_switch_must_be_clear(text: str) -> None:
    with pytest.raises(ConfigError, match=r"completion\.enabled"):
        load(locate(), environment={"FLEX_ASSIST_COMPLETION_ENABLED": text})


def test_other_variables_are_left_alone() -> None:
    environment = {"FLEX_ASSIST_HOME": "/x", "FLEX_ASSIST_SHARED": "/y", "OTHER": "1"}
    assert load(locate(), environment=environment) == Settings()


@pytest.mark.parametrize(
    "data",
    [b"[engine", b"\xff\xfe", b"[a]\nb = " + b"[" * 100_000, b"[a]\nb = " + b"9" * 5000,
     b"#" * (config.MAX_FILE_BYTES + 1)],
    ids=["cut", "bytes", "deep", "digits", "large"],
)  # fmt: skip
def test_a_file_that_is_no_settings(locations: Locations, repository: Path, data: bytes) -> None:
    path = repository / REPOSITORY_FILE
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"Mend or remove") as caught:
        load(locations, repository, environment={})
    assert str(path) in str(caught.value)


def test_a_repositorys_file_may_not_be_a_link_or_a_pipe(
    locations: Locations, repository: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "secret.toml"
    outside.write_text("password = 'hunter2'\n")
    path = repository / REPOSITORY_FILE
    path.symlink_to(outside)
    with pytest.raises(ConfigError, match="not a file of its own") as caught:
        load(locations, repository, environment={})
    assert "hunter2" not in str(caught.value)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a file of its own"):
        load(locations, repository, environment={})


def test_the_users_own_file_may_be_a_link(locations: Locations, tmp_path: Path) -> None:
    (tmp_path / "dotfile.toml").write_text("[training]\nseed = 5\n")
    locations.config_file.symlink_to(tmp_path / "dotfile.toml")
    assert load(locations, environment={}).training.seed == 5


def test_every_setting_says_what_it_is_and_keeps_its_own_rules() -> None:
    for kind in sections().values():
        for field in dataclasses.fields(kind):
            assert field.metadata["help"]
            low, high, choices = (field.metadata[name] for name in ("low", "high", "choices"))
            assert low is None or low <= field.default
            assert high is None or field.default <= high
            assert choices is None or field.default in choices


def test_as_dict_goes_around(locations: Locations) -> None:
    flat = {
        f"{section}.{key}": value
        for section, values in as_dict(Settings()).items()
        if section != "remote"
        for key, value in values.items()
    }
    assert load(locations, flags=flat, environment={}) == Settings()
