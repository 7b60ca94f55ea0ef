"""llama.cpp's own server in a process of its own: ``python -m flex_lsp.bench.server MODEL …``.

It comes in the package xllamacpp. The settings are those that llama.cpp recommends for completions
(its ``--fim-*`` presets): batches of 1024, ``--cache-reuse 256``; one slot, since one person types.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from flex_assist.errors import EngineError, MissingExtraError
from flex_assist.processes import own_command

BATCH_TOKENS: Final = 1024
REUSED_CHUNK_TOKENS: Final = 256
HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 120.0
ANSWER_TIMEOUT_S: Final = 120.0


def check_installed() -> None:
    """Raises MissingExtraError, with the command to install it, where the server is missing."""
    if find_spec("xllamacpp") is None:
        raise MissingExtraError("the comparison with llama.cpp's server", "peers")


class LlamaServer:
    """A running server. Requests block; ask from threads."""

    def __init__(
        self,
        model: Path,
        *,
        context_tokens: int,
        threads: int,
        log: IO[bytes],
        program: Path | None = None,
    ) -> None:
        """Start one, and wait until it answers.

        Args:
            program: A ``llama-server`` of one's own, instead of the one in the package.

        Raises:
            EngineError: It does not start.
        """
        command = own_command(
            "flex_lsp.bench.server", str(model), str(context_tokens), str(threads)
        )
        port = _free_port() if program is not None else 0
        if program is not None:
            command = _own_server(program, model, context_tokens, threads, port)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        except OSError as error:
            raise EngineError(f"{command[0]!r} cannot be started: {error}") from error
        self._port = port or self._announced()
        if program is not None:
            self._wait()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a request.

        Raises:
            EngineError: The server refuses, or is gone.
        """
        # A new one each time, as the plugin does it: the server hangs up on those that wait.
        connection = http.client.HTTPConnection(HOST, self._port, timeout=ANSWER_TIMEOUT_S)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"llama.cpp's server does not answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise EngineError(f"llama.cpp's server refuses {path}: {data[:300]!r}")
        return json.loads(data)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The end of its standard input ends ours.
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _wait(self) -> None:
        """Until the model is loaded. What the program prints is not read: it is let go."""
        assert self._process.stdout is not None
        threading.Thread(target=_drained, args=(self._process.stdout,), daemon=True).start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(EngineError):
                self.post("/completion", {"prompt": [1], "n_predict": 1})
                return
            time.sleep(0.2)
        self.close()
        raise EngineError("llama-server did not start; is it one of llama.cpp, and the model its?")

    def _announced(self) -> int:
        assert self._process.stdout is not None
        timer = threading.Timer(START_TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith(b"{"):
                    return int(json.loads(line)["port"])
        finally:
            timer.cancel()
        raise EngineError("llama.cpp's server did not start; is the model a GGUF file it can load?")


def _own_server(
    program: Path, model: Path, context_tokens: int, threads: int, port: int
) -> list[str]:
    options = {
        "--model": model, "--host": HOST, "--port": port, "--ctx-size": context_tokens,
        "--batch-size": BATCH_TOKENS, "--ubatch-size": BATCH_TOKENS, "--parallel": 1,
        "--cache-reuse": REUSED_CHUNK_TOKENS, "--threads": threads, "--threads-batch": threads,
        "--n-gpu-layers": 0,
    }  # fmt: skip
    return [str(program), *(str(one) for pair in options.items() for one in pair)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _drained(stream: IO[bytes]) -> None:
    for _ in stream:
        pass


def main(model: str, context_tokens: int, threads: int) -> None:
    """Serve until standard input ends."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.hostnames = [HOST]
    settings.port = 0
    settings.n_ctx = context_tokens
    settings.n_batch = settings.n_ubatch = BATCH_TOKENS
    settings.n_cache_reuse = REUSED_CHUNK_TOKENS
    settings.n_parallel = 1
    settings.n_gpu_layers = 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    port = int(server.listening_address.rpartition(":")[2])
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
