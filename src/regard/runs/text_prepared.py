"""The folder of a prepared text: made once, whole or not at all, and shared by several runs.

manifest.json, *.tokens, *.offsets     see `regard.data.text_store`
tokenizer.json                         the tokenizer
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.source_facts import changed_source, source_facts
from regard.data.text_store import TextTokens, read_text_manifest
from regard.data.text_store_making import Progress, TextSource, make_text_store, measure, sample_text
from regard.data.token_store import MANIFEST, damaged
from regard.data.tokenizers import Tokenizer
from regard.errors import DataError, RecipeError
from regard.files import umask, write_json
from regard.runs.directory import JOINT

Say = Callable[[str], None]


@dataclass(frozen=True)
class TextRequest:
    """What a text is prepared from.

    Attributes:
        source: the text.
        settings: what the content depends on, besides files and tokenizer.
        known: a tokenizer to use; None: one is trained.
        train: trains a tokenizer on parts of the text.
        sample: the most characters that it is trained on.
        seed: of that sample.
        training: everything that `train` depends on, to notice that another tokenizer is wanted.
        shared: whether other runs may use the folder, so that it isn't replaced because this one differs.
        begun: whether the run has begun, so that what it was trained on isn't replaced.
        own: the fingerprint of the text that it began with, where that is known: what is of another text may be
            replaced.
    """

    source: TextSource
    settings: dict[str, Any]
    known: Tokenizer | None
    train: Callable[[Sequence[str]], Tokenizer]
    sample: int
    seed: int
    training: dict[str, Any]
    shared: bool
    begun: bool
    own: str | None = None


@dataclass(frozen=True)
class PreparedText:
    """A prepared text: its tokenizer and its tokens."""

    tokenizer: Tokenizer
    tokens: TextTokens


def prepare_text(folder: Path, request: TextRequest, say: Say, progress: Progress) -> PreparedText:
    """Prepare a text in `folder`, or find it prepared.

    It is made in a hidden folder beside it, which is then renamed: `folder` holds all of it or nothing.

    Raises:
        DataError: the text cannot be used, what is in the folder is damaged, or the run has begun with another text.
        RecipeError: the folder holds something else, or is shared and was prepared otherwise.
        CheckpointError: the tokenizer in the folder is damaged.
    """
    new = [path for path in folder.parents if not path.exists()]
    try:
        with _alone(folder, say):
            try:
                return _prepare(folder, request, say, progress)
            except BaseException:
                _leave_nothing(folder, new)
                raise
    except OSError as error:
        raise DataError(f"{folder}: the tokenised text cannot be kept there: {error.strerror or error}") from error


def open_prepared_text(folder: Path, verify: bool = False) -> PreparedText:
    """A text that has been prepared, by this process or another one; nothing is written.

    Raises:
        DataError: it is not there, or damaged.
        CheckpointError: its tokenizer is missing or damaged.
    """
    if not (folder / MANIFEST).exists():
        raise DataError(f"{folder}: no prepared text; all processes of a run need the same file system")
    return PreparedText(Tokenizer.load(folder / JOINT), TextTokens.open(folder, verify))


def _prepare(folder: Path, request: TextRequest, say: Say, progress: Progress) -> PreparedText:
    stored = _stored(folder)
    if stored is None and folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise RecipeError(f"{folder}: exists and is no prepared text; choose another folder, or empty it")
    if stored is not None and (reason := _reason_to_begin_anew(folder, stored, request, say)):
        if request.begun and request.own in (None, store_fingerprint(stored)):
            raise DataError(f"the data have changed since the run began: {reason}; choose another --out")
        say(f"preparing the text anew: {reason}")
        stored = None
    if stored is None:
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        making.chmod(0o777 & ~umask())  # mkdtemp's 0700 would hide the result from other users
        _make(making, request, say, progress)
        if folder.exists():  # what another run has mapped stays there for it
            shutil.rmtree(folder)
        making.rename(folder)
    return open_prepared_text(folder, verify=stored is not None)  # checksums have just been made otherwise


def prepared_files(folder: Path) -> list[Path]:
    """The files that the text in a folder was made from; none if nothing is prepared there.

    Raises:
        DataError: what is there is damaged.
    """
    stored = _stored(folder)
    return [] if stored is None else [Path(fact["path"]) for fact in stored["sources"]]


def store_fingerprint(manifest: dict[str, Any]) -> str:
    """The sha256 of all that a prepared text holds: tokenizer and tokens."""
    digest = hashlib.sha256(manifest["tokenizer"].encode())
    for name in sorted(manifest["files"]):
        digest.update(manifest["files"][name]["sha256"].encode())
    return digest.hexdigest()


def _stored(folder: Path) -> dict[str, Any] | None:
    stored = read_text_manifest(folder)
    if stored is not None and (missing := {"settings", "sources", "tokenizer", "trained"} - stored.keys()):
        raise damaged(folder / MANIFEST, f"has no {min(missing)!r}")
    return stored


def _make(folder: Path, request: TextRequest, say: Say, progress: Progress) -> None:
    """Write everything into an empty folder."""
    facts = source_facts(request.source.readers)
    size = measure(request.source, progress)
    tokenizer = request.known
    if tokenizer is None:
        sample = sample_text(request.source, size, request.sample, request.seed)
        say(f"training the tokenizer on {sum(map(len, sample)):,} characters")
        tokenizer = request.train(sample)
    manifest = make_text_store(folder, request.source, size, tokenizer, progress)
    if changed := changed_source(facts, request.source.readers, None):
        raise DataError(f"the text changed while it was being prepared ({changed}); start again")
    tokenizer.save(folder / JOINT)
    origin = {
        "settings": request.settings,
        "sources": facts,
        "tokenizer": fingerprint(tokenizer),
        "trained": None if request.known is not None else request.training,
    }
    write_json(folder / MANIFEST, manifest | origin)


def _reason_to_begin_anew(folder: Path, stored: dict[str, Any], request: TextRequest, say: Say) -> str | None:
    """Why what is there cannot be used, in words; None if it can.

    Raises:
        RecipeError: it was prepared otherwise or from other text, and others may use it.
    """
    differences = [
        f"{key}: {stored['settings'].get(key)} → {value}"
        for key, value in request.settings.items()
        if stored["settings"].get(key) != value
    ]
    if request.known is not None:
        if stored["tokenizer"] != fingerprint(request.known):
            differences.append("the tokenizer")
    elif stored["trained"] != request.training:
        differences.append(f"tokenizer: {stored['trained'] or 'given'} → {request.training}")
    reason = f"other settings ({'; '.join(differences)})" if differences else None
    reason = reason or changed_source(stored["sources"], request.source.readers, say)
    if reason and request.shared:
        raise RecipeError(
            f"{folder} (data.prepared) holds a text that was prepared otherwise ({reason}): choose another folder, or "
            "remove this one if no run needs it"
        )
    return reason


def fingerprint(tokenizer: Tokenizer) -> str:
    """The sha256 of a tokenizer's file."""
    return hashlib.sha256(tokenizer.content.encode()).hexdigest()


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """Keep other processes from preparing the folder while the block runs; wait for one that does.

    What one that was killed has left is removed.
    """
    lock = folder.parent / f".{folder.name}.lock"
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if (folder / MANIFEST).exists() and not os.access(folder.parent, os.W_OK):
            yield  # finished, and for reading only: there is nothing to keep others from
            return
        with open(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is at work in {folder}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            # who was waited for may have removed what it had made, because its text could not be used
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                _sweep(folder)
                yield
                return


def _sweep(folder: Path) -> None:
    for path in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(path)


def _leave_nothing(folder: Path, new: Sequence[Path]) -> None:
    """Remove what was begun, and folders that were made for it."""
    _sweep(folder)
    if folder.exists():
        return
    for path in new:  # the innermost first
        if path == folder.parent:
            (path / f".{folder.name}.lock").unlink(missing_ok=True)
        if any(path.iterdir()):
            return
        path.rmdir()
