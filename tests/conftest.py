"""What holds for every test: a home of its own, and no network."""

import ipaddress
import itertools
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from flex_assist.adapters import manifest as manifests
from flex_assist.adapters.manifest import FILE_NAME, LORA_GGUF, Manifest
from flex_assist.adapters.registry import AdapterVersion, Registry, new_version

# Other processes may be at work: threads that spin would wait for ones that do not run.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No files beside the tests, and no limit by the clock: other processes may be at work.
settings.register_profile("house", database=None, deadline=None)
settings.register_profile("long", parent=settings.get_profile("house"), max_examples=5000)
settings.load_profile("house")

# Of the starter model and of the adapters that tests make for it.
LAYERS, WIDTH, RANK = 30, 576, 4
# The head of a GGUF file: version 3, no tensors, no metadata.
EMPTY_GGUF = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0)
# Control tokens of its vocabulary that stand for suffix, prefix and middle in a cut one.
SENTINELS = {"suf": 5, "pre": 6, "mid": 7}
CORE = Path(__file__).resolve().parents[1] / "flex_assist"
_HOMES = itertools.count(1)


@pytest.fixture(scope="session")
def copy_core() -> Callable[[Path], Path]:
    """Copies this project's core to a folder: a repository that is small, and real code."""

    def copy(root: Path) -> Path:
        ignored = shutil.ignore_patterns("__pycache__", "*.toml")
        return Path(shutil.copytree(CORE, root, ignore=ignored))

    return copy


class NetworkError(AssertionError):
    """A test, or the product in it, tried to leave the machine."""


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or written to the folders of whoever runs the tests.

    The folder is only named here; the product makes it when it writes.
    """
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_HOMES))
    monkeypatch.setenv("FLEX_ASSIST_HOME", str(home))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections within the machine only. Processes that a test starts are on their own."""

    def refuse(host: object) -> None:
        raise NetworkError(f"a connection to {host!r} was tried; tests stay on this machine")

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                host = arguments[-1][0]
                if not _is_loopback(host):
                    refuse(host)
            return original(self, *arguments)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    resolve = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **named: Any) -> Any:
        if host is not None and not _is_loopback(host):
            refuse(host)
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture(scope="session")
def promote() -> Callable[..., AdapterVersion]:
    """Publish an adapter and let it answer."""
    return _promote


def _promote(
    registry: Registry,
    name: str = "python",
    *,
    write: Callable[[Path], object] = lambda path: path.write_bytes(EMPTY_GGUF),
    **changes: Any,
) -> AdapterVersion:
    values: dict[str, Any] = {
        "version": new_version(),
        "languages": (name,),
        "base_model": "smollm2-135m",
        "base_sha256": "",
        "fim": None,
        "verdict": "promoted",
        "reason": "better on held-out code",
        **changes,
    }
    made = Manifest(name=name, **values)
    staged = registry.stage(name)
    write(staged / LORA_GGUF)
    (staged / FILE_NAME).write_text(manifests.to_json(made))
    return registry.publish(name, staged, made.version, activate=True)


@pytest.fixture(scope="session")
def one_layer_base(cut_starter: Callable[[int], Path]) -> Path:
    """The starter with the first of its layers only: it can be trained and served, fast."""
    return cut_starter(1)


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a LoRA GGUF file for the starter model: random numbers, or none with ``size=0``."""
    import numpy as np

    from flex_assist.models.lora_gguf import write_updates

    folder = tmp_path_factory.mktemp("adapters")

    def make(
        name: str, seed: int, *, width: int = WIDTH, size: float = 0.3, layers: int = LAYERS
    ) -> Path:
        random = np.random.default_rng(seed)
        path = folder / f"{name}.gguf"
        updates = {}
        for layer in range(layers):
            a = random.normal(size=(RANK, width)).astype(np.float32) / width**0.5
            b = random.normal(size=(width, RANK)).astype(np.float32) * np.float32(size)
            updates[f"blk.{layer}.attn_q.weight"] = (a, b)
        write_updates(path, "llama", updates, None)
        return path

    return make


@pytest.fixture(scope="session")
def cut_starter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Gives the starter with its first layers only, whole enough to be served, with sentinels."""
    folder = tmp_path_factory.mktemp("cut")

    def cut(layers: int) -> Path:
        path = folder / f"starter-{layers}.gguf"
        if not path.exists():
            write_first_layers(path, layers)
        return path

    return cut


def write_first_layers(path: Path, layers: int) -> None:
    """Write the starter's first layers as a model that can be trained and served."""
    import gguf

    from flex_assist.models import store
    from flex_assist.models.gguf_file import open_gguf

    reader = open_gguf(store.find("smollm2-135m").path)
    changed = {"llama.block_count": layers}
    changed |= {f"tokenizer.ggml.fim_{name}_token_id": id for name, id in SENTINELS.items()}
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in changed:
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for name, value in changed.items():
        writer.add_uint32(name, value)
    for tensor in reader.tensors:
        _, _, rest = tensor.name.partition("blk.")
        if not rest or int(rest.partition(".")[0]) < layers:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _is_loopback(host: str | bytes) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
