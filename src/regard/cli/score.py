"""`regard score`: how probable the model finds given translations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from regard.cli.options import (
    ColumnsOption,
    DeviceOption,
    JsonLinesOption,
    ModelArgument,
    OutOption,
    PairsOption,
    QuietOption,
    SourceOption,
    TargetOption,
    ThreadsOption,
    check_folder,
    finite,
    json_line,
    number,
    open_model,
    progress,
    read_pairs,
    say,
    write_lines,
)
from regard.errors import ArgumentError
from regard.runs.scoring import Score, score_pairs


def score(
    model: ModelArgument,
    source: SourceOption = None,
    target: TargetOption = None,
    pairs: PairsOption = None,
    columns: ColumnsOption = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Add each token and its log-probability.")] = False,
    as_json: JsonLinesOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Score given translations: a log-probability for each pair, one a line, in order.

        regard score runs/en-de --source in.en --target in.de

        regard score runs/en-de --pairs pairs.tsv --tokens

    The number is the natural logarithm of the probability of the whole target, `<eos>` included, given the source; no
    length penalty. Two empty sides give 0.

    --tokens: the sum, a tab, then each token and its log-probability, all with a space between (▁ marks a space).

    --json: an object a line: line (of the file, from 1), source, target, log_prob, tokens, token_log_probs.

    A pair with more tokens on a side than the model has positions gives nan (null in JSON) and a message on standard
    error; the exit code is then 1.
    """
    check_folder("--out", out, dash=True)
    if as_json and tokens:
        raise ArgumentError("give --tokens or --json, which has the tokens, too")
    text = read_pairs(source, target, pairs, columns)
    translator = open_model(model, device, threads)
    render = _json_line if as_json else _token_line if tokens else _sum_line
    problems = 0

    def produce(write: Callable[[str], None]) -> None:
        nonlocal problems
        done = 0
        with progress(quiet) as show:
            for scores in score_pairs(translator, text.sources, text.targets):
                for one in scores:
                    if one.problem is not None:
                        problems += 1
                        say(f"{text.where(one.line - 1)}: not scored: {one.problem}")
                write("".join(render(replace(one, line=text.lines[one.line - 1])) for one in scores))
                done += len(scores)
                show("scored", done, len(text))

    write_lines(out, produce)
    if problems:
        say(f"{problems:,} of {len(text):,} pairs were too long")
        raise typer.Exit(1)


def _sum_line(score: Score) -> str:
    return f"{number(score.log_prob)}\n"


def _token_line(score: Score) -> str:
    parts = [f"{token} {number(value)}" for token, value in zip(score.tokens, score.token_log_probs, strict=True)]
    return f"{number(score.log_prob)}\t{' '.join(parts)}\n"


def _json_line(score: Score) -> str:
    content = {
        "line": score.line,
        "source": score.source,
        "target": score.target,
        "log_prob": finite(score.log_prob),
        "tokens": score.tokens,
        "token_log_probs": [finite(value) for value in score.token_log_probs],
    }
    if score.problem is not None:
        content["error"] = score.problem
    return json_line(content)
