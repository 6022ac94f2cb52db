"""The probes of a comparison: the same models, trained on generated strings and judged on longer ones too."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from regard.data.probes import ProbeFiles, holds_another, write_probe
from regard.errors import RecipeError
from regard.models.config import parameter_count
from regard.runs.compare.collect import History
from regard.runs.compare.group import Reporter, check_group, train_group
from regard.runs.compare.members import Member, Train
from regard.runs.compare.probes import judge_probe
from regard.runs.compare.remembered import remembered
from regard.runs.compare.results import ProbeLength, ProbeResult, ProbeRun
from regard.runs.compare.settings import Setup
from regard.runs.directory import WEIGHTS, load_model
from regard.runs.load import load_translator
from regard.runs.recipe import Recipe

DATA = "data"
LENGTHS = TypeAdapter(tuple[ProbeLength, ...])


def check_probe(setup: Setup, name: str, folder: Path) -> None:
    """Check that a probe can be run in `folder`; nothing is written.

    Raises:
        RecipeError: a setting doesn't fit, or the folder holds the probe with other strings, models or another budget.
        CheckpointError: what is in the folder cannot be read.
    """
    if holds_another(folder / DATA, setup.compare.probe.settings(name)):
        raise RecipeError(f"{folder} holds a probe with other strings, see {DATA}/probe.json: choose another --out")
    check_group(folder, _recipes(setup, folder), **_common(setup))


def run_probe(setup: Setup, name: str, folder: Path, report: Reporter, train: Train) -> ProbeResult:
    """Train the models of a comparison on a probe, each once for each seed, and judge them.

    Raises:
        RecipeError, DataError, CheckpointError, TrainingError, KeyboardInterrupt: as for `compare`.
    """
    probe = setup.compare.probe
    report.say(f"probe: {name}")
    write_probe(folder / DATA, probe.settings(name))
    group = train_group(folder, _recipes(setup, folder), **_common(setup), report=report, train=train)
    runs = tuple(
        _judge(member, history, folder / DATA, report)
        for entry in setup.entries
        for member, history in group.of(entry.label)
    )
    return ProbeResult(name, probe.shortest, probe.longest, probe.vocabulary, runs)


def _recipes(setup: Setup, folder: Path) -> dict[str, Recipe]:
    files = ProbeFiles.of(folder / DATA)
    data = {
        "folder": str((folder / DATA).absolute()),
        "source": files.train_source.name,
        "target": files.train_target.name,
        "valid_source": files.valid_source.name,
        "valid_target": files.valid_target.name,
        "max_length": setup.compare.probe.max_length,
    }
    return {entry.label: setup.probe_recipe(entry, data) for entry in setup.entries}


def _common(setup: Setup) -> dict[str, Any]:
    return {
        "names": {entry.label: entry.folder for entry in setup.entries},
        "seeds": setup.compare.seeds,
        "validations": setup.compare.validations,
        "snapshots": False,
    }


def _judge(member: Member, history: History, data: Path, report: Reporter) -> ProbeRun:
    def find() -> tuple[ProbeLength, ...]:
        report.say(f"judging {member.label} (seed {member.seed})")
        return judge_probe(load_translator(member.directory, device=member.recipe.training.device), data)

    with open(member.directory / WEIGHTS, "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    key = {"probe": (data / "probe.json").read_text("utf-8"), "weights": weights}
    lengths = remembered(member.directory / "judged.json", LENGTHS, key, find)
    model = load_model(member.directory, torch.device("cpu")).model
    steps = len(history)
    return ProbeRun(
        member.label,
        member.seed,
        model.config.words(),
        parameter_count(model),
        steps,
        history.tokens_at(steps),
        history.seconds_at(steps),
        lengths,
    )
