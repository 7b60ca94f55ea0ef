"""``flex-assist chat`` in a terminal of its own."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = "import typer; from flex_tui.cli import command; typer.run(command)"
DEADLINE_S = 60.0


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLEX_ASSIST_")}
    home = {"FLEX_ASSIST_HOME": str(tmp_path / "h"), "FLEX_ASSIST_ENGINE_IDLE_EXIT_S": "5"}
    return kept | home | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_it_starts_in_a_terminal_and_leaves_by_ctrl_q(tmp_path: Path, root: Path) -> None:
    import pty

    master, slave = pty.openpty()
    # A model that is not there: the chat must start, say so and stay.
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), "--model", str(tmp_path / "broken.gguf")],
        stdin=slave, stdout=slave, stderr=slave, env=environment(tmp_path), close_fds=True,
    )  # fmt: skip
    os.close(slave)
    seen, deadline = b"", time.monotonic() + DEADLINE_S
    try:
        while b"That did not work" not in seen or b"Nothing leaves it" not in seen:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 65536)
        os.write(master, b"\x11")
        while process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:
                    break
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"Traceback" not in seen
    assert (tmp_path / "h" / "data" / "conversations.sqlite").exists()


def test_without_a_terminal_it_says_so(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(tmp_path),
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the chat needs a terminal" in done.stderr


def test_the_command_is_read_without_textual() -> None:
    program = "import sys; import flex_tui.cli; assert 'textual' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE_S)
