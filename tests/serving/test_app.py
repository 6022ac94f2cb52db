"""The HTTP API on a tiny model: answers, bounds, errors, clients at the same time."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from regard.runs.load import load_translator
from regard.runs.streaming import Answer
from regard.runs.translator import Translator
from regard.serving.app import Options, create_app
from regard.serving.batching import Batcher
from regard.serving.bounds import Bounds
from regard.serving.server import answering

Answering = Callable[[list[str], Options], Sequence[Answer]]


@pytest.fixture(scope="module")
def translator(tiny_model) -> Translator:
    return load_translator(tiny_model.directory, device="cpu")


@contextmanager
def serving(answer: Answering, **limits: Any) -> Iterator[TestClient]:
    bounds = Bounds(**limits)
    app = create_app(Batcher(answer, bounds), 3, {"model": {"task": "translation"}}, bounds)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(translator: Translator) -> Iterator[TestClient]:
    with serving(answering(translator), texts=12, characters=200, bytes=4000, beam=5, queue=40) as client:
        yield client


def ask(client: TestClient, **question: Any) -> Any:
    reply = client.post("/translate", json=question)
    assert reply.status_code == 200, reply.text
    return reply.json()["translations"]


def test_translations_are_the_model_s_own(client: TestClient, tiny_model) -> None:
    assert ask(client, texts=tiny_model.sources) == [{"text": text} for text in tiny_model.targets]
    assert ask(client, texts=["one dog sleeps", "", " "]) == [{"text": "ein Hund schläft"}, {"text": ""}, {"text": ""}]
    assert ask(client, texts=[]) == []


def test_scores_and_nbest(client: TestClient, translator: Translator) -> None:
    [wanted] = translator.translate_nbest(["two dogs play"], nbest=2, beam=4)
    [found] = ask(client, texts=["two dogs play"], beam=4, nbest=2, scores=True)
    assert found["text"] == wanted[0].text and found["score"] == pytest.approx(wanted[0].score)
    assert found["nbest"] == [{"text": one.text, "score": pytest.approx(one.score)} for one in wanted]
    [greedy] = ask(client, texts=["two dogs play"], beam=1, nbest=1)
    assert list(greedy) == ["text", "nbest"] and len(greedy["nbest"]) == 1


def test_a_text_that_is_too_long_disturbs_no_other(client: TestClient) -> None:
    tokens, characters, good = ask(client, texts=["two dogs play " * 14, "x" * 201, "two dogs play"])
    assert tokens["text"] is None and "tokens; the model has positions for" in tokens["error"]
    assert characters == {"text": None, "error": "has 201 characters; at most 200 are taken"}
    assert good == {"text": "zwei Hunde spielen"}


def test_health_info_and_description(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}
    assert client.get("/info").json() == {"model": {"task": "translation"}}
    assert {"/translate", "/health", "/info"} == set(client.get("/openapi.json").json()["paths"])
    assert client.get("/docs").status_code == 404  # it would need scripts from elsewhere


@pytest.mark.parametrize(
    ("question", "field", "message"),
    [
        ({}, "texts", "Field required"),
        ({"texts": "one dog"}, "texts", "valid list"),
        ({"texts": ["a", 1]}, "texts.1", "valid string"),
        ({"texts": ["a"] * 13}, "texts", "at most 12 items"),
        ({"texts": ["a"], "beam": 6}, "beam", "less than or equal to 5"),
        ({"texts": ["a"], "beam": 0}, "beam", "greater than or equal to 1"),
        ({"texts": ["a"], "beam": "3"}, "beam", "valid integer"),
        ({"texts": ["a"], "nbest": 4}, "nbest", "4 is more than the beam of 3"),
        ({"texts": ["a"], "beams": 4}, "beams", "Extra inputs are not permitted"),
        ([], None, "the body should be JSON such as"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, question: Any, field: str | None, message: str) -> None:
    reply = client.post("/translate", json=question)
    assert reply.status_code == 422
    problem = reply.json()
    assert problem.get("field") == field and message in problem["error"]


def test_what_is_no_json_and_no_text(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    reply = client.post("/translate", content=b'{"texts": [}', headers=headers)
    assert reply.status_code == 422 and reply.json()["error"].startswith("the body is not JSON: Expecting value")
    reply = client.post("/translate", content=rb'{"texts": ["\ud800"]}', headers=headers)
    assert reply.status_code == 422 and reply.json() == {
        "error": "texts.0: not Unicode text, it has half of a surrogate pair",
        "field": "texts.0",
    }
    for content, reason in (
        (b'{"texts": ["\xff"]}', "byte 13 is not utf-8"),
        (b'{"texts": ["a"], "beam": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
        (b'{"texts": ' + b"[" * 5000 + b"}", "it is nested too deep"),
    ):
        with serving(refused, bytes=6000) as other:
            reply = other.post("/translate", content=content, headers=headers)
        assert reply.status_code == 422
        assert reply.json()["error"].startswith(f"the body is not JSON that can be read: {reason}")
    for kind in ({"Content-Type": "text/plain"}, {"Content-Type": ""}):  # what a form of another site could send
        reply = client.post("/translate", content=b'{"texts": ["a"]}', headers=kind)
        assert reply.status_code == 422 and "Content-Type application/json" in reply.json()["error"]
    request = client.build_request("POST", "/translate", content=b'{"texts": ["a"]}')
    assert "content-type" not in request.headers
    assert client.send(request).status_code == 422
    for method, path, status in (("GET", "/translate", 405), ("GET", "/nothing", 404), ("OPTIONS", "/translate", 405)):
        reply = client.request(method, path)
        assert (reply.status_code, list(reply.json())) == (status, ["error"])
        assert "access-control-allow-origin" not in reply.headers


def test_a_body_that_is_too_large(client: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"texts": ["'
        for _ in range(9):
            yield b"x" * 1000

    for content in (b"x" * 4001, pieces()):  # announced, and found out while it comes in
        reply = client.post("/translate", content=content)
        assert (reply.status_code, reply.json()) == (413, {"error": "the body is larger than 4000 bytes"})


def test_clients_share_batches_and_get_their_own_answers(translator: Translator, tiny_model) -> None:
    batches: list[int] = []
    own = answering(translator)

    def answer(texts: list[str], options: Options) -> Sequence[Answer]:
        batches.append(len(texts))
        time.sleep(0.05)  # the others come in meanwhile
        return own(texts, options)

    with serving(answer) as client, ThreadPoolExecutor(11) as pool:
        found = list(pool.map(lambda text: ask(client, texts=[text, ""]), tiny_model.sources))
    assert [one[0]["text"] for one in found] == tiny_model.targets
    assert sum(batches) == 22 and len(batches) < 11


def refused(texts: list[str], options: Options) -> Sequence[Answer]:
    raise RuntimeError("out of memory")


def test_a_model_that_fails_is_said_and_tried_again(client: TestClient) -> None:
    with serving(refused) as failing:
        for _ in range(2):
            reply = failing.post("/translate", json={"texts": ["a"]})
            assert (reply.status_code, reply.json()) == (500, {"error": "the model failed: RuntimeError"})
        assert failing.get("/health").status_code == 200


def test_too_many_that_wait_and_too_long_a_time() -> None:
    gate, began = threading.Event(), threading.Event()

    def answer(texts: list[str], options: Options) -> Sequence[Answer]:
        began.set()
        gate.wait(10)
        return [Answer(1, text, (), "no model") for text in texts]

    with serving(answer, texts=2, queue=2, seconds=0.4, wait=0.0) as client, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(client.post, "/translate", json={"texts": ["a"]})
        assert began.wait(10)
        waiting = pool.submit(client.post, "/translate", json={"texts": ["b", "c"]})
        while client.get("/health").json()["waiting"] < 2:
            time.sleep(0.005)
        full = client.post("/translate", json={"texts": ["d"]})
        assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
        assert full.json() == {"error": "too many texts wait to be translated; try again later"}
        for late in (slow.result(10), waiting.result(10)):
            assert (late.status_code, late.json()) == (504, {"error": "not translated within 0.4 seconds"})
        assert client.get("/health").json()["waiting"] == 0  # given up, so there is room again
        gate.set()
        assert ask(client, texts=["e"]) == [{"text": None, "error": "no model"}]
