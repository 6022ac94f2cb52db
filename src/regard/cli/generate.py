"""`regard generate`: a language model goes on from a prompt."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import (
    DeviceOption,
    ModelArgument,
    OutOption,
    QuietOption,
    ThreadsOption,
    check_folder,
    finite,
    json_line,
    open_any,
    say,
    write_lines,
)
from regard.errors import ArgumentError, CheckpointError
from regard.runs.generations import MAX_TOKENS, Generation, How
from regard.runs.language_model import LanguageModel
from regard.runs.text_input import read_text

SEPARATOR = "-" * 20
SAMPLING = "How it goes on: sampling"
OTHER = "How it goes on: without sampling"


def generate(
    model: ModelArgument,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]",
            help="What the text begins with; - reads it from standard input. None: the beginning of a text.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Read the prompt from this file instead (.gz too, - is standard input).")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help=f"Most tokens that are said; the model's own number if not given, else {MAX_TOKENS}."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="End before this string, wherever tokens begin and end in it; \\n in it is a line end, and two "
            "backslashes are one. Repeatable."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Below 1 keeps nearer to the most probable, above 1 strays further; else the model's own, or 1.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Only the K most probable tokens; else the model's own.", rich_help_panel=SAMPLING),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Only the most probable tokens that make up this probability; else the model's own.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Only tokens this many times as probable as the best one.", rich_help_panel=SAMPLING),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Draw N texts, one after the other with a line {SEPARATOR} between.", rich_help_panel=SAMPLING
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Sample n of a prompt follows from the model, the prompt, n and this number; 1 if not given.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="The most probable token, each time.", rich_help_panel=OTHER)
    ] = False,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1, help="The best text of a beam search of this width; it comes when it is done.", rich_help_panel=OTHER
        ),
    ] = None,
    cut: Annotated[
        bool,
        typer.Option("--cut", help="Leave out the beginning of a prompt that is too long for the model."),
    ] = False,
    with_prompt: Annotated[bool, typer.Option("--with-prompt", help="Print the prompt in front of each text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each text.")] = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Go on from a prompt, a text as it is: nothing is added to it, no template, no instructions.

        regard generate runs/gpt "The city of" --max-tokens 50

        regard generate runs/shakespeare --file beginning.txt --temperature 0.8 --top-k 200 --samples 3

        regard generate runs/gpt "The capital of France is" --stop . --stop "\\n" --greedy

        git log -1 --format=%B | regard generate runs/gpt - --top-p 0.9 --json

    The text is written as it comes, without the prompt, and a line end after it. It ends where the model ends it, at a
    stop string, which is left out, or after --max-tokens. Without --greedy and --beam tokens are drawn by chance; the
    same command gives the same text. Several samples come one after the other; they are made together, which takes
    less time than one by one.

    A prompt is taken as it is, spaces included. Of one that is read from a file or from standard input the last line
    end is left out.

    A text may grow longer than the model has positions for: then the last half of what they hold is read again and the
    beginning is forgotten. A prompt that is too long by itself is an error, or is cut with --cut.

    --json: for each text an object: sample (from 1), prompt, text, finished ("end": the model ended it, "stop": a stop
    string, "length": --max-tokens), log_prob and token_log_probs (natural logarithms, in the model's own distribution;
    that of the end is the last where the model ended the text), tokens, ids, notes.
    """
    how = _how(max_tokens, stop, temperature, top_k, top_p, min_p, samples, seed, greedy, beam, cut)
    check_folder("--out", out, dash=True)
    if prompt is not None and file is not None:
        raise ArgumentError("give a prompt or --file, not both")
    source = Path("-") if prompt == "-" else file
    text = (prompt or "") if source is None else read_text(source).removesuffix("\n")
    language_model = _open(model, device, threads)
    began, said = time.perf_counter(), 0
    parts = _whole if as_json or (beam is not None and beam > 1) else _streamed
    render = _json_line if as_json else _plain

    def produce(write: Callable[[str], None]) -> None:
        nonlocal said
        line_begun = False
        try:
            for number, piece, done in parts(language_model, text, how):
                shown = render(number, text, with_prompt, piece, done)
                write(shown)
                line_begun = not shown.endswith("\n") if shown else line_begun
                said += 0 if done is None else len(done.ids)
                for note in () if done is None or number else done.notes:
                    say(f"note: {note}", quiet)
        except KeyboardInterrupt:
            write("\n" if line_begun else "")  # what a terminal shows next stands on a line of its own
            raise

    write_lines(out, produce)
    seconds = time.perf_counter() - began
    say(f"{said:,} tokens in {seconds:.1f} s, {said / seconds:,.1f} a second", quiet)


Part = tuple[int, str | None, Generation | None]
"""A piece of a text: the number of the sample; what comes next, None at its beginning; all of it at its end."""


def _streamed(model: LanguageModel, prompt: str, how: How) -> Iterator[Part]:
    """Pieces as they come, of one sample after the other: what comes of the others meanwhile waits."""
    waiting: dict[int, list[Part]] = {}
    shown = 0
    yield 0, None, None
    for piece in model.stream_samples(prompt, **how):
        waiting.setdefault(piece.number, []).append((piece.number, piece.text, piece.done))
        while parts := waiting.pop(shown, []):
            yield from parts
            if parts[-1][2] is None:
                break
            shown += 1
            if shown in waiting:
                yield shown, None, None


def _whole(model: LanguageModel, prompt: str, how: How) -> Iterator[Part]:
    """Texts when all of them are done."""
    for number, found in enumerate(model.generate(prompt, **how)):
        yield number, None, None
        yield number, found.text, found


def _plain(number: int, prompt: str, with_prompt: bool, piece: str | None, done: Generation | None) -> str:
    if piece is None:
        separator = f"{SEPARATOR}\n" if number else ""
        return separator + (prompt if with_prompt else "")
    return piece if done is None else f"{piece}\n"


def _json_line(number: int, prompt: str, with_prompt: bool, piece: str | None, done: Generation | None) -> str:
    if done is None:
        return ""
    content: dict[str, Any] = {
        "sample": number + 1,
        "prompt": prompt,
        "text": (prompt if with_prompt else "") + done.text,
        "finished": done.finished,
        "log_prob": finite(done.log_prob),
        "token_log_probs": [finite(value) for value in done.token_log_probs],
        "tokens": done.tokens,
        "ids": done.ids,
        "notes": done.notes,
    }
    return json_line(content)


def _how(
    max_tokens: int | None,
    stop: list[str] | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    samples: int | None,
    seed: int | None,
    greedy: bool,
    beam: int | None,
    cut: bool,
) -> How:
    """What was given on the command line, as arguments of `LanguageModel.generate`.

    Raises:
        ArgumentError: options that contradict each other, or are out of range.
    """
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "samples": samples}
    given = [f"--{name.replace('_', '-')}" for name, value in {**sampling, "seed": seed}.items() if value is not None]
    other = "--greedy" if greedy else "--beam" if beam is not None else None
    if greedy and beam is not None:
        raise ArgumentError("--greedy and --beam: give one or the other")
    if other is not None and given:
        raise ArgumentError(f"{other} and {', '.join(given)}: nothing is drawn by chance; give one or the other")
    if temperature == 0:
        raise ArgumentError("--temperature 0 would be the most probable token each time: --greedy")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ArgumentError(f"--temperature {temperature:g}: expected a number above 0")
    for name, value in (("--top-p", top_p), ("--min-p", min_p)):
        if value is not None and not 0 < value <= 1:
            raise ArgumentError(f"{name} {value:g}: expected above 0 and at most 1")
    if any(not one for one in stop or ()):
        raise ArgumentError('--stop "": expected a string that is not empty')
    how = How(stop=[_unescaped(one) for one in stop or ()], beam=1 if greedy else beam, cut=cut, max_tokens=max_tokens)
    how.update(How(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, samples=samples))
    return how if seed is None else {**how, "seed": seed}


def _unescaped(text: str) -> str:
    """A string of the command line with its \\n as line ends, and its double backslashes as single ones."""
    return re.sub(r"\\[n\\]", lambda found: "\n" if found[0] == r"\n" else "\\", text)


def _open(directory: Path, device: str, threads: int | None) -> LanguageModel:
    opened = open_any(directory, device, threads)
    if not isinstance(opened.runner, LanguageModel):
        raise CheckpointError(f"{directory}: a model for {opened.task}; regard generate needs a language model")
    return opened.runner
