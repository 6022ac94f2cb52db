"""Options that say how translations are looked for, and the search that they make."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.decoding import (
    Beam,
    ConstrainedBeam,
    DiverseBeam,
    Filter,
    Greedy,
    LengthPenalty,
    MinP,
    NoRepeatNgram,
    RepetitionPenalty,
    Rule,
    Sampling,
    Search,
    Stopping,
    TopK,
    TopP,
    WhenBehind,
    WhenCertain,
    WhenFull,
)
from regard.decoding.penalties import STRONGEST
from regard.errors import ArgumentError
from regard.runs.build import length_penalty
from regard.runs.streaming import Settings


class PenaltyName(StrEnum):
    """Length penalties."""

    none = "none"
    gnmt = "gnmt"
    average = "average"


class StoppingName(StrEnum):
    """Stopping rules of the beam search."""

    full = "full"
    behind = "behind"
    certain = "certain"


STOPPING: dict[StoppingName, Stopping] = {
    StoppingName.full: WhenFull(),
    StoppingName.behind: WhenBehind(),
    StoppingName.certain: WhenCertain(),
}

NbestOption = Annotated[int | None, typer.Option(min=1, help="Give the N best translations; at most the beam.")]
PenaltyOption = Annotated[
    PenaltyName | None,
    typer.Option(help="Length penalty: score = log P; GNMT's; log P / length^alpha. Else the model's own."),
]
AlphaOption = Annotated[float | None, typer.Option(min=0.0, help="Strength of the length penalty.")]
StoppingOption = Annotated[
    StoppingName | None,
    typer.Option(
        help="A sentence is done when its beam is full of ended hypotheses (fastest), when those running are behind "
        "as well (if not given), or when nothing running can win any more (slowest)."
    ),
]
GroupsOption = Annotated[
    int | None,
    typer.Option("--diverse-groups", min=1, help="Divide the beam into so many groups that avoid each other's tokens."),
]
DiversityOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="How strongly the groups avoid each other; 0.5 if not given."),
]
MinLengthOption = Annotated[int, typer.Option(min=0, help="Fewest tokens of a translation.")]
MaxLengthOption = Annotated[int | None, typer.Option(min=1, help="Most tokens; else in proportion to the source's.")]
SampleOption = Annotated[
    bool, typer.Option("--sample", help="Draw translations from the model's distribution; no beam search.")
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(help="With --sample: below 1 keeps nearer to the most probable, above 1 strays further from it."),
]
TopKOption = Annotated[int | None, typer.Option(min=1, help="With --sample: only the K most probable tokens.")]
TopPOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="With --sample: only the most probable tokens that make up this probability."),
]
MinPOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="With --sample: only tokens this many times as probable as the best one."),
]
SamplesOption = Annotated[
    int | None, typer.Option(min=1, help="With --sample: draw N translations of each line; written as by --nbest.")
]
SeedOption = Annotated[
    int | None,
    typer.Option(help="With --sample: equal lines and equal seeds give equal translations, in any file; else 1."),
]
NgramOption = Annotated[
    int | None, typer.Option("--no-repeat-ngram", min=1, help="No N tokens in a row are said twice.")
]
RepetitionOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", help="Multiply the log-probability of tokens said before; above 1 to avoid them."
    ),
]
PrefixesOption = Annotated[
    Path | None,
    typer.Option(help="File: line n is what translation n begins with, perhaps the beginning of a word; or empty."),
]
ConstraintsOption = Annotated[
    Path | None,
    typer.Option(help="File: line n has the phrases that translation n contains, with tabs between; or is empty."),
]


@dataclass(frozen=True)
class SearchOptions:
    """What was given on the command line; None where an option was not."""

    beam: int | None
    nbest: int | None
    penalty: PenaltyName | None
    alpha: float | None
    stopping: StoppingName | None
    diverse_groups: int | None
    diversity: float | None
    min_length: int
    max_length: int | None
    sample: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    samples: int | None
    seed: int | None
    no_repeat_ngram: int | None
    repetition_penalty: float | None
    prefixes: Path | None
    constraints: Path | None

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ArgumentError: the message names them.
        """
        sampling = self._given("temperature", "top_k", "top_p", "min_p", "samples", "seed")
        beams = self._given(
            "beam", "nbest", "penalty", "alpha", "stopping", "diverse_groups", "diversity", "constraints"
        )
        if sampling and not self.sample:
            raise ArgumentError(f"{_listed(sampling)}: only with --sample")
        if self.sample and beams:
            raise ArgumentError(f"--sample and {_listed(beams)}: sampling has no beam; give one or the other")
        if self.diverse_groups is not None and self.constraints is not None:
            raise ArgumentError("--diverse-groups and --constraints: give one or the other")
        if self.diversity is not None and self.diverse_groups is None:
            raise ArgumentError("--diversity: only with --diverse-groups")
        if self.temperature == 0:
            raise ArgumentError("--temperature 0 would be the most probable token each time: --beam 1, no --sample")
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ArgumentError(f"{_option(name)} {value:g}: expected a number above 0")
        if self.alpha is not None and not (isfinite(self.alpha) and self.alpha <= STRONGEST):
            raise ArgumentError(f"--alpha {self.alpha:g}: expected a number from 0 to {STRONGEST:g}")
        if self.max_length is not None and self.min_length > self.max_length:
            raise ArgumentError(f"--min-length {self.min_length} is more than --max-length {self.max_length}")
        for name in ("prefixes", "constraints"):
            if str(getattr(self, name)) == "-":
                raise ArgumentError(f"{_option(name)} -: expected the name of a file")

    def settings(self, defaults: dict[str, Any]) -> Settings:
        """How translations are looked for, with a model's own defaults (beam, penalty, alpha).

        Raises:
            ArgumentError: there is no such search with the model's beam.
        """
        rules: list[Rule] = []
        if self.repetition_penalty is not None:
            rules.append(RepetitionPenalty(self.repetition_penalty))
        if self.no_repeat_ngram is not None:
            rules.append(NoRepeatNgram(self.no_repeat_ngram))
        search = self._sampling() if self.sample else self._beam(defaults)
        seed = 1 if self.seed is None else self.seed
        return Settings(search, tuple(rules), self.min_length, self.max_length, seed)

    @property
    def several(self) -> bool:
        """Whether several translations of a line were asked for."""
        return self.nbest is not None or self.samples is not None

    def _sampling(self) -> Sampling:
        filters: list[Filter] = []
        if self.top_k is not None:
            filters.append(TopK(self.top_k))
        if self.top_p is not None:
            filters.append(TopP(self.top_p))
        if self.min_p is not None:
            filters.append(MinP(self.min_p))
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(temperature, tuple(filters), 1 if self.samples is None else self.samples)

    def _beam(self, defaults: dict[str, Any]) -> Search:
        width = defaults["beam"] if self.beam is None else self.beam
        nbest = 1 if self.nbest is None else self.nbest
        if nbest > width:
            raise ArgumentError(f"--nbest {nbest} is more than the beam of {width}: add --beam {nbest}")
        penalty = self._penalty(defaults)
        stopping = STOPPING[StoppingName.behind if self.stopping is None else self.stopping]
        if self.constraints is not None:
            return ConstrainedBeam(width, nbest, penalty, stopping)
        if self.diverse_groups is not None:
            if width % self.diverse_groups:
                wider = -(-width // self.diverse_groups) * self.diverse_groups
                raise ArgumentError(
                    f"--diverse-groups {self.diverse_groups} doesn't divide the beam of {width}: add --beam {wider}"
                )
            strength = 0.5 if self.diversity is None else self.diversity
            return DiverseBeam(width, self.diverse_groups, strength, nbest, penalty, stopping)
        return Greedy() if width == 1 else Beam(width, nbest, penalty, stopping)

    def _penalty(self, defaults: dict[str, Any]) -> LengthPenalty:
        name = defaults["penalty"] if self.penalty is None else self.penalty.value
        return length_penalty(name, defaults["alpha"] if self.alpha is None else self.alpha)

    def _given(self, *names: str) -> list[str]:
        return [_option(name) for name in names if getattr(self, name) is not None]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(options: list[str]) -> str:
    return ", ".join(options)
