"""The process that serves: a socket, the model, uvicorn, and an end that finishes what runs."""

import math
import signal
import socket
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from regard.errors import ArgumentError
from regard.runs.info import describe
from regard.runs.load import load_translator
from regard.runs.searches import choose_search
from regard.runs.streaming import Answer, Line, Settings, translate_chunks
from regard.runs.translator import Translator
from regard.serving.app import Options, create_app
from regard.serving.batching import Batcher
from regard.serving.bounds import Bounds


def serve_model(
    directory: Path,
    *,
    host: str,
    port: int,
    bounds: Bounds,
    device: str,
    ready: Callable[[str], None],
) -> None:
    """Load a model and serve it until SIGTERM (then the process leaves with 0) or Ctrl-C (`KeyboardInterrupt`).

    Both end it alike: no new connections; requests that have come in are answered, for at most `bounds.seconds`. A
    second Ctrl-C doesn't wait for them.

    Args:
        directory: what `regard train` made.
        host, port: where to listen; port 0 takes a free one.
        bounds: limits of requests.
        device: as for `regard.load`.
        ready: called with the address once requests are taken.

    Raises:
        ArgumentError: the address is not to be had.
        CheckpointError, RecipeError: as for `regard.load`.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # uvicorn hands the signal on when it has ended
    with _bound_socket(host, port) as listener:
        app = create_app(*_application(directory, device, bounds), bounds)
        Server(app, bounds, lambda: ready(_address(listener))).run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready, and ends by one deadline.

    Args:
        app: as `create_app` makes it.
        bounds: limits of requests; `seconds` of the end, too, to the next whole second.
        ready: called once requests are taken.
    """

    def __init__(self, app: FastAPI, bounds: Bounds, ready: Callable[[], None]) -> None:
        self._app, self._ready = app, ready
        self._grace = math.ceil(bounds.seconds)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=bounds.connections + 1,  # uvicorn refuses as soon as there are so many
            timeout_graceful_shutdown=self._grace,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end, then the application, both until the same time."""
        self._app.state.end_by = time.monotonic() + self._grace
        await super().shutdown(sockets)


def _application(directory: Path, device: str, bounds: Bounds) -> tuple[Batcher[Options, Answer], int, dict[str, Any]]:
    facts = describe(directory)
    translator = load_translator(directory, device=device)
    beam = min(int(translator.decoding["beam"]), bounds.beam)
    limits = {name: getattr(bounds, name) for name in ("texts", "characters", "bytes", "beam", "seconds")}
    told = {"regard": version("regard"), "model": facts, "beam": beam, "limits": limits}
    return Batcher(answering(translator), bounds), beam, told


def answering(translator: Translator) -> Callable[[list[str], Options], list[Answer]]:
    """What a `Batcher` needs: a function that translates texts."""

    def answer(texts: list[str], options: Options) -> list[Answer]:
        search = choose_search(
            translator.decoding,
            None,
            constrained=False,
            nbest=options.nbest,
            beam=options.beam,
            penalty=None,
            stopping=None,
        )
        return next(translate_chunks(translator, [[Line(text) for text in texts]], Settings(search)))

    return answer


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket at the address, before the model is loaded: what can fail at once should."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except UnicodeError as error:  # what can't even be asked for: a label of more than 63 letters
        raise ArgumentError(f"--host {host}: not the name of a host: {error}") from error
    except OSError as error:
        raise ArgumentError(f"--host {host}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ArgumentError(f"--host {host} --port {port}: {error.strerror}") from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
