"""A stand-in of the hub on this machine: it lists, redirects, cuts, stalls and lies as told."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it has, and how it behaves.

    Attributes:
        cuts: For each of the next downloads, after how many bytes the connection ends.
        stalls_s: For each of the next downloads, how long nothing comes.
        refusal: A status that everything is answered with, and the hub's code for it.
        ranges: Whether a download may begin in the middle.
        asked: First byte asked for, of each download.
    """

    files: dict[str, bytes]
    digests: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    stalls_s: list[float] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    ranges: bool = True
    asked: list[int] = field(default_factory=list)
    address: str = ""

    def listing(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0",
             "lfs": {"size": len(data), "pointerSize": 130,
                     "sha256": self.digests.get(name) or hashlib.sha256(data).hexdigest()}}
            for name, data in self.files.items()
        ]  # fmt: skip
        return {"id": "some/where", "sha": COMMIT, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.hub.refusal:
            status, code = self.hub.refusal
            self._answer(status, b"{}", {"X-Error-Code": code} if code else {})
        elif path.startswith("/api/models/"):
            if "/revision/" in path and not path.endswith(("main", COMMIT)):
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            self._answer(200, json.dumps(self.hub.listing()).encode())
        elif "/resolve/" in path:
            # As the hub does it: the bytes are elsewhere.
            self._answer(302, b"", {"Location": f"/elsewhere/{path.rpartition('/')[2]}"})
        else:
            self._download(self.hub.files[path.rpartition("/")[2]])

    def _download(self, data: bytes) -> None:
        wanted = self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        self.hub.asked.append(first)
        start = first if self.hub.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        length = self.hub.cuts.pop(0) if self.hub.cuts else len(data)
        if self.hub.stalls_s:
            time.sleep(self.hub.stalls_s.pop(0))
        with suppress(OSError):
            self.wfile.write(data[start : start + length])
        self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Let ``hub`` answer on a port of this machine."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
