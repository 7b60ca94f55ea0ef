"""Stopping a computation in native code from another thread, without Python in between."""

import ctypes

_GO = b"\0"
_STOP = b"x"


class Paused(Exception):
    """A step was given up for a more urgent one; what it would have added is not there.

    Never leaves the engine: the same step is tried again later.
    """


class Interrupt:
    """Stops the decode that runs under it within milliseconds.

    The flag is a C string of length 0 (go on) or 1 (stop), so that ``strlen`` of the C library can
    be llama.cpp's abort callback: the decode asks hundreds of times a token and never waits for
    the interpreter's lock.
    """

    __slots__ = ("_cancelled", "_text")

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self._cancelled = False

    @property
    def address(self) -> ctypes.c_void_p:
        """Where the C string lies; valid as long as this object."""
        return ctypes.cast(self._text, ctypes.c_void_p)

    @property
    def cancelled(self) -> bool:
        """The work will not be taken up again."""
        return self._cancelled

    def is_set(self) -> bool:
        """The step that runs must end now."""
        return self._text.raw[:1] == _STOP

    def cancel(self) -> None:
        """Stop for good. From any thread."""
        self._cancelled = True
        self._text[0] = _STOP

    def pause(self) -> None:
        """Stop until ``resume``. From any thread."""
        self._text[0] = _STOP

    def resume(self) -> None:
        """Go on, unless cancelled."""
        self._text[0] = _GO
        # A cancel between the two lines set the flag itself; one before them was just overwritten.
        if self._cancelled:
            self._text[0] = _STOP
