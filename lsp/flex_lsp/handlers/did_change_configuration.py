"""``workspace/didChangeConfiguration``: options pushed by the editor, or to be asked for."""

from collections.abc import Awaitable, Callable
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from flex_lsp.session import Session
from flex_lsp.settings import WRAPPER

Ask = Callable[[], Awaitable[object]]


async def handle(session: Session, ask: Ask, params: types.DidChangeConfigurationParams) -> None:
    """Use the new options. Editors of the newer kind push nothing and wait to be asked."""
    session.reconfigure(params.settings or await ask())


async def ask(server: LanguageServer) -> Any:
    """The editor's section for us; None from an editor that cannot be asked."""
    workspace = server.client_capabilities.workspace
    if workspace is None or not workspace.configuration:
        return None
    items = [types.ConfigurationItem(section=WRAPPER)]
    answer = await server.workspace_configuration_async(types.ConfigurationParams(items=items))
    return answer[0] if answer else None
