"""What a server takes on: limits that keep any number of clients from using it up."""

from dataclasses import dataclass, fields

from regard.errors import ArgumentError


@dataclass(frozen=True)
class Bounds:
    """Limits of a server.

    Raises:
        ArgumentError: a limit is not above 0 (`wait` may be 0), or a request of `texts` texts could never get into the
            queue.
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
    """Seconds that a request waits for others to be translated with it, if nothing else is being translated."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 or (field.name == "wait" and value == 0)):
                raise ArgumentError(f"{field.name} is {value}: expected a number above 0")
        if self.texts > self.queue:
            raise ArgumentError(f"queue is {self.queue}, less than the {self.texts} texts that a request may have")
