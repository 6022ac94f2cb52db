"""The mean of the weights of several models, as a model of its own.

Of checkpoints of one run: Vaswani et al. 2017, section 6.1. Of runs from the same start: Wortsman et al. 2022, "model
soups".
"""

import json
import math
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.data import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.files import sync_folder, umask, write_json
from regard.runs.directory import (
    CHECKPOINTS,
    JOINT,
    RECIPE,
    SOURCE,
    TARGET,
    SavedModel,
    Tokenizers,
    load_model,
    save_model,
)
from regard.training import CheckpointStore, load_progress, load_weights, load_weights_into, mean_weights

LOG, RESULT = "log.jsonl", "result.json"
CPU = torch.device("cpu")
FREE = {"dropout", "attention_dropout"}  # what may differ: it says nothing about what a weight means


def average_models(directories: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Make a model directory whose weights are the mean of several models'.

    Configuration, decoding defaults and recipe are the first one's; `result.json` says what was averaged.

    Args:
        directories: at least two model directories of the same configuration and tokenizers.
        out: the directory to make; it must be missing or empty.
        shares: how much each model counts; equally much if not given.

    Raises:
        ArgumentError: fewer than two models, wrong shares, or `out` is in use.
        CheckpointError: a model cannot be read, or differs from the first; the message names the first difference.
    """
    if len(directories) < 2:
        raise ArgumentError(f"{len(directories)} model to average: give at least two")
    portions = _shares(shares, len(directories))
    _check_free(out)
    first = load_model(directories[0], CPU)
    for directory in directories[1:]:
        _check_tokenizers(directories[0], directory)

    def parts() -> Iterable[dict[str, Tensor]]:
        yield dict(first.model.state_dict())
        for directory in directories[1:]:
            other = load_model(directory, CPU)
            _check_config(first, directories[0], other, directory)
            yield dict(other.model.state_dict())

    weights = mean_weights(parts(), portions)
    _write(out, directories[0], first, weights, directories, portions)


def average_run(directory: Path, checkpoints: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Make a model directory whose weights are the mean of checkpoints of one run.

    Args:
        directory: the run; its configuration, tokenizers, decoding defaults and recipe are taken.
        checkpoints: of that run, see `last_checkpoints` and `best_checkpoints`.
        out, shares: as for `average_models`.

    Raises:
        ArgumentError: no checkpoints, wrong shares, or `out` is in use.
        CheckpointError: the run or a checkpoint cannot be read.
    """
    if not checkpoints:
        raise ArgumentError("no checkpoints to average")
    portions = _shares(shares, len(checkpoints))
    _check_free(out)
    saved = load_model(directory, CPU)

    def parts() -> Iterable[dict[str, Tensor]]:
        for path in checkpoints:
            weights = load_weights(path)
            load_weights_into(saved.model, weights, path)  # checks names and shapes
            yield weights

    weights = mean_weights(parts(), portions)
    _write(out, directory, saved, weights, checkpoints, portions)


def last_checkpoints(directory: Path, count: int) -> list[Path]:
    """The last `count` regular checkpoints of a run, those of validations, the oldest first.

    Raises:
        CheckpointError: the run has fewer.
    """
    store = CheckpointStore(directory / CHECKPOINTS)
    steps = store.steps()
    regular = load_progress(store.path(steps[-1])).snapshots if steps else ()
    return _taken(store, [step for step in regular if step in steps][-count:], count, "regular checkpoints")


def best_checkpoints(directory: Path, count: int) -> list[Path]:
    """The `count` checkpoints of a run that validated best, by the metric of its recipe, the oldest first.

    Those are meant that are still there: a run keeps its best checkpoint and the last few.

    Raises:
        CheckpointError: the run has fewer that were validated, or its recipe or log cannot be read.
    """
    store = CheckpointStore(directory / CHECKPOINTS)
    metric = _metric(directory / RECIPE)
    sign = -1.0 if metric == "bleu" else 1.0
    kept = set(store.steps())
    figures = {step: sign * figure for step, figure in _figures(directory / LOG, metric).items() if step in kept}
    ranked = sorted((step for step, figure in figures.items() if math.isfinite(figure)), key=figures.__getitem__)
    return _taken(store, sorted(ranked[:count]), count, "validated checkpoints")


def _taken(store: CheckpointStore, steps: list[int], count: int, what: str) -> list[Path]:
    if len(steps) < count:
        raise CheckpointError(
            f"{store.folder}: {len(steps)} {what}, {count} were asked for; training.average says how many a run keeps"
        )
    return [store.path(step) for step in steps]


def _metric(recipe: Path) -> str:
    try:
        return str(tomllib.loads(recipe.read_text("utf-8"))["training"]["metric"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{recipe}: does not say what the run was judged by ({error})") from error


def _figures(log: Path, metric: str) -> dict[int, float]:
    """The figure of each validated step; where a step came twice, after an interruption, the later one."""
    found: dict[int, float] = {}
    try:
        for line in log.read_text("utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "validation":
                found[int(event["step"])] = float(event["metrics"][metric])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{log}: does not say how good the checkpoints are ({error})") from error
    return found


def _shares(shares: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if shares is None:
        return (1.0,) * count
    if len(shares) != count:
        raise ArgumentError(f"{len(shares)} weights for {count} models: expected one for each")
    for share in shares:
        if not (math.isfinite(share) and share > 0):
            raise ArgumentError(f"weight {share}: expected a number above 0")
    return tuple(shares)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError(f"{out} exists: choose another directory for the mean")


def _check_config(first: SavedModel, here: Path, other: SavedModel, there: Path) -> None:
    one, two = first.model.config, other.model.config
    if one.NAME != two.NAME:
        raise CheckpointError(f"{there}: another model than {here}: {two.NAME} there, here {one.NAME}")
    a, b = asdict(one), asdict(two)
    for key, value in a.items():
        if key not in FREE and b[key] != value:
            raise CheckpointError(f"{there}: another model than {here}: {key} is {b[key]!r} there, here {value!r}")


def _check_tokenizers(here: Path, there: Path) -> None:
    """Refuse tokenizers that give other tokens, which would make the same weight mean different things."""
    a, b = Tokenizers.load(here), Tokenizers.load(there)
    if a is None or b is None:
        raise CheckpointError(f"{there if b is None else here}: not a model directory, it has no tokenizer")
    if a.joint != b.joint:
        kinds = {True: "one tokenizer for both languages", False: "two tokenizers"}
        raise CheckpointError(f"{there}: {kinds[b.joint]}, but {kinds[a.joint]} in {here}")
    for name, one, other in ((JOINT if a.joint else SOURCE, a.source, b.source), (TARGET, a.target, b.target)):
        file = JOINT if a.joint else name
        if _content(here / file) != _content(there / file):
            raise CheckpointError(f"{there / file}: another tokenizer than in {here}: {_difference(one, other)}")


def _content(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _difference(one: Tokenizer, other: Tokenizer) -> str:
    if one.kind != other.kind:
        return f"its kind is {other.kind}, not {one.kind}"
    if one.vocab_size != other.vocab_size:
        return f"it has {other.vocab_size} tokens, not {one.vocab_size}"
    ids = range(one.vocab_size)
    for index, (a, b) in enumerate(zip(one.pieces(ids), other.pieces(ids), strict=True)):
        if a != b:
            return f"token {index} is {b!r}, not {a!r}"
    return "it has the same tokens, but splits text otherwise"


def _write(
    out: Path,
    origin: Path,
    saved: SavedModel,
    weights: dict[str, Tensor],
    parts: Sequence[Path],
    shares: Sequence[float],
) -> None:
    """Write the directory beside its place, then move it there: it is whole or not there at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    try:
        temporary.chmod(0o777 & ~umask())  # mkdtemp's 0700 would hide the model from other users
        saved.tokenizers.save(temporary)
        if (origin / RECIPE).exists():
            shutil.copyfile(origin / RECIPE, temporary / RECIPE)
        what = "model" if any(part.parent.name != CHECKPOINTS for part in parts) else "checkpoint"
        result = {
            "weights": f"mean of {len(parts)} {what}s",
            "averaged": [str(part) for part in parts],
            "shares": [share / math.fsum(shares) for share in shares],
        }
        write_json(temporary / RESULT, result)
        save_model(temporary, saved.model.config, weights, saved.decoding)
        os.replace(temporary, out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # only there if something failed
