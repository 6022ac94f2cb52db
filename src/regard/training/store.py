"""A folder of checkpoints, each a directory that is there whole or not at all. What the files mean is not known here.

    checkpoints/step-000123/                 complete; manifest.json has the size and SHA-256 of every other file
    checkpoints/step-000123.tmp-x1y2z3/      being written, or left behind by a crash: removed at the next start
    checkpoints/step-000123.old-x1y2z3/      being replaced by a new step-000123: put back if that never came
    checkpoints/step-000123.damaged/         found damaged and moved out of the way

A directory gets its final name by a rename, after its files and it have been flushed to disk, so there is never a part
of a checkpoint under such a name; deleting renames first. Only one process may write to a folder.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.errors import CheckpointError
from regard.files import sync_folder, umask, write_bytes

MANIFEST = "manifest.json"
FORMAT = "regard checkpoint"
VERSION = 1


class DamagedCheckpointError(CheckpointError):
    """A checkpoint lacks a file, or a file is not what was written; the message names it."""


class CheckpointStore:
    """The checkpoints in `folder`, by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` is or would be."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, lowest first."""
        if not self.folder.is_dir():
            return []
        matches = (re.fullmatch(r"step-(\d{6,})", entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def write(self, step: int, files: Iterable[tuple[str, bytes]]) -> Path:
        """Write the checkpoint of `step`, replacing a former one of that step only when the new one is complete.

        Args:
            step: the step it belongs to.
            files: names and contents, drawn one after the other, so that only one need be in memory.

        Returns:
            The directory.

        Raises:
            CheckpointError: the disk is full, or the folder cannot be written; former checkpoints are untouched.
        """
        final = self.path(step)
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-", dir=self.folder))
            temporary.chmod(0o777 & ~umask())  # mkdtemp's 0700 would hide the checkpoint from other users
            entries: dict[str, dict[str, Any]] = {}
            for name, content in files:
                write_bytes(temporary / name, content)
                entries[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest = {"format": FORMAT, "version": VERSION, "files": entries}
            write_bytes(temporary / MANIFEST, json.dumps(manifest, indent=2).encode())
            self._move_into_place(temporary, final)
        except OSError as error:
            raise CheckpointError(self._write_failure(final, error)) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)  # only there if something failed
        return final

    def prune(self, keep: Collection[int], newest: int = 2) -> None:
        """Delete all checkpoints except those of the steps in `keep` and the `newest` ones."""
        steps = self.steps()
        with _named_errors(self.folder):
            for step in set(steps) - set(keep) - set(steps[max(0, len(steps) - newest) :]):
                doomed = self.folder / f"{self.path(step).name}.tmp-delete"
                os.rename(self.path(step), doomed)
                shutil.rmtree(doomed)

    def recover(self) -> None:
        """Tidy up after a crash: finish or undo a replacement, remove what was being written or deleted."""
        if not self.folder.is_dir():
            return
        with _named_errors(self.folder):
            for entry in sorted(self.folder.iterdir()):
                match = re.fullmatch(r"(step-\d{6,})\.(tmp|old)-.*", entry.name)
                if not match:
                    continue
                if match[2] == "old" and not (self.folder / match[1]).exists():
                    os.rename(entry, self.folder / match[1])
                    sync_folder(self.folder)
                else:
                    shutil.rmtree(entry)

    def set_aside(self, step: int) -> Path:
        """Move a damaged checkpoint out of the way; returns where to."""
        target = self.folder / f"{self.path(step).name}.damaged"
        with _named_errors(self.folder):
            if target.exists():
                shutil.rmtree(target)
            os.rename(self.path(step), target)
            sync_folder(self.folder)
        return target

    def _move_into_place(self, temporary: Path, final: Path) -> None:
        former: Path | None = None
        if final.exists():
            former = final.with_name(temporary.name.replace(".tmp-", ".old-", 1))
            os.rename(final, former)
        try:
            os.rename(temporary, final)
        except OSError:
            if former is not None:
                os.rename(former, final)
            raise
        sync_folder(self.folder)
        if former is not None:
            shutil.rmtree(former)

    def _write_failure(self, final: Path, error: OSError) -> str:
        steps = self.steps()
        if not steps:
            return f"{final} could not be written ({error.strerror or error}); there is no earlier checkpoint"
        size = sum(file.stat().st_size for file in self.path(steps[-1]).iterdir())
        return (
            f"{final} could not be written ({error.strerror or error}); the last good checkpoint is "
            f"{self.path(steps[-1])} ({size / 1e6:.1f} MB): make room for another and resume from it"
        )


def read_checkpoint(path: Path) -> dict[str, bytes]:
    """All files of the checkpoint at `path`, each checked against the manifest.

    Raises:
        DamagedCheckpointError: a file is missing, truncated or altered.
        CheckpointError: not a checkpoint, one of a newer version, or the system refuses to read it.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    manifest = _manifest(path)
    return {name: _checked(path / name, entry["bytes"], entry["sha256"]) for name, entry in manifest.items()}


def read_checkpoint_file(path: Path, name: str) -> bytes:
    """One file of the checkpoint at `path`, checked; raises as `read_checkpoint`."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    entry = _manifest(path).get(name)
    if entry is None:
        raise DamagedCheckpointError(f"{path / MANIFEST}: does not list {name}")
    return _checked(path / name, entry["bytes"], entry["sha256"])


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    file = path / MANIFEST
    try:
        content = json.loads(_bytes(file))
        kind, version, files = content["format"], content["version"], content["files"]
        sound = all(isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str) for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{file}: not a checkpoint's manifest ({error})") from error
    if kind != FORMAT or not sound:
        raise DamagedCheckpointError(f"{file}: not a checkpoint's manifest")
    if version != VERSION:
        raise CheckpointError(f"{file}: checkpoint version {version}; this program reads version {VERSION}")
    manifest: dict[str, dict[str, Any]] = files
    return manifest


def _checked(file: Path, size: int, digest: str) -> bytes:
    content = _bytes(file)
    if len(content) != size:
        raise DamagedCheckpointError(f"{file}: truncated or altered: {len(content)} bytes, expected {size}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedCheckpointError(f"{file}: altered: its SHA-256 is not the one in {MANIFEST}")
    return content


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{file}: missing") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror or error})") from error


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """The system's refusals as an error for the user."""
    try:
        yield
    except OSError as error:
        where = error.filename if error.filename is not None else folder
        raise CheckpointError(f"{where}: checkpoints cannot be tidied up ({error.strerror or error})") from error
