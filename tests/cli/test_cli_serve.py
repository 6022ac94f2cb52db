"""`regard serve`: a process on a free port, several clients, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest


@contextmanager
def served(tiny_model, *options: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and its address as soon as it answers."""
    command = [sys.executable, "-m", "regard", "serve", str(tiny_model.directory), "--port", "0", "--json", "--quiet"]
    # a request waits for company long enough to see it wait
    command += ["--threads", "1", "--device", "cpu", "--wait-ms", "500", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        told = b"".join(iter(process.stdout.readline, b"}\n"))
        yield process, json.loads(told + b"}")["url"]
    finally:
        process.kill()
        process.communicate()


def test_a_process_serves_several_clients_and_ends_on_sigterm(tiny_model) -> None:
    with served(tiny_model, "--max-texts", 20, "--max-bytes", 3000) as (process, url):
        with ThreadPoolExecutor(8) as pool:
            replies = list(
                pool.map(lambda text: httpx.post(f"{url}/translate", json={"texts": [text]}), tiny_model.sources)
            )
        assert [reply.json()["translations"] for reply in replies] == [[{"text": text}] for text in tiny_model.targets]
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
        info = httpx.get(f"{url}/info").json()
        assert info["model"]["task"] == "translation" and info["limits"]["texts"] == 20 and info["beam"] == 3
        assert "server" not in replies[0].headers

        large = httpx.post(f"{url}/translate", content=b"x" * 3001)
        assert (large.status_code, large.headers["connection"]) == (413, "close")
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:  # says nothing of how long the body is
            raw.sendall(b"POST /translate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.sendall(b"800\r\n" + b"x" * 2048 + b"\r\n" + b"800\r\n" + b"x" * 2048 + b"\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 413 ")

        check_the_end(process, url, signal.SIGTERM, 0)


def test_ctrl_c_ends_it_as_well(tiny_model) -> None:
    with served(tiny_model) as (process, url):
        check_the_end(process, url, signal.SIGINT, 128 + signal.SIGINT)


def check_the_end(process: subprocess.Popen[bytes], url: str, number: signal.Signals, code: int) -> None:
    """A request that has come in when the signal does is still answered; then nobody is there."""
    replies: list[httpx.Response] = []
    question = {"texts": ["two dogs play"]}
    asking = threading.Thread(target=lambda: replies.append(httpx.post(f"{url}/translate", json=question)))
    asking.start()
    while httpx.get(f"{url}/health").json()["waiting"] == 0:
        time.sleep(0.01)
    process.send_signal(number)
    asking.join(30)
    assert replies[0].json() == {"translations": [{"text": "zwei Hunde spielen"}]}
    assert process.wait(30) == code
    assert process.stderr is not None and process.stderr.read() == b""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_what_cannot_be_served_is_one_line(regard, tiny_model, monkeypatch) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ran = regard("serve", tiny_model.directory, "--port", port)
            assert ran.err == f"regard: error: --host 127.0.0.1 --port {port}: Address already in use\n"
            assert ran.code == 2
        assert "nowhere: no such model directory" in regard("serve", "nowhere", "--port", 0).err
        assert "queue is 5, less than the 100 texts" in regard("serve", "nowhere", "--queue", 5).err
        assert "seconds is 0.0: expected a number above 0" in regard("serve", "nowhere", "--seconds", 0).err
        ran = regard("serve", "nowhere", "--host", "0.0.0.0", "--port", 0, "--quiet")
        assert ran.err.startswith("warning: --host 0.0.0.0: whoever reaches this machine there can use the model")
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        monkeypatch.delitem(sys.modules, "regard.serving.server", raising=False)
        ran = regard("serve", tiny_model.directory)
        assert (ran.code, ran.err) == (2, 'regard: error: serving needs an extra: pip install "regard[serve]"\n')
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_nothing_of_the_extra_is_imported_by_the_command_line() -> None:
    code = "import sys, regard.cli; print(sorted({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_bounds_and_hosts_that_make_no_sense_are_one_line(regard) -> None:
    for options, message in (
        (["--seconds", "inf"], "seconds is inf: expected a finite number"),
        (["--wait-ms", "1e14"], "wait is 1e+11 seconds: expected less than the 30 of a request"),
        (["--host", "x" * 70], f"--host {'x' * 70}: not the name of a host"),
    ):
        ran = regard("serve", "nowhere", "--port", 0, "--quiet", *options)
        assert ran.code == 2 and message in ran.err and "Traceback" not in ran.err
