"""The queue before the model: what is answered together, in which order, what is refused, how it ends."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ArgumentError
from regard.serving.batching import Batcher, QueueFullError, StoppedError
from regard.serving.bounds import Bounds


class Model:
    """Answers with the text in capitals once it is let; remembers what it was asked together."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], int]] = []
        self.gate = threading.Semaphore(0)
        self.began = threading.Semaphore(0)

    def __call__(self, texts: list[str], setting: int) -> list[str]:
        self.batches.append((texts, setting))
        self.began.release()
        assert self.gate.acquire(timeout=10)
        if "bad" in texts:
            raise ValueError("bad text")
        return [text.upper() for text in texts]


@contextmanager
def running(bounds: Bounds) -> Iterator[tuple[Model, Batcher[int, str]]]:
    model = Model()
    batcher: Batcher[int, str] = Batcher(model, bounds)
    batcher.start()
    try:
        yield model, batcher
    finally:
        model.gate.release(100)
        batcher.close(10)
        assert not batcher.running


def test_what_waits_is_answered_together_by_settings() -> None:
    with running(Bounds(texts=4, batch=4, wait=0.0)) as (model, batcher):
        first = batcher.submit(["a"], 1)
        assert model.began.acquire(timeout=10)
        later = [batcher.submit(texts, setting) for texts, setting in ((["b"], 1), (["c"], 2), (["d", "e"], 1))]
        later += [batcher.submit(["f", "g"], 1), batcher.submit(["h"], 1)]
        assert batcher.waiting() == 7 and batcher.running
        model.gate.release(10)
        assert first.result(10) == ["A"]
        assert [one.result(10) for one in later] == [["B"], ["C"], ["D", "E"], ["F", "G"], ["H"]]
        # the oldest first; f and g don't fit into that batch any more, h does
        assert model.batches == [(["a"], 1), (["b", "d", "e", "h"], 1), (["c"], 2), (["f", "g"], 1)]
        assert batcher.waiting() == 0


def test_an_idle_model_waits_a_moment_for_company() -> None:
    with running(Bounds(texts=2, batch=2, wait=5.0)) as (model, batcher):
        model.gate.release(10)
        futures = [batcher.submit([name], 0) for name in "ab"]
        assert [one.result(4) for one in futures] == [["A"], ["B"]]  # a full batch doesn't wait five seconds
        assert model.batches == [(["a", "b"], 0)]


def test_what_came_in_meanwhile_has_waited_already() -> None:
    with running(Bounds(texts=2, batch=2, wait=9.0)) as (model, batcher):
        batcher.submit(["a", "b"], 0)
        assert model.began.acquire(timeout=4)
        later = batcher.submit(["c"], 0)
        model.gate.release(10)
        assert later.result(4) == ["C"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_nobody_waiting() -> None:
    gate, began = threading.Event(), threading.Event()

    def answer(texts: list[str], setting: int) -> list[str]:
        began.set()
        gate.wait(10)
        raise SystemExit

    batcher: Batcher[int, str] = Batcher(answer, Bounds(wait=0.0))
    batcher.start()
    begun = batcher.submit(["a"], 0)
    assert began.wait(10)
    waiting, given_up = batcher.submit(["b"], 0), batcher.submit(["c"], 0)
    given_up.cancel()
    gate.set()
    for future in (begun, waiting):
        with pytest.raises(StoppedError):
            future.result(10)
    batcher.close(10)
    assert not batcher.running and batcher.waiting() == 0
    with pytest.raises(StoppedError):
        batcher.submit(["d"], 0)


def test_a_request_may_be_larger_than_a_batch() -> None:
    with running(Bounds(texts=5, batch=2, wait=0.0)) as (model, batcher):
        model.gate.release(10)
        assert batcher.submit(list("abcde"), 0).result(10) == list("ABCDE")


def test_a_full_queue_refuses_and_given_up_requests_make_room() -> None:
    with running(Bounds(texts=3, queue=3, wait=0.0)) as (model, batcher):
        batcher.submit(["a"], 0)
        assert model.began.acquire(timeout=10)
        waiting = batcher.submit(["b", "c"], 0)
        with pytest.raises(QueueFullError):
            batcher.submit(["d", "e"], 0)
        assert waiting.cancel()
        other = batcher.submit(["d", "e"], 0)
        model.gate.release(10)
        assert other.result(10) == ["D", "E"]
        assert [texts for texts, _ in model.batches] == [["a"], ["d", "e"]]
        with pytest.raises(CancelledError):
            waiting.result()


def test_one_request_s_trouble_is_its_own() -> None:
    with running(Bounds(wait=0.0)) as (model, batcher):
        batcher.submit(["a"], 0)
        assert model.began.acquire(timeout=10)
        futures = [batcher.submit([text], 0) for text in ("good", "bad", "well")]
        model.gate.release(10)
        assert futures[0].result(10) == ["GOOD"] and futures[2].result(10) == ["WELL"]
        with pytest.raises(ValueError, match="bad text"):
            futures[1].result(10)
        assert batcher.submit(["after"], 0).result(10) == ["AFTER"]


def test_closing_answers_what_has_come_in_and_takes_no_more() -> None:
    with running(Bounds(wait=0.0)) as (model, batcher):
        first = batcher.submit(["a"], 0)
        assert model.began.acquire(timeout=10)
        second = batcher.submit(["b"], 0)
        closing = threading.Thread(target=batcher.close)
        closing.start()
        while batcher.running:
            time.sleep(0.001)
        with pytest.raises(StoppedError):
            batcher.submit(["c"], 0)
        model.gate.release(10)
        closing.join(10)
        assert (first.result(0), second.result(0)) == (["A"], ["B"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.text(max_size=3), max_size=5), st.integers(0, 2)), max_size=20), st.integers(1, 8)
)
def test_each_request_gets_its_own_answers(requests: list[tuple[list[str], int]], batch: int) -> None:
    batcher: Batcher[int, tuple[str, int]] = Batcher(
        lambda texts, setting: [(text, setting) for text in texts], Bounds(batch=batch, wait=0.0)
    )
    futures = [batcher.submit(*request) for request in requests]
    batcher.start()
    for (texts, setting), future in zip(requests, futures, strict=True):
        assert future.result(10) == [(text, setting) for text in texts]
    batcher.close(10)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"texts": 0}, "texts is 0: expected a number above 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"wait": -1.0}, "wait is -1.0"),
        ({"seconds": float("inf")}, "seconds is inf: expected a finite number"),
        ({"seconds": 1e9}, "seconds is 1e\\+09: expected at most 86400, a day"),
        ({"wait": float("inf")}, "wait is inf"),
        ({"wait": 30.0}, "wait is 30 seconds: expected less than the 30 of a request"),
        ({"connections": 0}, "connections is 0"),
        ({"queue": 99}, "queue is 99, less than the 100 texts"),
    ],
)
def test_bounds_that_make_no_sense(limits: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Bounds(**limits)  # type: ignore[arg-type]
