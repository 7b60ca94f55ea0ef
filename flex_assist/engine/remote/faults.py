"""What can go wrong between here and a server.

EngineError
└── RemoteFault      the server does not answer as it should
    └── Misfit       it answers, but it is not the one that this repository needs
"""

from flex_assist.errors import EngineError

# Of HTTP.
KEY_REFUSED = frozenset({401, 403})


class RemoteFault(EngineError):
    """A server did not answer, or not as it should.

    Args:
        again: Whether another try is safe and may help: nothing was computed, or it was turned
            away by a server that was busy.
        after_s: The least time before it, as the server wants it.
    """

    def __init__(self, message: str, *, again: bool = False, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.again = again
        self.after_s = after_s


def key_refused(host: str, status: int) -> RemoteFault:
    """The fault of a server that does not take the API key."""
    return RemoteFault(f"{host} refuses the API key ({status}); check api_key_env or _file")


class Misfit(RemoteFault):
    """The server has not what is asked of it: the adapter, the base, or its vocabulary."""
