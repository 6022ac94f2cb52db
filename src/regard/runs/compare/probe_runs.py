"""The probes of a comparison: the same models, trained on generated strings and judged on longer ones too."""

from pathlib import Path

import torch
from pydantic import TypeAdapter

from regard.data.probes import write_probe
from regard.errors import ArgumentError, RecipeError
from regard.models.encoder_decoder import parameter_count
from regard.runs.compare.group import Group, Reporter, train_group
from regard.runs.compare.members import Train
from regard.runs.compare.probes import judge_probe
from regard.runs.compare.remembered import remembered
from regard.runs.compare.results import ProbeLength, ProbeResult, ProbeRun
from regard.runs.compare.settings import Setup
from regard.runs.directory import load_model
from regard.runs.translator import load

DATA = "data"
LENGTHS = TypeAdapter(tuple[ProbeLength, ...])


def run_probe(setup: Setup, name: str, folder: Path, report: Reporter, train: Train) -> ProbeResult:
    """Train the models of a comparison on a probe, each once, and judge them.

    Raises:
        RecipeError, DataError, CheckpointError, TrainingError, KeyboardInterrupt: as for `compare`.
    """
    probe = setup.compare.probe
    report.say(f"probe: {name}")
    try:
        files = write_probe(
            folder / DATA,
            name,
            shortest=probe.shortest,
            longest=probe.longest,
            vocabulary=probe.vocabulary,
            strings=probe.strings,
            test_each=probe.tested,
            lengths=probe.judged_lengths(),
        )
    except ArgumentError as error:
        raise RecipeError(f"compare.probe: {error}") from error
    data = {
        "folder": str((folder / DATA).absolute()),
        "source": files.train_source.name,
        "target": files.train_target.name,
        "valid_source": files.valid_source.name,
        "valid_target": files.valid_target.name,
        "max_length": max(200, 4 * probe.longest + 10),
    }
    group = train_group(
        folder,
        {entry.label: setup.probe_recipe(entry, data) for entry in setup.entries},
        {entry.label: entry.folder for entry in setup.entries},
        setup.compare.seeds[:1],
        validations=setup.compare.validations,
        snapshots=False,
        report=report,
        train=train,
    )
    runs = tuple(_judge(group, entry.label, folder / DATA, report) for entry in setup.entries)
    return ProbeResult(name, probe.shortest, probe.longest, probe.vocabulary, runs)


def _judge(group: Group, label: str, data: Path, report: Reporter) -> ProbeRun:
    ((member, history),) = group.of(label)

    def find() -> tuple[ProbeLength, ...]:
        report.say(f"judging {label}")
        return judge_probe(load(member.directory, device=member.recipe.training.device), data)

    lengths = remembered(member.directory / "judged.json", LENGTHS, {"probe": (data / "probe.json").read_text()}, find)
    model = load_model(member.directory, torch.device("cpu")).model
    steps = len(history)
    return ProbeRun(
        label,
        member.seed,
        model.config.words(),
        parameter_count(model),
        steps,
        history.tokens_at(steps),
        history.seconds_at(steps),
        lengths,
    )
