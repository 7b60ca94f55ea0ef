"""Is a version what was published? A look that costs nothing, and a full one.

At each request the sizes and the heads of its GGUF files are looked at; digests of all files are
compared when a version is activated by hand, by ``doctor`` and by ``adapters show --verify``.
"""

from collections.abc import Iterator
from pathlib import Path

from flex_assist.adapters.manifest import LORA_GGUF, Manifest
from flex_assist.engine.gguf_header import check_gguf
from flex_assist.errors import ModelError
from flex_assist.files import digest


def sizes(folder: Path, names: Iterator[str] | list[str]) -> dict[str, int]:
    """Bytes of files of a folder, for its manifest."""
    return {name: (folder / name).stat().st_size for name in names}


def fault(folder: Path, manifest: Manifest, name: str = LORA_GGUF) -> str | None:
    """What is wrong with a GGUF file of a version, at a glance; None if nothing is."""
    path = folder / name
    try:
        size = path.stat().st_size
    except OSError:
        return f"its {name} is missing"
    recorded = manifest.sizes.get(name)
    if isinstance(recorded, int) and size != recorded:
        return f"its {name} has {size} bytes and not {recorded}"
    try:
        check_gguf(path, "adapter")
    except ModelError as error:
        return str(error)
    return None


def faults(folder: Path, manifest: Manifest) -> list[str]:
    """All that differs from what the manifest says of its files; each file is read to its end."""
    at_a_glance = fault(folder, manifest)
    return [*([at_a_glance] if at_a_glance else []), *_differing(folder, manifest)]


def _differing(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, recorded in sorted(manifest.artefacts.items()):
        path = folder / name
        try:
            # A manifest may be anybody's: no name in it leads out of the folder.
            if Path(name).name != name or path.is_symlink():
                yield f"{name!r} is no file of its own"
            elif (found := digest(path)) != recorded:
                yield f"{name} has changed (sha256 {found[:16]}…, not {str(recorded)[:16]}…)"
        except OSError as error:
            if name != LORA_GGUF:
                yield f"{name} cannot be read ({error.strerror})"
