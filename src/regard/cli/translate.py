"""`regard translate`: lines in, translations out."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import (
    BeamOption,
    DeviceOption,
    JsonLinesOption,
    ModelArgument,
    OutOption,
    QuietOption,
    ThreadsOption,
    check_folder,
    finite,
    json_line,
    number,
    one_line,
    open_model,
    progress,
    say,
    write_lines,
)
from regard.cli.search_options import (
    AlphaOption,
    ConstraintsOption,
    DiversityOption,
    GroupsOption,
    MaxLengthOption,
    MinLengthOption,
    MinPOption,
    NbestOption,
    NgramOption,
    PenaltyOption,
    PrefixesOption,
    RepetitionOption,
    SampleOption,
    SamplesOption,
    SearchOptions,
    SeedOption,
    StoppingOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from regard.data import display_name
from regard.errors import ArgumentError
from regard.runs.ensembles import ensemble
from regard.runs.streaming import Answer, check_input, read_chunks, translate_chunks, with_wishes
from regard.runs.translator import Translation, Translator


def translate(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Text, a sentence a line (.gz too); - is standard input.")
    ] = Path("-"),
    out: OutOption = None,
    scores: Annotated[bool, typer.Option("--scores", help="Put the score and a tab before each translation.")] = False,
    as_json: JsonLinesOption = False,
    beam: BeamOption = None,
    nbest: NbestOption = None,
    penalty: PenaltyOption = None,
    alpha: AlphaOption = None,
    stopping: StoppingOption = None,
    diverse_groups: GroupsOption = None,
    diversity: DiversityOption = None,
    min_length: MinLengthOption = 0,
    max_length: MaxLengthOption = None,
    sample: SampleOption = False,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    samples: SamplesOption = None,
    seed: SeedOption = None,
    no_repeat_ngram: NgramOption = None,
    repetition_penalty: RepetitionOption = None,
    prefixes: PrefixesOption = None,
    constraints: ConstraintsOption = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--ensemble",
            metavar="MODEL",
            help="Another model with the same tokenizers: both speak, by the mean of their probabilities. Repeatable.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Translate text line by line: line n of the output translates line n of the input.

        regard translate runs/en-de < in.txt > out.txt

        regard translate runs/en-de in.txt.gz --out out.txt --beam 5

        regard translate runs/en-de in.txt --sample --top-p 0.9 --samples 5

    Works on streams: lines are answered in order while more come in, and a line typed is answered at once. An empty
    line gives an empty line. A line that can't be translated (with more tokens than the model has positions, or with
    a prefix or phrase that can't be said, at all or under the rules) gives an empty line and a message with its number
    on standard error; the exit code is then 1.

    --scores: SCORE TAB TRANSLATION. The score is the log-probability after the length penalty; nan where there is no
    translation. Not with --nbest, --samples and --json, which write it themselves.

    --nbest N: up to N lines a sentence, best first, as Moses and Marian write them: NUMBER ||| TRANSLATION ||| SCORE,
    where NUMBER counts the input lines from 0. --samples N: the same, in the order in which they were drawn.

    --json: an object for each input line: line (from 1), source, translations (text, score, log_prob, tokens,
    token_log_probs, finished), and error where it could not be translated.
    """
    options = SearchOptions(
        beam=beam,
        nbest=nbest,
        penalty=penalty,
        alpha=alpha,
        stopping=stopping,
        diverse_groups=diverse_groups,
        diversity=diversity,
        min_length=min_length,
        max_length=max_length,
        sample=sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        samples=samples,
        seed=seed,
        no_repeat_ngram=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        prefixes=prefixes,
        constraints=constraints,
    )
    options.check()
    if scores and (as_json or options.several):
        other = "--json" if as_json else "--nbest" if nbest is not None else "--samples"
        raise ArgumentError(f"--scores and {other}: the scores are written already; leave out --scores")
    check_folder("--out", out, dash=True)
    for each in (file, prefixes, constraints):
        if each is not None:
            check_input(each)
    translator = _open(model, others or [], device, threads)
    settings = options.settings(translator.decoding)
    render = _renderer(as_json, options.several, scores)
    name = display_name(file)
    lines = problems = 0
    began = time.perf_counter()

    def produce(write: Callable[[str], None]) -> None:
        nonlocal lines, problems
        # a bar would get between the lines of a terminal that is typed into or written to
        busy = (str(file) == "-" and sys.stdin.isatty()) or (out is None and sys.stdout.isatty())
        with progress(quiet or busy) as show:
            asked = with_wishes(read_chunks(file), prefixes, constraints)
            for answers in translate_chunks(translator, asked, settings):
                for answer in answers:
                    if answer.problem is not None:
                        problems += 1
                        say(f"{name}, line {answer.line}: not translated: {answer.problem}")
                write("".join(map(render, answers)))
                lines += len(answers)
                show("translated", lines, None)

    write_lines(out, produce)
    seconds = time.perf_counter() - began
    say(f"{lines:,} lines in {seconds:.1f} s, {lines / seconds:,.1f} a second", quiet)
    if problems:
        say(f"{problems:,} of {lines:,} lines could not be translated and are empty in the output")
        raise typer.Exit(1)


def _open(model: Path, others: list[Path], device: str, threads: int | None) -> Translator:
    opened = [open_model(each, device, threads) for each in (model, *others)]
    return ensemble(opened) if others else opened[0]


def _renderer(as_json: bool, numbered: bool, scores: bool) -> Callable[[Answer], str]:
    if as_json:
        return _json_line
    if numbered:
        return _numbered_lines
    return _scored_line if scores else lambda answer: f"{_best(answer)[0]}\n"


def _best(answer: Answer) -> tuple[str, float]:
    """Text and score of the best translation; nothing and nan where there is none."""
    if not answer.translations:
        return "", float("nan")
    return one_line(answer.translations[0].text), answer.translations[0].score


def _scored_line(answer: Answer) -> str:
    text, score = _best(answer)
    return f"{number(score)}\t{text}\n"


def _numbered_lines(answer: Answer) -> str:
    rows = [(one_line(found.text), found.score) for found in answer.translations] or [_best(answer)]
    return "".join(f"{answer.line - 1} ||| {text} ||| {number(score)}\n" for text, score in rows)


def _json_line(answer: Answer) -> str:
    content: dict[str, Any] = {
        "line": answer.line,
        "source": answer.source,
        "translations": [_fields(found) for found in answer.translations],
    }
    if answer.problem is not None:
        content["error"] = answer.problem
    return json_line(content)


def _fields(found: Translation) -> dict[str, Any]:
    return {
        "text": found.text,
        "score": finite(found.score),
        "log_prob": finite(found.log_prob),
        "tokens": found.tokens,
        "token_log_probs": [finite(value) for value in found.token_log_probs],
        "finished": found.finished,
    }
