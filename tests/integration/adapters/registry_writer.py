"""Publishes and removes versions in a process of its own, for tests that run or kill several.

``promote FOLDER NAME ROUNDS`` · ``walk FOLDER NAME STEPS``, which dies at each of the first steps
of publishing, rolling back and removing, and looks at what is left.
"""

import os
import sys
from pathlib import Path
from typing import Any

from flex_assist.adapters import health
from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import FILE_NAME, LORA_GGUF, Manifest
from flex_assist.adapters.registry import Registry, new_version
from flex_assist.locations import locate

EMPTY_GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open", "tempfile.mkstemp"}
DIED = 77
LEAST_STEPS = 15


def promote(registry: Registry, name: str, size: int = 0, version: str | None = None) -> str:
    """Write a version, and let it answer."""
    version = version or new_version()
    staged = registry.stage(name)
    (staged / LORA_GGUF).write_bytes(EMPTY_GGUF + bytes(size))
    made = Manifest(
        name=name, version=version, languages=(name,), base_model="own", base_sha256="", fim=None,
        verdict="promoted", reason="", sizes={LORA_GGUF: len(EMPTY_GGUF) + size},
    )  # fmt: skip
    (staged / FILE_NAME).write_text(manifests.to_json(made))
    registry.publish(name, staged, version, activate=True)
    return version


def later(registry: Registry, name: str) -> str:
    """A version after all others: those of one second are in no order."""
    newest = max(registry.version_names(name), default="-0000")
    return f"20260101T000000Z-{int(newest[-4:], 16) + 1:04x}"


def die_at(step: int, folder: Path) -> None:
    """End this process, without any clean-up, at its ``step``-th change below ``folder``."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event in EVENTS and any(str(folder) in str(one) for one in arguments):
            seen += 1
            if seen == step:
                os._exit(DIED)

    sys.addaudithook(watch)


def walk(registry: Registry, name: str, steps: int) -> None:
    """Change the registry in processes that die one step later each time."""
    for _ in range(3):
        promote(registry, name, version=later(registry, name))
    died = 0
    for step in range(1, steps):
        child = os.fork()
        if child == 0:
            change(registry, name, step)
            os._exit(0)
        died += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DIED
        active = registry.active(name)
        assert active is not None, step
        assert active.lora.is_file(), step
        assert len(registry.versions(name)) == len(registry.folders()) >= 2, step
        list(health.look(locate(), fix=True))
        assert registry.debris() == [], step
        while len(registry.folders()) < 3:
            promote(registry, name, version=later(registry, name))
        # Two versions and one that answers, so that there are as many steps next time.
        for _, version in registry.folders()[:-3]:
            registry.remove(name, version)
        registry.activate(name, registry.version_names(name)[-1])
    # Neither were there no steps, nor too few tried.
    assert LEAST_STEPS < died < steps - 1, died


def change(registry: Registry, name: str, step: int) -> None:
    """Publish, go back, and remove; but die on the way."""
    oldest = registry.version_names(name)[0]
    die_at(step, registry.folder)
    promote(registry, name, version=later(registry, name))
    registry.roll_back(name)
    registry.remove(name, oldest)


def main(action: str, folder: str, name: str, number: int) -> None:
    """See above."""
    registry = Registry.at(Path(folder))
    if action == "promote":
        for _ in range(number):
            promote(registry, name)
        return
    walk(registry, name, number)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
