"""A cleaned copy of the data: plain files, in a folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np

from regard.data.checks.blocks import Mask, TextBlock
from regard.data.checks.characters import cleaned
from regard.data.checks.check import Part
from regard.data.checks.findings import Report
from regard.errors import ArgumentError
from regard.files import sync_folder, umask, write_json

REPORT: Final = "report.json"
"""The report's name in the folder."""


class CleanCopy:
    """Writes the pairs that are kept, in a `with` block, which discards everything unless `finish` was called.

        with CleanCopy(folder, parts) as copy:
            report = check(parts, keep=copy.add)
            copy.finish(report)

    Args:
        folder: where to; it must not be there yet, or be empty.
        parts: those that will be added.

    Raises:
        ArgumentError: the folder holds something, is a file, or there is no folder to make it in.
    """

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and not (self._folder.is_dir() and not any(self._folder.iterdir())):
            raise ArgumentError(f"{folder}: is there already; give a name that is free, or an empty folder")
        if not self._folder.absolute().parent.is_dir():
            raise ArgumentError(f"{folder}: there is no folder {self._folder.parent}")
        self._parts = parts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._folder.absolute()
        self._temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:80]}.", suffix=".tmp", dir=folder.parent))
        self._files = {part.name: [self._open(path) for path in self.files(part)] for part in self._parts}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    @staticmethod
    def files(part: Part) -> tuple[str, str]:
        """The names of a part's files in the folder."""
        return f"{part.stem}{part.suffixes[0]}", f"{part.stem}{part.suffixes[1]}"

    def add(self, part: Part, block: TextBlock, kept: Mask) -> None:
        """Write the rows of a block where `kept`, (N,), without their invisible characters."""
        for file, lines in zip(self._files[part.name], block.sides, strict=True):
            texts = (cleaned(lines.texts[index]) for index in np.flatnonzero(kept))
            file.write("".join(f"{text}\n" for text in texts).encode("utf-8"))

    def finish(self, report: Report) -> None:
        """Write the report beside the files and let the folder appear."""
        write_json(self._temporary / REPORT, report.to_json())
        for files in self._files.values():
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        self._stack.close()
        os.chmod(self._temporary, 0o777 & ~umask())  # mkdtemp's 0700 would hide it from other users
        if self._folder.exists():
            self._folder.rmdir()
        os.rename(self._temporary, self._folder)
        sync_folder(self._folder.absolute().parent)

    def _open(self, name: str) -> BinaryIO:
        return self._stack.enter_context(open(self._temporary / name, "wb"))
