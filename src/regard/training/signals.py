"""Stopping politely: the first Ctrl-C or SIGTERM asks for an end after the step, the second stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Becomes `requested` when a signal has asked for an end."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def graceful_stop() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request for the time of the block; the former handlers come back afterwards.

    The second signal raises `KeyboardInterrupt` at once. Python lets only the main thread handle signals: in
    another thread the block changes nothing.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            # None: set by something other than Python, which cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
