"""The folder of a prepared corpus: made once, gone on with after an interruption, shared by several runs.

manifest.json, *.tokens, *.offsets     see `regard.data.token_store`
tokenizer.json                         the joint tokenizer, or source.tokenizer.json and target.tokenizer.json
held-out.jsonl                         the pairs held out for validation, if any: [source, target]
progress.json                          while it is being made: what it is made from, and how far it has come
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from regard.data.pairs import PairReader
from regard.data.preparing import Done, PartDone, encode_corpus
from regard.data.source_facts import changed_source, source_facts
from regard.data.survey import HoldOut, Progress, Texts, survey
from regard.data.token_store import (
    FORMAT,
    MANIFEST,
    SIDES,
    VERSION,
    ParallelTokens,
    damaged,
    describe_files,
    token_dtype,
)
from regard.errors import DataError, RecipeError, RegardError
from regard.files import write_json, write_text
from regard.runs.directory import JOINT, SOURCE, TARGET, Tokenizers

PROGRESS, HELD_OUT = "progress.json", "held-out.jsonl"

_TOKENS: Final = tuple(f"{side}.{kind}" for side in SIDES for kind in ("tokens", "offsets"))
_ALL = (MANIFEST, PROGRESS, *_TOKENS, JOINT, SOURCE, TARGET, HELD_OUT)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a corpus is prepared from.

    Attributes:
        readers: the parts of the training data.
        columns: of each part, to notice that others are wanted.
        max_length: pairs with more tokens on a side are left out.
        hold_out: how pairs are held out for validation; None: there is a validation part.
        known: tokenizers to use; None: they are trained.
        train: trains tokenizers on a sample of the pairs.
        sample: the most pairs that tokenizers are trained on.
        seed: of that sample.
        training: everything that `train` depends on, to notice that other tokenizers are wanted.
        shared: whether other runs may use the folder, so that it isn't replaced because this one differs.
        begun: whether the run has begun, so that what it was trained on isn't replaced.
    """

    readers: Sequence[PairReader]
    columns: Sequence[Any]
    max_length: int
    hold_out: HoldOut | None
    known: Tokenizers | None
    train: Callable[[list[Texts]], Tokenizers]
    sample: int
    seed: int
    training: dict[str, Any]
    shared: bool
    begun: bool

    def settings(self) -> dict[str, Any]:
        """What the content depends on, besides files and tokenizers."""
        return {
            "columns": [list(columns or ()) for columns in self.columns],
            "max_length": self.max_length,
            "held_out": None if self.hold_out is None else asdict(self.hold_out),
        }


@dataclass(frozen=True)
class Prepared:
    """A prepared corpus: tokenizers, the tokens of the training part, pairs held out, and the manifest."""

    tokenizers: Tokenizers
    tokens: ParallelTokens
    held_out: list[Texts]
    manifest: dict[str, Any]


def prepare(folder: Path, request: Request, say: Say, progress: Progress) -> Prepared:
    """Prepare a corpus in `folder`, go on where it was interrupted, or find it finished.

    Raises:
        DataError: the data cannot be used or changed meanwhile, or what is in the folder is damaged.
        RecipeError: the folder holds something else, or is shared and was prepared with other settings or tokenizers.
        CheckpointError: a tokenizer in the folder is damaged.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _alone(folder, say):
            fresh = folder in new and not _known_files(folder)
            try:
                return _prepare(folder, request, say, progress)
            except RegardError:
                if fresh and not _reached(folder):
                    _leave_nothing(folder, new)
                raise
    except OSError as error:
        raise DataError(f"{folder}: the tokenised corpus cannot be kept there: {error.strerror or error}") from error


def _prepare(folder: Path, request: Request, say: Say, progress: Progress) -> Prepared:
    _sweep(folder)
    stored = _stored(folder)
    if stored is not None and (reason := _reason_to_begin_anew(folder, stored, request, say)):
        if request.begun:
            raise DataError(f"the data have changed since the run began: {reason}; choose another --out")
        say(f"preparing the data anew: {reason}")
        stored = None
    if stored is None:
        stored = _begin(folder, request, say, progress)
    finished = "files" in stored
    if not finished:
        if any(part["rows"] for part in stored["done"]["parts"]):
            say(f"going on with the preparation of the data in {folder}")
        stored = _finish(folder, stored, request, progress)
    tokens = ParallelTokens.open(folder, verify=finished)  # checksums have just been made otherwise
    return Prepared(_tokenizers(folder, request), tokens, _held_out(folder, stored), stored)


def open_prepared(folder: Path) -> Prepared:
    """A corpus that another process of the run has just prepared and checked; nothing is written.

    Raises:
        DataError: it is not there, or damaged.
    """
    if not (folder / MANIFEST).exists():
        raise DataError(f"{folder}: no prepared corpus; all processes of a run need the same file system")
    stored = _stored(folder)
    tokenizers = Tokenizers.load(folder)
    if stored is None or tokenizers is None:
        raise damaged(folder / MANIFEST, "incomplete")
    return Prepared(tokenizers, ParallelTokens.open(folder, verify=False), _held_out(folder, stored), stored)


def _known_files(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / PROGRESS).exists()


def _reached(folder: Path) -> bool:
    """Whether some of the text has been tokenised, which a next start would go on from."""
    stored = _stored(folder)
    return stored is not None and ("files" in stored or any(part["rows"] for part in stored["done"]["parts"]))


def _leave_nothing(folder: Path, new: Sequence[Path]) -> None:
    """Remove what was begun in folders that were made for it: the data cannot be used."""
    shutil.rmtree(folder)
    for path in new:
        if path != folder and not any(path.iterdir()):
            path.rmdir()


def _check_ours(folder: Path) -> None:
    if _known_files(folder):
        return
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise RecipeError(f"{folder}: exists and is no prepared corpus; choose another folder, or empty it")


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """Make the folder and keep other processes out of it while the block runs; wait for one that is there."""
    lock = folder / ".lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        _check_ours(folder)  # before anything is written
        if (folder / MANIFEST).exists() and not os.access(folder, os.W_OK):
            yield  # finished, and for reading only: there is nothing to keep others from
            return
        with open(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is at work in {folder}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            # who was waited for may have removed the folder, because its data could not be used
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                yield
                return


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while it wrote a whole file has left (`regard.files`)."""
    for name in _ALL:
        for path in folder.glob(f".{name}.*.tmp*"):
            path.unlink(missing_ok=True)


def _stored(folder: Path) -> dict[str, Any] | None:
    """The manifest, or else how far the preparation has come; None if nothing useful has been done."""
    for name in (MANIFEST, PROGRESS):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise RecipeError(f"{path}: not the file of a {FORMAT} store of version {VERSION}; choose another folder")
        return content if "settings" in content else None
    return None


def _reason_to_begin_anew(folder: Path, stored: dict[str, Any], request: Request, say: Say) -> str | None:
    """Why what is there cannot be used, in words; None if it can.

    Raises:
        RecipeError: it was prepared otherwise or from other text, and others may use it.
    """
    differences = [
        f"{key}: {stored['settings'].get(key)} → {value}"
        for key, value in request.settings().items()
        if stored["settings"].get(key) != value
    ]
    if request.known is not None:
        if stored["tokenizers"] != _fingerprints(request.known):
            differences.append("the tokenizers")
    elif stored["trained"] != request.training:
        differences.append(f"tokenizer: {stored['trained'] or 'given'} → {request.training}")
    if differences and request.shared:
        raise RecipeError(
            f"{folder} (data.prepared) holds a corpus that was prepared otherwise ({'; '.join(differences)}): choose "
            "another folder"
        )
    if differences:
        return f"other settings ({'; '.join(differences)})"
    changed = changed_source(stored["sources"], request.readers, say if "files" in stored else None)
    if changed and request.shared:
        raise RecipeError(
            f"{folder} (data.prepared) holds a corpus made from other text ({changed}): choose another folder, or "
            "remove this one if no run needs it"
        )
    return changed


def _begin(folder: Path, request: Request, say: Say, progress: Progress) -> dict[str, Any]:
    """Survey the data, make the tokenizers and note down what is to be done."""
    write_json(folder / PROGRESS, {"format": FORMAT, "version": VERSION})  # from now on the folder is ours
    for name in _ALL:
        if name != PROGRESS:
            (folder / name).unlink(missing_ok=True)  # not overwritten: another run may have it mapped
    with ThreadPoolExecutor(1) as pool:
        sources = pool.submit(source_facts, request.readers)  # checksums, while the rows are read
        found = survey(
            request.readers,
            sample=0 if request.known is not None else request.sample,
            hold_out=request.hold_out,
            seed=request.seed,
            progress=progress,
        )
        facts = sources.result()
    if request.known is not None:
        tokenizers = request.known
    else:
        pairs, usable = len(found.sample), sum(part.rows - part.empty for part in found.parts)
        drawn = f", drawn at random from {usable:,}" if usable > request.sample else ""
        say(f"training the tokenizer on {pairs:,} pairs{drawn}")
        tokenizers = request.train(found.sample)
    tokenizers.save(folder)
    if request.hold_out is not None:
        lines = [json.dumps(pair, ensure_ascii=False) + "\n" for pair in found.held_out]
        write_text(folder / HELD_OUT, "".join(lines))
    stored = {
        "format": FORMAT,
        "version": VERSION,
        "settings": request.settings(),
        "sources": facts,
        "trained": None if request.known is not None else request.training,
        "tokenizers": _fingerprints(tokenizers),
        "parts": [asdict(part) for part in found.parts],
        "done": Done([PartDone() for _ in found.parts]).as_json(),
    }
    write_json(folder / PROGRESS, stored)
    return stored


def _finish(folder: Path, stored: dict[str, Any], request: Request, progress: Progress) -> dict[str, Any]:
    """Encode what is left and write the manifest."""
    tokenizers, done = _tokenizers(folder, request), Done.from_json(stored["done"])
    encode_corpus(
        folder,
        request.readers,
        (tokenizers.source, tokenizers.target),
        done,
        max_length=request.max_length,
        leave_out=set(_held_out(folder, stored)),
        total=sum(part["rows"] for part in stored["parts"]),
        save=lambda reached: write_json(folder / PROGRESS, stored | {"done": reached.as_json()}),
        progress=progress,
    )
    if [part.rows for part in done.parts] != [part["rows"] for part in stored["parts"]]:
        raise DataError(f"{folder}: the data changed while they were being prepared; start again")
    if changed := changed_source(stored["sources"], request.readers, None):
        raise DataError(f"{folder}: the data changed while they were being prepared ({changed}); start again")
    if not any(part.kept for part in done.parts):
        raise DataError(f"every training pair is longer than data.max_length = {request.max_length} tokens")
    manifest = {key: value for key, value in stored.items() if key != "done"} | {
        "parts": [
            {"name": part["name"], **asdict(reached)} for part, reached in zip(stored["parts"], done.parts, strict=True)
        ],
        "dtypes": {
            side: token_dtype(tokenizer.vocab_size).str
            for side, tokenizer in zip(SIDES, (tokenizers.source, tokenizers.target), strict=True)
        },
        "files": describe_files(folder, [name for name in _ALL[2:] if (folder / name).exists()]),
    }
    write_json(folder / MANIFEST, manifest)
    (folder / PROGRESS).unlink()
    return manifest


def _tokenizers(folder: Path, request: Request) -> Tokenizers:
    known = request.known or Tokenizers.load(folder)
    if known is None:
        raise damaged(folder / JOINT, "the tokenizer is missing")
    return known


def _held_out(folder: Path, stored: dict[str, Any]) -> list[Texts]:
    if stored["settings"]["held_out"] is None:
        return []
    path = folder / HELD_OUT
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    return [(source, target) for source, target in rows]


def _fingerprints(tokenizers: Tokenizers) -> dict[str, str]:
    """The sha256 of each side's tokenizer file."""
    sides = {"source": tokenizers.source, "target": tokenizers.target}
    return {side: hashlib.sha256(tokenizer.content.encode()).hexdigest() for side, tokenizer in sides.items()}


def content_sha256(prepared: Prepared, valid: Sequence[Texts]) -> str:
    """A fingerprint of the tokens and of the validation part."""
    digest = hashlib.sha256()
    for name in _TOKENS:
        digest.update(prepared.manifest["files"][name]["sha256"].encode())
    for source, target in valid:
        digest.update(f"{source}\n{target}\n".encode())
    return digest.hexdigest()
