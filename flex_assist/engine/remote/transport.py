"""HTTP to one server: TLS checked, nobody else asked, nothing waited for without a limit."""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2

from flex_assist.engine.remote.faults import KEY_REFUSED, RemoteFault, key_refused
from flex_assist.engine.remote.key import api_key
from flex_assist.errors import ConfigError
from flex_assist.remote_settings import RemoteSettings

# More of an answer that is not streamed is no answer to what is asked here.
MAX_REPLY_BYTES: Final = 1 << 20
MAX_EVENT_BYTES: Final = 1 << 18
SHOWN_CHARACTERS: Final = 200
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 2.0
# Turned away without being computed.
_BUSY = frozenset({429, 502, 503, 504})
_ENDS: Final = "[DONE]"


class Transport:
    """Speaks to the server of ``settings``, in whichever event loop is running.

    Proxies and ``.netrc`` of the environment do not count and no redirect is followed: code goes to
    the host that the person named, or nowhere.
    """

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._open: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient] | None = None

    def address(self, path: str, *, root: bool = False) -> str:
        """The address of ``path`` below the settings' URL; ``root``: below that without ``/v1``."""
        return (self._url.removesuffix("/v1") if root else self._url) + path

    async def fetch(self, address: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of a short answer (None if it is no JSON): a GET, or with a body a POST.

        Raises:
            RemoteFault: There was no answer.
            ConfigError: The API key or the certificates cannot be read.
        """
        async with asyncio.timeout(
            self._settings.first_timeout_s + self._settings.connect_timeout_s
        ):
            async with self._response("GET" if body is None else "POST", address, body) as response:
                text = await _start_of(response)
        try:
            return response.status_code, json.loads(text)
        except (ValueError, RecursionError):
            return response.status_code, None

    async def events(
        self, address: str, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a streamed answer. Closing hangs up, and by that the server stops.

        Tried again, after a growing pause, only where the server computed nothing: it could not be
        reached, or said that it is busy.

        Raises:
            RemoteFault: It failed; see ``RemoteFault.again``.
            ConfigError: The API key or the certificates cannot be read.
        """
        for attempt in range(self._settings.retries + 1):
            begun = False
            try:
                async with contextlib.aclosing(self._events(address, body)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except RemoteFault as fault:
                delay_s = FIRST_DELAY_S * 2**attempt * (0.5 + random.random())
                last = attempt == self._settings.retries
                if begun or last or not fault.again or fault.after_s > LONGEST_DELAY_S:
                    raise
                await asyncio.sleep(min(max(delay_s, fault.after_s), LONGEST_DELAY_S))

    async def close(self) -> None:
        """Close the connections of this event loop."""
        opened, self._open = self._open, None
        if opened is not None and opened[0] is asyncio.get_running_loop():
            await opened[1].aclose()

    async def _events(
        self, address: str, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        async with self._response("POST", address, body) as response:
            if response.status_code != 200:
                raise await self._refused(response)
            async for event in httpx2.EventSource(response, max_event_size=MAX_EVENT_BYTES):
                if event.data.strip() == _ENDS:
                    return
                yield self._parsed(event.data)

    def _parsed(self, data: str) -> dict[str, Any]:
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise RemoteFault(f"{self._settings.host} sends what is no answer: {shown(data)}")
        if parsed.get("error"):
            raise RemoteFault(f"{self._settings.host} failed: {_complaint(parsed)}")
        return parsed

    @contextlib.asynccontextmanager
    async def _response(
        self, method: str, address: str, body: dict[str, Any] | None
    ) -> AsyncIterator[httpx2.Response]:
        client = self._client()
        request = client.build_request(method, address, json=body)
        try:
            response = await client.send(request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError) as error:
            raise self._failed(error, sent=False) from error
        try:
            yield response
        except httpx2.HTTPError as error:
            raise self._failed(error, sent=True) from error
        finally:
            await response.aclose()
            if response.status_code in KEY_REFUSED:
                # The key may have been replaced since: read it again next time.
                await self.close()

    async def _refused(self, response: httpx2.Response) -> RemoteFault:
        status, host = response.status_code, self._settings.host
        try:
            said = _complaint(json.loads(await _start_of(response)))
        except (ValueError, RecursionError, httpx2.HTTPError):
            said = ""
        if status in KEY_REFUSED:
            return key_refused(host, status)
        text = f"{host} answers {status}" + (f": {said}" if said else "")
        return RemoteFault(text, again=status in _BUSY, after_s=_after(response))

    def _failed(self, error: Exception, *, sent: bool) -> RemoteFault:
        """The fault that stands for an error of the HTTP library."""
        host, text = self._settings.host, shown(str(error)) or type(error).__name__
        match error:
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                limit = f"within {self._settings.connect_timeout_s:g} s"
                return RemoteFault(f"{host} cannot be reached {limit}", again=True)
            case httpx2.ConnectError() | ssl.SSLError():
                certain = "certificate" not in text.lower()
                return RemoteFault(f"{host} cannot be reached: {text}", again=certain)
            case httpx2.TimeoutException():
                return RemoteFault(f"{host} stopped answering")
            case httpx2.SSEError():
                return RemoteFault(f"{host} sends what is no stream of events: {text}")
        # Without a single byte of an answer it was most likely a connection that had gone stale.
        return RemoteFault(f"{host} hung up: {text}", again=not sent)

    def _client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            self._open = (loop, self._new_client())
        return self._open[1]

    def _new_client(self) -> httpx2.AsyncClient:
        settings = self._settings
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        if key := api_key(settings):
            headers["Authorization"] = f"Bearer {key}"
        return httpx2.AsyncClient(
            headers=headers,
            verify=_certificates(settings.ca_file),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(
                max(settings.first_timeout_s, settings.stall_timeout_s),
                connect=settings.connect_timeout_s,
            ),
        )


def shown(text: str) -> str:
    """The beginning of what a server said, fit to be shown."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[:SHOWN_CHARACTERS])
    return " ".join(plain.split())


def _certificates(ca_file: str) -> ssl.SSLContext:
    if not ca_file:
        return httpx2.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=Path(ca_file).expanduser())
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"ca_file {ca_file!r} cannot be used: {error}; give a PEM file"
        ) from error


async def _start_of(response: httpx2.Response) -> bytes:
    """The body, or its beginning where it is longer than anything that is asked for here."""
    data = b""
    async with contextlib.aclosing(response.aiter_bytes()) as parts:
        async for part in parts:
            data += part
            if len(data) > MAX_REPLY_BYTES:
                return data[:MAX_REPLY_BYTES]
    return data


def _complaint(answer: object) -> str:
    """What a server says is wrong, in the forms that servers use."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or ""
    return shown(str(error))


def _after(response: httpx2.Response) -> float:
    """Seconds that a busy server wants to be left alone; dates are taken for never mind."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
