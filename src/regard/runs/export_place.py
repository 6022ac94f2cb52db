"""The directory that an export makes: where it may be, whose it is, and how it takes its place."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from regard.data.token_store import file_sha256
from regard.errors import ArgumentError, CheckpointError
from regard.files import sync_folder, umask, write_json
from regard.runs.directory import read_json

RECORD: Final = "export.json"
"""Says that `export` wrote a directory, and what its files were then."""
FORMAT: Final = "regard export 1"


def place_of(out: Path, model: Path) -> Path:
    """Where the files of an export really go, links followed.

    Args:
        out: the directory to make; it need not exist.
        model: of the model.

    Raises:
        ArgumentError: `out` is the model's directory, the current one, lies in the model's or holds one of them; it
            lies in a file; something is there that `export` hasn't written.
    """
    try:
        place, origin, here = out.resolve(), model.resolve(), Path.cwd()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ArgumentError(f"{out}: cannot be resolved ({error}): choose another directory") from error
    if place == origin or place in origin.parents or origin in place.parents:
        where = "is" if place == origin else "holds" if place in origin.parents else "lies in"
        raise ArgumentError(f"{out} {where} the directory of the model, {model}: choose another directory")
    if place == here or place in here.parents:
        where = "is" if place == here else "holds"
        raise ArgumentError(f"{out} {where} the current directory, whose place an export would take: choose another")
    above = next(path for path in place.parents if path.exists())
    if not above.is_dir():
        raise ArgumentError(f"{out}: {above} is not a directory")
    check_free(place, out)
    return place


def check_free(place: Path, name: Path) -> None:
    """Refuse a place where something lies that `export` didn't write, or that has been changed since.

    Args:
        place: the directory, links followed.
        name: what messages call it.

    Raises:
        ArgumentError: with the name of what is there.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir() or not (place / RECORD).is_file():
        raise ArgumentError(f"{name} exists, and not from an export: choose another directory")
    own = _recorded(place)
    for entry in sorted(place.iterdir()):
        if entry.name != RECORD and entry.name not in own:
            problem = "which is not from an export"
        elif entry.is_symlink() or not entry.is_file():
            problem = "which is no plain file, as an export has"
        elif entry.name != RECORD and not _unchanged(entry, own[entry.name]):
            problem = "which has been changed since the export"
        else:
            continue
        raise ArgumentError(f"{name} holds {entry.name}, {problem}: choose another directory")


@contextmanager
def written(place: Path, name: Path) -> Iterator[Path]:
    """A directory to fill, which takes its place when the block ends and is gone if it fails.

    Args:
        place: where it goes: new, empty, or of an earlier export, which is gone only after that.
        name: what messages call it.

    Raises:
        ArgumentError: something else has come there meanwhile.
    """
    above = next(path for path in place.parents if path.exists())  # so that nothing is left behind above `place`
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.tmp-", dir=above))
    try:
        yield temporary
        temporary.chmod(0o777 & ~umask())  # mkdtemp's 0700 would hide the model from other users
        check_free(place, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        _replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # only there if something failed


def write_record(directory: Path, content: dict[str, Any]) -> dict[str, int]:
    """Write down what is in the directory of an export, and give the sizes of its files by name."""
    paths = sorted(directory.iterdir())
    sizes = {path.name: path.stat().st_size for path in paths}
    files = {path.name: {"bytes": sizes[path.name], "sha256": file_sha256(path)} for path in paths}
    write_json(directory / RECORD, {"format": FORMAT, **content, "files": files})
    return sizes


def _recorded(place: Path) -> dict[str, Any]:
    try:
        record = read_json(place / RECORD)
    except CheckpointError:
        return {}
    if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get("files"), dict):
        return {}
    return dict(record["files"])


def _unchanged(path: Path, entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.get("bytes") != path.stat().st_size:
        return False
    return bool(entry.get("sha256") == file_sha256(path))


def _replace(new: Path, place: Path) -> None:
    if place.exists() and any(place.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old-", dir=place.parent))
        try:
            os.replace(place, old)
            os.replace(new, place)
        except BaseException:
            if not place.exists():
                os.replace(old, place)
            elif not any(old.iterdir()):
                old.rmdir()
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(new, place)
    sync_folder(place.parent)
