"""The extension in a real VS Code, on the screen: type, see ghost text, accept, save.

Behind a switch, since the editor is 850 MB: FLEX_ASSIST_TEST_VSCODE=1. The pictures are kept beside
the editor, in ``.cache/vscode/pictures``.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[3]
EXTENSION = CHECKOUT / "lsp" / "editors" / "vscode"
EDITOR = Path(os.environ.get("FLEX_ASSIST_VSCODE", CHECKOUT / ".cache" / "vscode"))
HERE = Path(__file__).parent
WAIT_MS = 120_000
SETTINGS: dict[str, Any] = {
    "chat.disableAIFeatures": True,
    "editor.accessibilitySupport": "off",
    "editor.autoClosingBrackets": "never",
    "editor.inlineSuggest.enabled": True,
    "editor.minimap.enabled": False,
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "git.enabled": False,
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "workbench.enableExperiments": False,
    "workbench.startupEditor": "none",
}

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("FLEX_ASSIST_TEST_VSCODE") != "1",
        reason="set FLEX_ASSIST_TEST_VSCODE=1 to test VS Code (850 MB to download)",
    ),
    pytest.mark.timeout(900),
]


def environment(**more: str) -> dict[str, str]:
    """Ours, with the editor's own Node first and its gallery of extensions switched off."""
    gallery = json.dumps({"serviceUrl": "", "itemUrl": "", "resourceUrlTemplate": ""})
    path = f"{EDITOR / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "EXTENSIONS_GALLERY": gallery, **more}


@pytest.fixture(scope="module")
def chromium() -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    return program


@pytest.fixture(scope="module")
def extension() -> Path:
    """The packed extension, built from the checkout beside the editor."""
    subprocess.run([str(HERE / "get_vscode.sh"), str(EDITOR)], check=True)
    build = EDITOR / "extension"
    shutil.copytree(EXTENSION, build, dirs_exist_ok=True)
    for command in (["install", "--no-fund", "--no-audit"], ["run", "package"]):
        subprocess.run(["npm", *command], cwd=build, env=environment(), check=True)
    return build / "flex-assist.vsix"


@pytest.fixture
def start(extension: Path, tmp_path: Path, home: Path) -> Iterator[Callable[..., str]]:
    """Starts the editor with the extension and its settings; gives the address."""
    started: list[subprocess.Popen[bytes]] = []

    def starter(command: list[str], settings: dict[str, Any]) -> str:
        state = tmp_path / "state"
        (state / "data" / "User").mkdir(parents=True)
        ours = {"flexAssist.command": command[0], "flexAssist.arguments": command[1:], **settings}
        (state / "data" / "User" / "settings.json").write_text(json.dumps({**SETTINGS, **ours}))
        port = free_port()
        (state / "config.yaml").write_text(
            f"bind-addr: 127.0.0.1:{port}\nauth: none\ncert: false\n"
        )
        program = [
            str(EDITOR / "node_modules" / ".bin" / "code-server"),
            "--config", str(state / "config.yaml"), "--user-data-dir", str(state / "data"),
            "--extensions-dir", str(state / "extensions"),
        ]  # fmt: skip
        private = environment(FLEX_ASSIST_HOME=str(home))
        subprocess.run([*program, "--install-extension", str(extension)], env=private, check=True)
        quiet = ["--disable-telemetry", "--disable-update-check", "--disable-workspace-trust",
                 "--disable-getting-started-override"]  # fmt: skip
        with (state / "log").open("wb") as log:
            process = subprocess.Popen(
                [*program, *quiet], env=private, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        started.append(process)
        await_port(port)
        return f"http://127.0.0.1:{port}"

    yield starter
    for process in started:
        os.killpg(process.pid, 15)
        process.wait(20)


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the editor's server did not start")


def drive(url: str, file: Path, text: str, chromium: str, tmp_path: Path) -> dict[str, Any]:
    """Type, wait for ghost text, accept, save. Gives what was seen."""
    pictures = EDITOR / "pictures" / tmp_path.name
    pictures.mkdir(parents=True, exist_ok=True)
    job = {
        "url": url, "folder": str(file.parent), "file": file.name, "text": text,
        "wait_ms": WAIT_MS, "chromium": chromium, "playwright": str(EDITOR),
        "pictures": str(pictures), "result": str(tmp_path / "result.json"),
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = ["node", str(HERE / "vscode_driver.mjs"), str(tmp_path / "job.json")]
    subprocess.run(command, env=environment(), check=True, timeout=600)
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    print(json.dumps(found, indent=2))
    assert "error" not in found, found
    assert found["outside"] == []
    return found


def test_an_echo_is_shown_and_accepted(
    start: Callable[..., str], scripted_command: list[str], chromium: str, tmp_path: Path
) -> None:
    file = tmp_path / "work" / "a.py"
    file.parent.mkdir()
    file.write_text("")
    url = start(scripted_command, {"flexAssist.completion.debounceMs": 0})
    found = drive(url, file, "naïve = '✓'", chromium, tmp_path)
    assert file.read_text() == "naïve = '✓' # naïve = '✓'||a.py"
    assert "python: base" in found["status"]


def test_the_starter_model_completes(
    start: Callable[..., str], real_command: list[str], chromium: str, tmp_path: Path
) -> None:
    file = tmp_path / "work" / "colours.py"
    file.parent.mkdir()
    text = "RED = 1\nGREEN = 2\nBLUE = 3\n\n\ndef is_red(colour):\n    return colour == RED\n\n\n"
    file.write_text(text)
    url = start(real_command, {"flexAssist.completion.timeoutS": WAIT_MS / 1000})
    typed = "def is_green(colour):\n    return colour =="
    found = drive(url, file, typed.replace("\n    ", "\n"), chromium, tmp_path)
    saved = file.read_text()
    assert saved.startswith(text + typed)
    assert len(saved.rstrip()) > len(text + typed)
    shown = "".join(found["ghost"]).replace("\u00a0", " ")
    added = saved[len(text + typed) :]
    assert added.split("\n")[0].strip() in shown, (added, found["ghost"])
