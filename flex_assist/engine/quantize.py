"""llama.cpp's own quantizer, in a process of its own.

A failed assertion in native code ends the process that it is in. Here that is one which does
nothing else: it costs a message.
"""

import collections
import ctypes
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flex_assist.errors import ConfigError, ExportError, FlexAssistError, ModelError
from flex_assist.files import write_atomically
from flex_assist.processes import own_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TYPES", "check_space", "expected_bytes", "quantize"]

# llama_ftype of each form.
TYPES: Final[Mapping[str, int]] = {
    "F16": 1,
    "Q8_0": 7,
    "Q6_K": 18,
    "Q5_K_M": 17,
    "Q4_K_M": 15,
    "Q4_0": 2,
}
Progress = Callable[[int, int], None]
# Of a file's bytes in F16, at most: rows that do not fill the blocks of a form take a simpler one.
_SHARE_OF_F16: Final = 0.56
_NO_ROOM_BYTES: Final = 1 << 20
_STEP: Final = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_LAST_LINES: Final = 8
# Rows that are held as float32 at a time.
_BUFFER_BYTES: Final = 256 << 20


def quantize(
    source: Path,
    target: Path,
    kind: str,
    *,
    importance: Path | None = None,
    threads: int = 0,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the model ``source`` in the form ``kind`` to ``target``, atomically.

    Args:
        source: Best in F16: each rounding adds to the one before.
        kind: A name of ``TYPES``.
        importance: A file of ``models.importance``.
        threads: 0 takes all cores.
        progress: Told how many tensors are done, of how many.

    Raises:
        ConfigError: There is no such form.
        ExportError: llama.cpp failed, or the disk is too small; nothing is left behind.
        ModelError: ``source`` is damaged.
    """
    if kind not in TYPES:
        raise ConfigError(f"unknown form {kind!r} of a model; known: {', '.join(TYPES)}")
    from flex_assist.models.gguf_file import check_header, open_gguf

    check_header(source)
    check_space(target, expected_bytes(source, kind))

    def fill(part: Path) -> None:
        given = [str(importance)] if importance else []
        _run([str(source), str(part), kind, str(threads), *given], target, progress)
        try:
            # Also whole: the tensors are looked up in it.
            open_gguf(part)
        except ModelError as error:
            raise ExportError(f"llama.cpp wrote no whole file for {target.name!r}: {error}") from (
                error
            )

    write_atomically(target, fill)


def expected_bytes(source: Path, kind: str) -> int:
    """At most so many bytes the model ``source``, in F16, takes in the form ``kind``."""
    size = source.stat().st_size
    # Entries are added beside the tensors.
    return (size if kind == "F16" else int(size * _SHARE_OF_F16)) + _NO_ROOM_BYTES


def check_space(target: Path, needed: int) -> None:
    """Refuse to begin what cannot fit.

    Raises:
        ExportError: The disk of ``target`` has less than ``needed`` bytes free.
    """
    folder = next(folder for folder in target.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"{target.name!r} may need {needed / 1e6:.0f} MB and {str(folder)!r} has "
            f"{free / 1e6:.0f} MB free; make room, or write to another disk"
        )


def _run(arguments: list[str], target: Path, progress: Progress) -> None:
    command = own_command("flex_assist.engine.quantize", *arguments)
    last = collections.deque[str](maxlen=_LAST_LINES)
    # Its input stays open as long as this process lives.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if step := _STEP.match(line):
                    progress(int(step[1]), int(step[2]))
                elif line.strip():
                    last.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        full = shutil.disk_usage(target.parent).free < _NO_ROOM_BYTES
        words = last[-1][:300] if last else "it said nothing"
        raise ExportError(
            f"{target.name!r} cannot be written: llama.cpp's quantizer ended with "
            f"{process.returncode} ({words}); "
            + ("the disk is full: make room" if full else "make its source anew and try again")
        )


def _importance_array(
    means: "Mapping[str, NDArray[np.float32]]",
) -> "ctypes.Array[ctypes.Structure]":
    """As llama.cpp takes it: it ends with an entry without a name. ``means`` must outlive it."""
    from flex_assist.engine.llama import native

    floats = ctypes.POINTER(ctypes.c_float)
    entries = [
        native.llama_model_imatrix_data(name.encode(), values.ctypes.data_as(floats), values.size)
        for name, values in means.items()
    ]
    array = native.llama_model_imatrix_data * (len(entries) + 1)
    made: ctypes.Array[ctypes.Structure] = array(*entries, native.llama_model_imatrix_data())
    return made


def _native(source: str, target: str, kind: str, threads: int, importance: Path | None) -> int:
    """llama.cpp's call, in this process; 0 if it went well."""
    from flex_assist.engine.llama import native, silence
    from flex_assist.models.importance import read_importance

    silence()
    parameters = native.llama_model_quantize_default_params()
    parameters.ftype = TYPES[kind]
    parameters.nthread = threads
    parameters.max_buf_size = _BUFFER_BYTES
    # Both must live until the call is over.
    means = read_importance(importance).means() if importance else {}
    entries = _importance_array(means)
    if means:
        parameters.imatrix = entries
    return int(
        native.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters))
    )


def main(arguments: list[str]) -> int:
    """What the process does: quantize, and say how far it is."""
    source, target, kind, threads, *given = arguments
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # llama.cpp tells of each tensor in its log.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    told = logging.getLogger("flex_assist.engine.llama")
    told.setLevel(logging.DEBUG)
    told.addFilter(_without_prefix)
    try:
        return _native(source, target, kind, int(threads), Path(given[0]) if given else None)
    except FlexAssistError as error:
        print(error, flush=True)
        return 1


def _end_with_parent() -> None:
    """Wait until who asked is gone, and end: nobody would use the file."""
    # Not through the file object: Python cannot end while a thread waits in that.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _without_prefix(record: logging.LogRecord) -> bool:
    record.msg, record.args = record.getMessage().removeprefix("llama.cpp: "), ()
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
