"""The two pipes to the editor, kept apart from everything else that reads and writes."""

import os
import sys
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The editor's two pipes."""

    read: BinaryIO
    write: BinaryIO


def claim_standard_streams() -> Streams:
    """Keep descriptors 0 and 1 for the protocol, out of reach of everything else.

    From now on descriptor 1 and ``sys.stdout`` lead to standard error, and descriptor 0 is empty: a
    stray print, a native library or a child process cannot disturb the editor.
    """
    sys.stdout.flush()
    read, write = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    sys.stdout = sys.stderr
    return Streams(read=os.fdopen(read, "rb"), write=os.fdopen(write, "wb"))
