"""Opening files as bytes, compressed ones too: `.gz`, `.xz` and `.zst`."""

import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast

from regard.errors import DataError, MissingExtraError

SUFFIXES: Final = (".gz", ".xz", ".zst")
"""Ends of the names of files that `open_bytes` decompresses."""

_CHUNK = 1 << 18


class DamagedError(DataError):
    """Compressed data that are damaged, or end before their end."""


def is_compressed(path: Path | str) -> bool:
    """Whether a file's name says that it is compressed."""
    return str(path).endswith(SUFFIXES)


@contextmanager
def open_bytes(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed if its name ends in `.gz`, `.xz` or `.zst`.

    Files of several streams or frames one after another, as compressors that work in parallel write them, are read
    to their end.

    Raises (here, and inside the block while it reads):
        DamagedError: the compressed data are damaged or end early.
        DataError: the file is missing, is a folder or cannot be read.
        MissingExtraError: `.zst`, and no library for it is there.
    """
    name = str(path)
    try:
        with _open(name) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, _FrameError) as error:
        kind = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}.get(Path(name).suffix, "compressed")
        raise DamagedError(f"{name}: damaged or incomplete {kind} data: {error}") from error
    except IsADirectoryError as error:
        raise DataError(f"{name}: is a folder, expected a file") from error
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


def _open(name: str) -> IO[bytes]:
    # The buffer finds line ends in C; the readers of the standard library have a call in Python for each line.
    if name.endswith(".gz"):
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(name, "rb")), _CHUNK)
    if name.endswith(".xz"):
        return io.BufferedReader(cast(io.RawIOBase, lzma.open(name, "rb")), _CHUNK)
    if name.endswith(".zst"):
        decompressor, errors = _zstd(name)
        return io.BufferedReader(_Frames(open(name, "rb"), decompressor, errors), _CHUNK)
    return open(name, "rb")


class _FrameError(Exception):
    """Compressed data that cannot be read."""


class _Decompressor(Protocol):
    """One frame's decompressor, as `zlib`, `zstandard` and Python 3.14 have them."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


class _Frames(io.RawIOBase):
    """The content of zstd frames one after another; an incomplete last one is an error, which `zstandard` lets pass."""

    def __init__(
        self, file: IO[bytes], decompressor: Callable[[], _Decompressor], errors: tuple[type[Exception], ...]
    ) -> None:
        self._file, self._make, self._errors = file, decompressor, errors
        self._frame: _Decompressor | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            data = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            data = data or self._file.read(_CHUNK)
            if self._frame is not None and self._frame.eof:
                self._frame = None
            if not data:
                if self._frame is not None:
                    raise _FrameError("the file ends inside a frame")
                return 0
            if self._frame is None:
                self._frame = self._make()
            try:
                self._ready = memoryview(self._frame.decompress(data))
            except self._errors as error:
                raise _FrameError(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _zstd(name: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    """How to decompress one frame, and what it raises: Python's own module from 3.14 on, else `zstandard`."""
    try:
        module = importlib.import_module("compression.zstd")
    except ImportError:
        pass
    else:
        return module.ZstdDecompressor, (module.ZstdError,)
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(f"{name}: to read .zst files, install the extra: pip install 'regard[zstd]'") from error
    return lambda: cast(_Decompressor, zstandard.ZstdDecompressor().decompressobj()), (zstandard.ZstdError,)
