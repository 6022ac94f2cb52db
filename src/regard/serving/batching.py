"""One thread runs the model; requests that wait are answered together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from regard.serving.bounds import Bounds

S = TypeVar("S")
R = TypeVar("R")


class QueueFullError(Exception):
    """There is no room for another request."""


class StoppedError(Exception):
    """Nothing is answered any more: the server is ending, or its thread has failed."""


@dataclass(frozen=True)
class _Job(Generic[S, R]):
    texts: Sequence[str]
    settings: S
    future: Future[list[R]] = field(default_factory=Future)


class Batcher(Generic[S, R]):
    """Answers requests on a thread of its own, several with the same settings at a time.

    The oldest request is always among those that are answered next, so none waits for ever.

    Args:
        answer: given texts and settings, returns a result for each text. Only ever called by the one thread.
        bounds: `queue`, `batch` and `wait` count here.
    """

    def __init__(self, answer: Callable[[list[str], S], Sequence[R]], bounds: Bounds) -> None:
        self._answer = answer
        self._bounds = bounds
        self._jobs: deque[_Job[S, R]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="translating", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self, seconds: float | None = None) -> None:
        """Take no more, answer what waits, and end; after `seconds` at the latest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    @property
    def running(self) -> bool:
        """Whether requests are taken and answered."""
        return self._thread.is_alive() and not self._closed and not self._failed

    def waiting(self) -> int:
        """Texts that wait."""
        with self._changed:
            return self._waiting()

    def submit(self, texts: Sequence[str], settings: S) -> Future[list[R]]:
        """Have texts answered; cancel the future to give up a request that waits.

        Raises:
            QueueFullError: too many texts wait already.
            StoppedError: nothing is answered any more.
        """
        job: _Job[S, R] = _Job(texts, settings)
        with self._changed:
            if self._closed or self._failed:
                raise StoppedError
            if self._waiting() + len(texts) > self._bounds.queue:
                raise QueueFullError
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def _waiting(self) -> int:
        return sum(len(job.texts) for job in self._jobs if not job.future.cancelled())

    def _run(self) -> None:
        wanted: list[_Job[S, R]] = []
        busy = False
        try:
            while jobs := self._next(busy):
                wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
                if wanted:
                    self._work(wanted)
                busy = True
        except BaseException:
            self._fail(wanted)
            raise

    def _fail(self, begun: list[_Job[S, R]]) -> None:
        """Let nobody wait for an answer that won't come."""
        with self._changed:
            self._failed = True
            waiting = [job for job in self._jobs if job.future.set_running_or_notify_cancel()]
            self._jobs.clear()
        for job in [*begun, *waiting]:
            if not job.future.done():
                job.future.set_exception(StoppedError())

    def _next(self, busy: bool) -> list[_Job[S, R]]:
        """The jobs to answer next, at least one; none when all is done.

        Args:
            busy: whether others have just been answered; what came in meanwhile has waited for company already.
        """
        with self._changed:
            company = busy and self._waiting() > 0
            while not self._jobs and not self._closed:
                self._changed.wait()
            until = time.monotonic() + (0 if company else self._bounds.wait)
            while not self._closed and self._waiting() < self._bounds.batch:
                remaining = until - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            return self._take()

    def _take(self) -> list[_Job[S, R]]:
        """The oldest job, and those that can be answered with it; the others keep their order."""
        taken: list[_Job[S, R]] = []
        others: deque[_Job[S, R]] = deque()
        count = 0
        for job in self._jobs:
            fits = not taken or (job.settings == taken[0].settings and count + len(job.texts) <= self._bounds.batch)
            if fits:
                taken.append(job)
                count += len(job.texts)
            else:
                others.append(job)
        self._jobs = others
        return taken

    def _work(self, jobs: list[_Job[S, R]]) -> None:
        try:
            results = list(self._answer([text for job in jobs for text in job.texts], jobs[0].settings))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
            else:  # one request's trouble should not be another's
                for job in jobs:
                    self._work([job])
            return
        start = 0
        for job in jobs:
            job.future.set_result(results[start : start + len(job.texts)])
            start += len(job.texts)
