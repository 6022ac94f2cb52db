"""What a server takes on: limits of a request, of the queue and of the requests at a time.

They bound work and memory, not time spent on headers or connections that say nothing: that is a proxy's work.
"""

import math
from dataclasses import dataclass, fields

from regard.errors import ArgumentError

DAY = 86_400  # seconds; clocks and timers have an end, too


@dataclass(frozen=True)
class Bounds:
    """Limits of a server.

    Raises:
        ArgumentError: a limit is not above 0 (`wait` may be 0) or not finite, `seconds` is more than a day, `wait`
            leaves nothing of it, or a request of `texts` texts could never get into the queue.
    """

    texts: int = 100
    """Texts in a request."""
    characters: int = 5000
    """Characters of a text; a longer one gets an error of its own, the others of its request are translated."""
    bytes: int = 1_000_000
    """Bytes of a request's body."""
    beam: int = 10
    """Width of the beam that a request may ask for."""
    queue: int = 1000
    """Texts that wait; a request that would make them more is refused."""
    seconds: float = 30.0
    """Time for a request, the wait in the queue included."""
    batch: int = 64
    """Texts of several requests that are translated together."""
    wait: float = 0.005
    """Seconds that a request waits for others to be translated with it, if it comes while nothing is translated."""
    connections: int = 256
    """Open connections, idle ones too, with which requests are still answered; with more, they are refused."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value == math.inf:
                raise ArgumentError(f"{field.name} is {value}: expected a finite number")
            if not (value > 0 or (field.name == "wait" and value == 0)):
                raise ArgumentError(f"{field.name} is {value}: expected a number above 0")
        if self.seconds > DAY:
            raise ArgumentError(f"seconds is {self.seconds:g}: expected at most {DAY}, a day")
        if self.wait >= self.seconds:
            raise ArgumentError(f"wait is {self.wait:g} seconds: expected less than the {self.seconds:g} of a request")
        if self.texts > self.queue:
            raise ArgumentError(f"queue is {self.queue}, less than the {self.texts} texts that a request may have")
