"""Tokenised running text on disk: a training and a validation part of documents, memory-mapped, with a manifest.

    train.tokens, valid.tokens      ids of all documents one after another, each closed by <eos>; as in `token_store`
    train.offsets, valid.offsets    where each document begins, and the end of the last: little-endian int64
    manifest.json                   sizes and checksums, and what the store was made from; written last

A store without a manifest is not finished.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from regard.data.token_store import MANIFEST, TokenRows, check_files, damaged, describe_files
from regard.errors import DataError

FORMAT: Final = "regard texts"
VERSION: Final = 1

Part = Literal["train", "valid"]
PARTS: Final[tuple[Part, Part]] = ("train", "valid")

_OFFSET = np.dtype("<i8")


@dataclass
class PartCounts:
    """What a part holds.

    Attributes:
        documents: how many.
        tokens: ids, one <eos> a document included.
        characters, bytes: of the text as it was read; bytes are of UTF-8.
        unknown: ids that are <unk>.
    """

    documents: int = 0
    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class TextTokens:
    """Token ids of documents, each closed by <eos>; `TextTokens.open` maps them from a folder.

    Attributes:
        train, valid: the documents of both parts.
        counts: what the parts hold.
        manifest: the whole of what is known of them.
    """

    train: TokenRows
    valid: TokenRows
    counts: dict[str, PartCounts]
    manifest: dict[str, Any]

    @staticmethod
    def open(folder: Path, verify: bool = True) -> "TextTokens":
        """Map a finished store.

        Args:
            folder: where it is.
            verify: compare the checksums of all files, which reads them once; their sizes are always compared.

        Raises:
            DataError: there is no finished store, or a file is missing, damaged or of another version; the message
                names the file.
        """
        manifest = read_text_manifest(folder)
        if manifest is None:
            raise DataError(f"{folder}: holds no tokenised text, it has no {MANIFEST}")
        check_files(folder, manifest["files"], verify)
        dtype = np.dtype(manifest["dtype"])
        train, valid = (
            TokenRows(_mapped(folder / f"{part}.tokens", dtype), _mapped(folder / f"{part}.offsets", _OFFSET))
            for part in PARTS
        )
        return TextTokens(train, valid, {part: PartCounts(**manifest["parts"][part]) for part in PARTS}, manifest)


class TextWriter:
    """Writes the documents of one part, piece by piece."""

    def __init__(self, folder: Path, part: Part, dtype: "np.dtype[Any]", unknown: int) -> None:
        """Begin the files of a part.

        Args:
            folder: where they go.
            part: which part.
            dtype: of the ids.
            unknown: the id of <unk>, which is counted.
        """
        self.counts = PartCounts()
        self._dtype, self._unknown = dtype, unknown
        names = (folder / f"{part}.{kind}" for kind in ("tokens", "offsets"))
        self._files = [open(name, "wb") for name in names]  # noqa: SIM115 - `close` closes them
        self._files[1].write(np.zeros(1, dtype=_OFFSET).tobytes())

    def append(self, pieces: Sequence[Sequence[int]], last: Sequence[bool]) -> None:
        """Write the ids of pieces; `last` says with which of them a document ends."""
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ids = np.fromiter(chain.from_iterable(pieces), self._dtype, int(lengths.sum()))
        ends = (self.counts.tokens + np.cumsum(lengths))[np.array(last, dtype=bool)]
        self._files[0].write(ids.tobytes())
        self._files[1].write(ends.astype(_OFFSET).tobytes())
        self.counts.tokens += len(ids)
        self.counts.documents += len(ends)
        self.counts.unknown += int((ids == self._unknown).sum())

    def close(self) -> None:
        """Bring everything onto the disk and close the files."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()


def text_manifest(folder: Path, dtype: "np.dtype[Any]", counts: dict[Part, PartCounts]) -> dict[str, Any]:
    """The manifest of the files that lie in `folder`; sources and settings are the caller's to add."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype.str,
        "parts": {part: asdict(counts[part]) for part in PARTS},
        "files": describe_files(folder, [f"{part}.{kind}" for part in PARTS for kind in ("tokens", "offsets")]),
    }


def read_text_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished store; None if there is none.

    Raises:
        DataError: it is damaged, of another version, or of another kind of store.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise damaged(path, f"not the manifest of a {FORMAT} store of version {VERSION}")
    if missing := {"dtype", "parts", "files"} - content.keys():
        raise damaged(path, f"has no {min(missing)!r}")
    return content


def _mapped(path: Path, dtype: "np.dtype[Any]") -> Any:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
