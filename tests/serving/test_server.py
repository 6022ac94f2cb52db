"""The server with real connections: clients that leave, too many of them, how long the end takes."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from regard.errors import ArgumentError
from regard.runs.streaming import Answer
from regard.serving.app import Options, create_app
from regard.serving.batching import Batcher
from regard.serving.bounds import Bounds
from regard.serving.server import Server, _bound_socket


class Stuck:
    """A model that answers once it is let."""

    def __init__(self) -> None:
        self.began, self.gate = threading.Event(), threading.Event()

    def __call__(self, texts: list[str], options: Options) -> Sequence[Answer]:
        self.began.set()
        self.gate.wait(20)
        return [Answer(1, text, (), "no model") for text in texts]


@contextmanager
def listening(model: Stuck, **limits: Any) -> Iterator[tuple[Server, threading.Thread, str]]:
    bounds, ready = Bounds(**limits), threading.Event()
    with _bound_socket("127.0.0.1", 0) as listener:
        server = Server(create_app(Batcher(model, bounds), 1, {}, bounds), bounds, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(10)
            yield server, thread, f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            model.gate.set()
            server.should_exit = True
            thread.join(20)


def ask(address: str, text: str) -> socket.socket:
    """Send a request and keep the connection."""
    host, port = address.split(":")
    body = b'{"texts": ["%s"]}' % text.encode()
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def waiting(address: str, count: int) -> bool:
    """Whether so many texts come to wait."""
    end = time.monotonic() + 10
    while httpx.get(f"http://{address}/health").json()["waiting"] != count:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_client_that_leaves_leaves_the_queue() -> None:
    model = Stuck()
    with listening(model, wait=0.0) as (_, _, address), ask(address, "a"):
        assert model.began.wait(10)
        with ask(address, "b"):
            assert waiting(address, 1)
        assert waiting(address, 0)


def test_too_many_connections_are_refused() -> None:
    model = Stuck()
    with listening(model, connections=2) as (_, _, address):
        host, port = address.split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(2)]
        assert httpx.get(f"http://{address}/health").status_code == 503
        idle[0].close()
        time.sleep(0.2)
        assert httpx.get(f"http://{address}/health").status_code == 200
        idle[1].close()


def test_the_end_takes_no_longer_than_a_request_may() -> None:
    model = Stuck()
    with listening(model, seconds=1.0, wait=0.0) as (server, thread, address), ask(address, "a"):
        assert model.began.wait(10)
        began = time.monotonic()
        server.should_exit = True
        thread.join(10)
        assert time.monotonic() - began < 1.7


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
def test_what_is_no_name_of_a_host(host: str) -> None:
    with pytest.raises(ArgumentError, match=f"--host {host}: not the name of a host"):
        _bound_socket(host, 0)
