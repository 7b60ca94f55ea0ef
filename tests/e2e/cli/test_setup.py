"""Set-up on a machine that lacks something: one message, and nothing half made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "setup.sh"
BASH = shutil.which("bash")


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "uname", "grep", "sed", "rm", "mkdir"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    assert BASH is not None
    environment = {**os.environ, "PATH": str(tools), "PYTHON": sys.executable,
                   "VENV": str(tmp_path / "venv")}  # fmt: skip
    done = subprocess.run(
        [BASH, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "a C++ compiler is needed to build llama.cpp" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()
