"""``initialized``: the editor is ready, so the heavy work may begin."""

from lsprotocol import types

from flex_lsp.session import Session
from flex_lsp.status import Status


def handle(session: Session, params: types.InitializedParams) -> None:
    """Load the model in the background."""
    session.board.announce(Status(state="starting", message="starting"))
    session.start()
