"""From the bytes of tokens to text, as they come: never half a character, and nothing of a stop string."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from regard.errors import ArgumentError

LONE_BYTE = re.compile("[\udc80-\udcff]")  # what the error handler "surrogateescape" makes of an invalid byte
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def stop_bytes(stops: Sequence[str]) -> tuple[bytes, ...]:
    """Stop strings in UTF-8, each once.

    Raises:
        ArgumentError: they are one string, or one of them is empty or not Unicode text.
    """
    if isinstance(stops, str):
        raise ArgumentError(f"stop is {stops!r}; expected a list of strings")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ArgumentError(f"stop is {list(stops)}; expected strings that are not empty")
    try:
        return tuple(dict.fromkeys(stop.encode() for stop in stops))
    except UnicodeEncodeError as error:
        raise ArgumentError(f"stop: {error.object!r} holds a surrogate, so it is not Unicode text") from error


def stop_place(text: bytes, stops: Sequence[bytes], since: int = 0) -> int | None:
    """Where a text is cut for its stop strings: in front of the first that is complete; None: there is none.

    Of several that are complete with the same byte it is the longest. So the place doesn't depend on the pieces that
    a text comes in.

    Args:
        text: what there is so far.
        stops: the stop strings.
        since: how many bytes are known to end no stop string.
    """
    found = []
    for stop in stops:
        begin = text.find(stop, max(0, since - len(stop) + 1))
        if begin >= 0:
            found.append((begin + len(stop), begin))
    return min(found)[1] if found else None


class TextStream:
    """Bytes in, text out.

    All that comes out, put together, is the text of all the bytes, up to the first stop string: a byte that is no part
    of a UTF-8 character is U+FFFD. A character comes out when it is complete, and what may be the beginning of a stop
    string when it is known not to be one.

    Args:
        stops: strings before which the text ends.

    Attributes:
        stopped: whether a stop string has come; whatever is fed after it is ignored.

    Raises:
        ArgumentError: as for `stop_bytes`.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stops = stop_bytes(stops)
        self._held = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, data: bytes) -> str:
        """The text that is certain with these bytes."""
        if self.stopped:
            return ""
        known, self._held = len(self._held), self._held + data
        place = stop_place(self._held, self._stops, since=known)
        if place is not None:
            self.stopped = True
            ready, self._held = self._held[:place], b""
            return self._decoded(ready, last=True)
        kept = max((_begun(self._held, stop) for stop in self._stops), default=0)
        ready, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return self._decoded(ready, last=False)

    def finish(self) -> str:
        """The rest, when nothing more will come."""
        ready, self._held = self._held, b""
        return "" if self.stopped else self._decoded(ready, last=True)

    def _decoded(self, data: bytes, last: bool) -> str:
        return LONE_BYTE.sub(REPLACEMENT, self._decoder.decode(data, last))


def text_of_bytes(data: bytes, stops: Sequence[str] = ()) -> tuple[str, bool]:
    """The whole text of some bytes, up to the first stop string, and whether there was one; see `TextStream`."""
    stream = TextStream(stops)
    return stream.feed(data) + stream.finish(), stream.stopped


def _begun(text: bytes, stop: bytes) -> int:
    """How many bytes at the end of a text are the beginning of a stop string, and not all of it."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
