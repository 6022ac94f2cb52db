"""What is known of the files that a corpus was made from, to notice that one has changed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from regard.data.token_store import file_sha256
from regard.errors import DataError


class Reader(Protocol):
    """What reads files, of pairs or of running text."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything it reads."""
        ...


def source_facts(readers: Sequence[Reader]) -> list[dict[str, Any]]:
    """Path, size, time and sha256 of each file that the readers read.

    Raises:
        DataError: one is missing or cannot be read.
    """
    facts = []
    for path in (path for reader in readers for path in reader.files):
        size, modified = _stat(path)
        facts.append({"path": str(path), "size": size, "mtime_ns": modified, "sha256": file_sha256(path)})
    return facts


def changed_source(
    known: list[dict[str, Any]], readers: Sequence[Reader], say: Callable[[str], None] | None
) -> str | None:
    """Which file is not what it was, in words; files that were only moved or touched are as they were.

    Args:
        known: what `source_facts` gave.
        readers: those of the same corpus.
        say: told of a file that is no longer there, which is no change then; None: that is an error.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    paths = [path for reader in readers for path in reader.files]
    if len(paths) != len(known):
        return f"{len(known)} files have become {len(paths)}"
    for path, fact in zip(paths, known, strict=True):
        if say is not None and not path.exists():
            say(f"{path} is no longer there; what was made from it is used")
            continue
        if _stat(path) == (fact["size"], fact["mtime_ns"]):
            continue
        if path.stat().st_size != fact["size"] or file_sha256(path) != fact["sha256"]:
            return f"{path} has changed"
    return None


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns
