"""What a command line of `regard attend` asks for: choices, files, and which of them go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from regard.cli.options import check_folder, check_outputs, is_inside
from regard.errors import ArgumentError
from regard.insight.canvas import FORMATS
from regard.insight.tokens import Kind
from regard.runs.looking import Direction, Which
from regard.runs.views import Choice


class Show(StrEnum):
    """What there is to show."""

    alignment = "alignment"
    text = "text"
    rollout = "rollout"
    summary = "summary"
    map = "map"


class KindName(StrEnum):
    """Kinds of attention."""

    self = "self"
    causal = "causal"
    cross = "cross"


class DirectionName(StrEnum):
    """Directions of attention."""

    origin = "from"
    goal = "to"
    both = "both"


DIRECTIONS: dict[DirectionName, tuple[Direction, ...]] = {
    DirectionName.origin: ("from",),
    DirectionName.goal: ("to",),
    DirectionName.both: ("from", "to"),
}

BELONGS: dict[str, tuple[Show, ...]] = {
    "--gold": (Show.alignment,),
    "--gold-file": (Show.alignment,),
    "--pharaoh": (Show.alignment,),
    "--heads": (Show.alignment,),
    "--source": (Show.alignment,),
    "--pairs": (Show.alignment,),
    "--token": (Show.text, Show.rollout),
    "--direction": (Show.text,),
    "--kind": (Show.text, Show.rollout, Show.summary, Show.map),
    "--layer": (Show.alignment, Show.text, Show.summary, Show.map),
    "--head": (Show.alignment, Show.text, Show.map),
}
"""What options are for, where they aren't for everything."""


PICTURES = ("--png", "--svg", "--heads")
"""Options whose files have the ending of a picture's format."""


@dataclass(frozen=True)
class Files:
    """What to write."""

    png: Path | None
    svg: Path | None
    heads: Path | None
    html: Path | None
    json_file: Path | None

    def named(self) -> dict[str, Path | None]:
        """All by their options."""
        return {f"--{name.replace('_', '-')}": path for name, path in vars(self).items()}

    def check(self, inputs: Mapping[str, Path | None]) -> None:
        """Refuse files that can't be written, or would destroy others, before any work.

        Args:
            inputs: what is read, by its argument or option; "MODEL" may be a directory.

        Raises:
            ArgumentError: a folder is missing, or is where a file should be; a picture has no ending of a picture; a
                file is an input, another output, or one of the model's own.
        """
        model = inputs["MODEL"]
        assert model is not None
        for option, path in self.named().items():
            check_folder(option, path)
            if path is None:
                continue
            ending = path.suffix.lower()
            if option in PICTURES and ending not in FORMATS:
                raise ArgumentError(f"{option} {path}: expected a name ending in {', '.join(FORMATS)}")
            if model.is_dir() and path.exists() and is_inside(path, model) and ending not in (*FORMATS, ".html"):
                raise ArgumentError(f"{option} {path}: is there already, in the directory of the model")
        check_outputs(self.named(), inputs)

    def given(self) -> list[Path]:
        """Those that are to be written."""
        return [path for path in vars(self).values() if path is not None]


@dataclass(frozen=True)
class Text:
    """Sentences of a file.

    Attributes:
        sources: the sentences.
        targets: their translations, if they are given.
        lines: of the file, from 1.
        name: what messages call it.
    """

    sources: list[str]
    targets: list[str] | None
    lines: Sequence[int]
    name: str


@dataclass(frozen=True)
class Asked:
    """The command line, but for what is shown; names are those of the arguments and options."""

    model: Path
    sentence: str | None
    translation: str | None
    text: Path | None
    source: Path | None
    target: Path | None
    pairs: Path | None
    columns: str | None
    element: int | None
    generate: int | None
    kind: KindName | None
    layer: str | None
    head: str | None
    tokens: list[str]
    direction: DirectionName | None
    gold: str | None
    gold_file: Path | None
    pharaoh: bool
    files: Files
    as_json: bool
    beam: int | None
    device: str
    threads: int | None
    quiet: bool

    @property
    def whole(self) -> bool:
        """Whether it is about a text of many sentences, not about one."""
        return self.source is not None or self.pairs is not None

    def belonging(self) -> dict[str, Any]:
        """The options in `BELONGS` with their values."""
        values = {
            "--gold": self.gold,
            "--gold-file": self.gold_file,
            "--pharaoh": self.pharaoh,
            "--heads": self.files.heads,
            "--source": self.source,
            "--pairs": self.pairs,
            "--token": self.tokens,
            "--direction": self.direction,
            "--kind": self.kind,
            "--layer": self.layer,
            "--head": self.head,
        }
        assert values.keys() == BELONGS.keys()
        return values

    def check(self) -> None:
        """Refuse, before any work, what can't go together whatever the model is.

        Raises:
            ArgumentError: names the options.
        """
        self.files.check(
            {
                "MODEL": self.model,
                "--text": self.text,
                "--source": self.source,
                "--target": self.target,
                "--pairs": self.pairs,
                "--gold-file": self.gold_file,
            }
        )
        if self.as_json and self.pharaoh:
            raise ArgumentError("give --pharaoh or --json, which has the links, too")
        if self.whole:
            self._check_whole()
        else:
            self._check_one()

    def _check_whole(self) -> None:
        single = {
            "SOURCE": self.sentence,
            "--text": self.text,
            "--generate": self.generate,
            "--gold": self.gold,
            "--heads": self.files.heads,
        }
        if self.gold_file is None:
            single |= {"--png": self.files.png, "--svg": self.files.svg, "--json-file": self.files.json_file}
        given = [name for name, value in single.items() if value is not None]
        if given:
            raise ArgumentError(f"{given[0]} is for a single sentence, not for a text from --source or --pairs")
        if self.files.html is not None and self.gold_file is None and (self.as_json or self.pharaoh):
            option = "--json" if self.as_json else "--pharaoh"
            raise ArgumentError(f"--html makes one page of the whole text: leave out {option}")
        if self.beam is not None and (self.target is not None or self.pairs is not None):
            raise ArgumentError("--beam is for the model's own translations, not for given ones")
        if self.gold_file is not None and self.target is None and self.pairs is None:
            raise ArgumentError("--gold-file needs the translations that its links are of: --target, or --pairs")
        if self.gold_file is not None and (self.pharaoh or self.layer is not None or self.head is not None):
            option = "--pharaoh" if self.pharaoh else "--layer" if self.layer is not None else "--head"
            raise ArgumentError(f"--gold-file judges every layer and head: leave out {option}")

    def _check_one(self) -> None:
        if self.text is not None and self.sentence is not None:
            raise ArgumentError("--text is instead of SOURCE: leave one out (a target of --text comes from --target)")
        if self.target is not None and self.text is None:
            raise ArgumentError("--target belongs to --source; the translation of a SOURCE sentence follows it")
        if self.columns is not None:
            raise ArgumentError("--columns belongs to --pairs")
        if self.gold_file is not None:
            raise ArgumentError("--gold-file is for a text: --source and --target, or --pairs")
        if self.beam is not None and (self.translation is not None or self.target is not None):
            raise ArgumentError("--beam is for the model's own translation, not for a given TARGET")
        if self.generate is not None and (self.translation is not None or self.target is not None):
            raise ArgumentError("--generate lets the model say something; leave it out with a given target")
        pictures = [path for name, path in vars(self.files).items() if name != "json_file" and path is not None]
        if self.gold is not None and (self.as_json or self.pharaoh) and not pictures:
            option = "--json" if self.as_json else "--pharaoh"
            raise ArgumentError(f"--gold is for the table and for pictures: leave out {option}")


def possible_shows(show: Show | None, given: Mapping[str, Any]) -> list[Show]:
    """What may be meant: what is said, else all that the other options go with, in the order of preference.

    Args:
        show: as said.
        given: the options in `BELONGS`, None, empty or false where they weren't given.

    Raises:
        ArgumentError: options that don't go with what is shown, or with each other.
    """
    possible = list(Show) if show is None else [show]
    options = [name for name, value in given.items() if value]
    for number, name in enumerate(options):
        left = [one for one in possible if one in BELONGS[name]]
        if not left:
            other = f"--show {show.value}" if show is not None else " ".join(options[:number])
            raise ArgumentError(f"{name} is for --show {_names(name)}, and doesn't go with {other}")
        possible = left
    return possible


def translator_choice(layer: str | None, head: str | None) -> Choice:
    """The decoder layer and head of a regard model's alignment.

    Raises:
        ArgumentError: not a number, nor mean.
    """
    choice: dict[str, int | None] = {}
    for name, text in (("layer", layer), ("head", head)):
        if text is None:
            continue
        if text != "mean" and not text.removeprefix("-").isdecimal():
            raise ArgumentError(f"--{name} {text}: expected a number from 0, or mean")
        choice[name] = None if text == "mean" else int(text)
    return choice


def which_attentions(kind: KindName | None, layer: str | None, head: str | None) -> Which:
    """The attentions that --kind, --layer and --head mean.

    Raises:
        ArgumentError: --head isn't a number, nor mean.
    """
    if head is not None and head != "mean" and not head.isdecimal():
        raise ArgumentError(f"--head {head}: expected a number from 0, or mean")
    kinds: dict[KindName | None, Kind | None] = {
        None: None,
        KindName.self: "self",
        KindName.causal: "causal",
        KindName.cross: "cross",
    }
    named = None if layer == "mean" else layer
    return Which(kinds[kind], named, None if head in (None, "mean") else int(head))


def _names(option: str) -> str:
    names = [one.value for one in BELONGS[option]]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
