"""What was equal for all models of a comparison, and what a reader has to know, in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from regard.runs.build import torch_device
from regard.runs.compare.collect import TOLERANCE
from regard.runs.compare.group import Group
from regard.runs.compare.judge import TestPart
from regard.runs.compare.members import RESULT
from regard.runs.compare.results import SeedRun
from regard.runs.compare.settings import CompareRecipe
from regard.runs.directory import read_json
from regard.runs.machine import machine_words
from regard.runs.recipe import DataRecipe


def describe_setting(
    group: Group, part: TestPart, compare: CompareRecipe, common_seconds: float, runs: Mapping[str, Sequence[SeedRun]]
) -> dict[str, str]:
    """Names and values of what was equal for all models, and where that led to: `runs` of each label."""
    recipe, corpus = next(iter(group.recipes.values())), group.corpus
    training, decoding = recipe.training, recipe.decoding
    tokenizers = corpus.tokenizers
    source, target = (f"{side.kind}, {side.vocab_size:,} tokens" for side in (tokenizers.source, tokenizers.target))
    batches = f"at most {training.tokens_per_batch:,} positions on the longer side"
    if training.accumulate > 1:
        batches = f"{training.accumulate} times {batches}"
    device = torch_device(training.device)
    pairs, valid, tokens = (corpus.facts[key] for key in ("train_pairs", "valid_pairs", "target_tokens"))
    return {
        "data": f"{_files(recipe.data)}: {pairs:,} pairs, {tokens:,} target tokens; {valid:,} pairs for validation",
        "judged on": f"{part.name}: {len(part.sources):,} pairs",
        "tokenizer": f"{source}, for both languages" if tokenizers.joint else f"source: {source}; target: {target}",
        "batches": batches,
        "budget": _budget(group),
        "judged after": _points(group, common_seconds, runs),
        "validation": f"every {group.plan.validate_every:,} steps, not counted in the times",
        "seeds": ", ".join(map(str, compare.seeds)),
        "decoding": f"beam {decoding.beam}, length penalty {decoding.penalty} ({decoding.alpha:g})",
        "machine": f"{machine_words(device)}; torch {torch.__version__}",
    }


def describe_notes(group: Group, part: TestPart, late: list[str], compare: CompareRecipe) -> tuple[str, ...]:
    """What a reader has to know; `late` are runs that had no validation in the common seconds."""
    notes = [
        "Each model is judged as if its training had ended at that point: with the best weights by then, or the mean "
        "of the last ones, whichever validates better.",
        "Equal minutes: at the last validation by then, the end of the run that was done first, or at most "
        f"{100 * TOLERANCE:.0f} % later.",
    ]
    if not part.own:
        notes.append("There is no test part: models are judged on the validation part, which also chose their weights.")
    if late:
        notes.append(f"Too slow for a validation in the common time, judged at its first one: {', '.join(late)}.")
    if len(compare.seeds) == 1:
        notes.append("One seed: another one may change the order of models that are close.")
    machines = _machines(group)
    if len(machines) > 1:
        found = "; ".join(f"{machine}: {', '.join(what)}" for machine, what in machines.items())
        notes.append(f"Times of different machines, or with other numbers of threads, don't compare. {found}.")
    return tuple(notes)


def _machines(group: Group) -> dict[str, list[str]]:
    """What was measured where, as far as runs say where they were trained."""
    found: dict[str, list[str]] = {}
    for member in group.members:
        machine = read_json(member.directory / RESULT).get("machine")
        if machine is not None:
            found.setdefault(machine, []).append(f"{member.label} (seed {member.seed})")
    device = next(iter(group.recipes.values())).training.device
    found.setdefault(machine_words(torch_device(device)), []).append("time of a token as sentences grow")
    return found


def _points(group: Group, common_seconds: float, runs: Mapping[str, Sequence[SeedRun]]) -> str:
    """The steps at which models were judged; of several seeds, each one's."""
    first = next(iter(runs.values()))[0].at_tokens
    asked = group.plan.budget.get("minutes")
    after = f" ({asked:g} asked for)" if asked is not None else ""
    steps = "; ".join(f"{label} {', '.join(f'{one.at_seconds.step:,}' for one in of)}" for label, of in runs.items())
    return (
        f"equal tokens: {first.tokens:,} target tokens, step {first.step:,} of each; equal minutes: "
        f"{common_seconds / 60:.2f} minutes of training steps{after}, steps: {steps}"
    )


def _files(data: DataRecipe) -> str:
    names = [part.pairs or f"{part.source}, {part.target}" for part in data.parts()]
    return f"{Path(data.folder or '.').name}: {'; '.join(names)}"


def _budget(group: Group) -> str:
    asked = {key: value for key, value in group.plan.budget.items() if key != "validations"}
    words = ", ".join(f"{value:g} {key}" for key, value in asked.items())
    counts = {label: group.plan.steps[label] for label in group.recipes}
    if len(set(counts.values())) == 1:
        steps = f"{next(iter(counts.values())):,} steps"
        return words if words == steps.replace(",", "") else f"{words} ({steps})"
    return f"{words} of training steps, in steps: {', '.join(f'{label} {count:,}' for label, count in counts.items())}"
