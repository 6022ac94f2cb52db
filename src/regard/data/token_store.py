"""A tokenised corpus on disk: flat files of token ids and of offsets, memory-mapped, with a manifest.

    source.tokens, target.tokens      all token ids one after another, little-endian unsigned 16 or 32 bits
    source.offsets, target.offsets    where each row begins, and the end of the last: rows + 1 little-endian int64
    manifest.json                     sizes and checksums, and what the store was made from; written last

A store without a manifest is not finished.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.errors import DataError

MANIFEST: Final = "manifest.json"
SIDES: Final = ("source", "target")
FORMAT: Final = "regard tokens"
VERSION: Final = 1

_CHUNK: Final = 1 << 17
_OFFSET = np.dtype("<i8")

Unsigned = NDArray[np.unsignedinteger[Any]]


def token_dtype(vocabulary: int) -> "np.dtype[Any]":
    """The narrowest dtype for token ids below `vocabulary`: 16 bits up to 65,536, else 32."""
    return np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class TokenRows:
    """The rows of one side.

    Attributes:
        tokens: the ids of all rows, one after another.
        offsets: where each row begins, and the end of the last (rows + 1,).
    """

    tokens: Unsigned
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Unsigned:
        """The ids of a row, a view."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self, extra: int = 0) -> Unsigned:
        """How many ids each row has, and `extra` more; of the narrowest unsigned dtype from 16 bits on."""
        longest, chunks = 0, range(0, len(self), _CHUNK)
        for start in chunks:
            longest = max(longest, int(np.diff(self.offsets[start : start + _CHUNK + 1]).max()))
        result: Unsigned = np.empty(len(self), dtype=np.result_type(np.uint16, np.min_scalar_type(longest + extra)))
        for start in chunks:
            part = np.diff(self.offsets[start : start + _CHUNK + 1])
            result[start : start + len(part)] = part + extra
        return result


@dataclass(frozen=True)
class ParallelTokens:
    """Token ids of pairs, without special tokens; `ParallelTokens.open` maps them from a folder.

    Attributes:
        source: the source sides.
        target: the target sides.
        part_sizes: how many pairs came from each part of the corpus; the parts lie one after another.
    """

    source: TokenRows
    target: TokenRows
    part_sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def target_tokens(self) -> int:
        """All target tokens, one `<eos>` a sentence included."""
        return int(self.target.offsets[-1]) + len(self)

    def target_tokens_of(self, indices: ArrayLike) -> int:
        """The target tokens of some pairs, one `<eos>` a sentence included."""
        index = np.asarray(indices, dtype=np.int64)
        return int((self.target.offsets[index + 1] - self.target.offsets[index]).sum()) + len(index)

    def origin(self, indices: ArrayLike) -> NDArray[np.int64]:
        """The part that each of some pairs came from, counted from 0."""
        return np.searchsorted(np.cumsum(self.part_sizes), np.asarray(indices), side="right")

    @staticmethod
    def open(folder: Path, verify: bool = True) -> "ParallelTokens":
        """Map a finished store.

        Args:
            folder: where it is.
            verify: compare the checksums of all files, which reads them once; their sizes are always compared.

        Raises:
            DataError: there is no finished store, or a file is missing, damaged or of another version; the message
                names the file.
        """
        manifest = read_manifest(folder)
        check_files(folder, manifest["files"], verify)
        dtypes = {side: np.dtype(manifest["dtypes"][side]) for side in SIDES}
        rows = {
            side: TokenRows(
                _mapped(folder / f"{side}.tokens", dtypes[side]), _mapped(folder / f"{side}.offsets", _OFFSET)
            )
            for side in SIDES
        }
        return ParallelTokens(rows["source"], rows["target"], tuple(part["kept"] for part in manifest["parts"]))


class SideWriter:
    """Appends rows of one side to the files of a store; what is there beyond a given place is cut off first."""

    def __init__(self, folder: Path, side: str, dtype: "np.dtype[Any]", rows: int, tokens: int) -> None:
        """Go on behind `rows` rows of `tokens` tokens together.

        Raises:
            DataError: the files hold less than that.
        """
        self._dtype, self.rows, self.tokens = dtype, rows, tokens
        self._files: list[IO[bytes]] = []
        kept = ((f"{side}.tokens", tokens * dtype.itemsize), (f"{side}.offsets", (rows + 1) * 8 if rows else 0))
        for name, size in kept:
            file = open(folder / name, "ab")  # noqa: SIM115 - `close` closes it
            self._files.append(file)
            if (found := file.tell()) < size:
                self.close()
                raise damaged(folder / name, f"has {found} bytes, expected at least {size}")
            file.truncate(size)
        if not rows:
            self._files[1].write(np.zeros(1, dtype=_OFFSET).tobytes())

    def append(self, rows: Sequence[Sequence[int]], lengths: NDArray[np.int64]) -> None:
        """Write rows of ids, whose lengths are `lengths`."""
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(rows), dtype=self._dtype, count=total)
        self._files[0].write(ids.tobytes())
        self._files[1].write((self.tokens + np.cumsum(lengths)).astype(_OFFSET).tobytes())
        self.rows, self.tokens = self.rows + len(rows), self.tokens + total

    def flush(self) -> None:
        """Bring what was written onto the disk."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Write what is left and close the files."""
        for file in self._files:
            file.close()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished store.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: holds no tokenised corpus, it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise damaged(path, f"not the manifest of a {FORMAT} store of version {VERSION}")
    return content


def describe_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Size and sha256 of files in `folder`, by name."""
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = pool.map(lambda name: file_sha256(folder / name), names)
        return {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
            for name, digest in zip(names, digests, strict=True)
        }


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]], verify: bool) -> None:
    """Compare files with what `describe_files` said of them: sizes, and checksums if `verify`.

    Raises:
        DataError: one is missing or differs.
    """
    for name, known in files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise damaged(folder / name, f"is missing ({error.strerror})") from error
        if size != known["bytes"]:
            raise damaged(folder / name, f"has {size} bytes, expected {known['bytes']}")
    if not verify:
        return
    for name, found in describe_files(folder, list(files)).items():
        if found["sha256"] != files[name]["sha256"]:
            raise damaged(folder / name, "its checksum (sha256) is not that of the manifest")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, why: str) -> DataError:
    """The error for a file of a store that is not what it should be; it says what to do."""
    return DataError(f"{path}: damaged: {why}; delete the folder {path.parent} and it is prepared anew")


def _mapped(path: Path, dtype: "np.dtype[Any]") -> Any:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
