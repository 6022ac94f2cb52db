"""The process that serves: a socket, the model, uvicorn, and an end that finishes what runs."""

import signal
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn

from regard.errors import ArgumentError
from regard.runs.info import describe
from regard.runs.searches import choose_search
from regard.runs.streaming import Answer, Line, Settings, translate_chunks
from regard.runs.translator import Translator, load
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
            timeout_graceful_shutdown=max(1, round(bounds.seconds)),
        )
        _Server(config, lambda: ready(_address(listener))).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def _application(directory: Path, device: str, bounds: Bounds) -> tuple[Batcher[Options, Answer], int, dict[str, Any]]:
    facts = describe(directory)
    translator = load(directory, device=device)
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
