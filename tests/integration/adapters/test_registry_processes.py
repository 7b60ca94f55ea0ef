"""The registry under several processes, processes that die at any step, and a full disk."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flex_assist.adapters import health
from flex_assist.adapters.registry import Registry
from flex_assist.locations import locate

sys.path.insert(0, str(Path(__file__).parent))
import registry_writer as writer

sys.path.pop(0)

SCRIPT = Path(__file__).with_name("registry_writer.py")
ROUNDS = 15
# More steps than a change has: the last ones are not reached.
MOST_STEPS = 80


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = locate().adapters / "repository-0123456789"
    folder.mkdir(parents=True)
    return Registry.at(folder)


def start(registry: Registry, action: str, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), action, str(registry.folder), "python", str(number)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment)


def answers(registry: Registry) -> bool:
    found = registry.active("python")
    return found is not None and found.lora.is_file()


def test_two_processes_promote_at_once(registry: Registry) -> None:
    half = 0
    processes = [start(registry, "promote", ROUNDS) for _ in range(2)]
    while any(process.poll() is None for process in processes):
        # Readers take no lock, and never see anything half.
        half += registry.active_version("python") is not None and not answers(registry)
    assert half == 0
    assert [process.returncode for process in processes] == [0, 0]
    assert len(registry.versions("python")) == len(registry.folders()) == 2 * ROUNDS
    assert answers(registry)
    assert list(health.look(locate())) == []


def test_a_process_that_dies_at_any_step_leaves_the_old_state_or_the_new(
    registry: Registry,
) -> None:
    assert start(registry, "walk", MOST_STEPS).wait() == 0
    assert answers(registry)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root"
)
def test_a_full_disk_loses_nothing(registry: Registry) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(registry.folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        first = writer.promote(registry, "python", size=50_000)
        writer.promote(registry, "python", size=100_000)
        with pytest.raises(OSError, match="space") as caught:
            writer.promote(registry, "python", size=150_000)
        assert caught.value.errno == errno.ENOSPC
        assert answers(registry)
        assert len(registry.versions("python")) == len(registry.folders())
        assert registry.sweep() != []
        assert registry.debris() == []
        assert first in registry.version_names("python")
    finally:
        subprocess.run(["umount", str(registry.folder)], check=True)
