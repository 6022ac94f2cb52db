"""`regard evaluate`: judge a model on a test set, each kind by what it is for."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.evaluate_translator import Judged, ParallelTest
from regard.cli.options import (
    BeamOption,
    ColumnsOption,
    DeviceOption,
    JsonFileOption,
    JsonOption,
    ModelArgument,
    PairsOption,
    QuietOption,
    SourceOption,
    TargetOption,
    ThreadsOption,
    check_folder,
    open_any,
    print_json,
    progress,
)
from regard.data.documents import Unit
from regard.errors import ArgumentError
from regard.files import write_json
from regard.runs.evaluate_labels import evaluate_labelled
from regard.runs.evaluate_text import evaluate_text
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.text_input import read_text
from regard.runs.translator import Translator

TRANSLATION, TEXT, LABELS = "Translation", "Language models", "Classifiers and taggers"


def evaluate(
    model: ModelArgument,
    source: SourceOption = None,
    target: TargetOption = None,
    pairs: PairsOption = None,
    columns: ColumnsOption = None,
    alignments: Annotated[
        Path | None,
        typer.Option(
            help="Gold word alignments, a line for each pair: 0-0 1-2, possible links 1?3.",
            rich_help_panel=TRANSLATION,
        ),
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="A category for each pair, one a line.", rich_help_panel=TRANSLATION)
    ] = None,
    beam: BeamOption = None,
    tokenize: Annotated[
        str,
        typer.Option(
            help="sacreBLEU's tokenisation: 13a, zh, char, intl, none, …; auto goes by the script.",
            rich_help_panel=TRANSLATION,
        ),
    ] = "auto",
    moses: Annotated[
        str | None,
        typer.Option(
            help="Language code of the target: also BLEU of lowercased, Moses-tokenised text.",
            rich_help_panel=TRANSLATION,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first N pairs.", rich_help_panel=TRANSLATION)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the translations, one a line.", rich_help_panel=TRANSLATION)
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="A text file to be predicted (.gz too, - is standard input).", rich_help_panel=TEXT),
    ] = None,
    document: Annotated[
        Unit | None,
        typer.Option(
            help="What a document of it is: file, line, or paragraph (blank lines part them); if not given, what "
            "it was in training, or the file.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens that the window moves on: each token is predicted once, with more before it than --context "
            "less this; half the context if not given.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens of a window; the model's positions if not given.", rich_help_panel=TEXT),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(
            help="A table of labelled texts, or words and tags in CoNLL's columns; --columns as in training.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    header: Annotated[
        bool, typer.Option("--header", help="The first line of the table names its columns.", rich_help_panel=LABELS)
    ] = False,
    as_json: JsonOption = False,
    json_file: JsonFileOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Judge a model on a test set: how good translations, predictions of a text, or labels are.

        regard evaluate runs/en-de --source test.en --target test.de --moses de

        regard evaluate runs/en-zh --pairs test.tsv --alignments test.align --json-file result.json

        regard evaluate runs/gpt --text test.txt --stride 128

        regard evaluate runs/sentiment --labelled test.tsv

    Translation: BLEU and chrF are sacreBLEU's, with their signatures and 95 % intervals by bootstrap resampling (1,000
    samples, fixed seed). BLEU lowercased is the same with case:lc. For the tokenised, lowercased BLEU of the literature
    add --moses LANGUAGE: punctuation normalised, lowercased and tokenised as Moses' scripts do, then scored as
    multi-bleu.perl does; needs the extra `moses`. Perplexity is that of a target token of the references, end of
    sentence included, so it depends on the tokenizer. The alignment judged is that of source and reference:
    cross-attention, the heaviest source word of each target word, against the gold links. The error rate is Och and
    Ney's (2003). A source that is too long for the model counts with an empty translation and is named in the notes.

    Language models: perplexity of a token, which depends on the tokenizer, and bits per byte, which doesn't.
    Documents are read as in training, if the model's directory says how: packed ones each from its own beginning, those
    of a stream one after another, with the <eos> that closes each. Else the file is one text, or --document says what
    is judged by itself.

    Classifiers and taggers: accuracy, and F1 of each class; of taggers with B- and I- tags, F1 of whole entities.
    """
    check_folder("--json-file", json_file)
    check_folder("--out", out)
    parallel = ParallelTest(source, target, pairs, columns, alignments, categories, beam, tokenize, moses, limit, out)
    given = {
        "--source and --target, or --pairs": any(path is not None for path in (source, target, pairs)),
        "--text": text is not None,
        "--labelled": labelled is not None,
    }
    opened = open_any(model, device, threads)
    runner = opened.runner
    wanted = next((option for option, kinds in KINDS.items() if isinstance(runner, kinds)), None)
    if wanted is None:
        raise ArgumentError(f"{model}: a model for {opened.task}: its validation while it trains is all there is")
    if [option for option, there in given.items() if there] != [wanted]:
        raise ArgumentError(f"{model} is a model for {opened.task}: it is judged on {wanted}, and on nothing else")
    others: dict[str, tuple[bool, tuple[type, ...]]] = {  # whether it is given, and for what it is
        "--columns": (columns is not None, (Translator, Classifier, Tagger)),
        "--alignments": (alignments is not None, (Translator,)),
        "--categories": (categories is not None, (Translator,)),
        "--beam": (beam is not None, (Translator,)),
        "--tokenize": (tokenize != "auto", (Translator,)),
        "--moses": (moses is not None, (Translator,)),
        "--limit": (limit is not None, (Translator,)),
        "--out": (out is not None, (Translator,)),
        "--document": (document is not None, (LanguageModel,)),
        "--stride": (stride is not None, (LanguageModel,)),
        "--context": (context is not None, (LanguageModel,)),
        "--header": (header, (Classifier,)),
    }
    wrong = [option for option, (there, kinds) in others.items() if there and not isinstance(runner, kinds)]
    if wrong:
        raise ArgumentError(f"{', '.join(wrong)}: not for a model for {opened.task}, which {model} is")
    found: Any
    match runner:
        case Translator():
            judged = Judged(runner, parallel, quiet)
            content, show = judged.to_json(), judged.show
        case LanguageModel():
            assert text is not None
            with progress(quiet) as report:
                found = evaluate_text(
                    runner,
                    read_text(text),
                    document=document,
                    stride=stride,
                    length=context,
                    progress=lambda done, total: report("predicting", done, total),
                )
            content, show = {"data": str(text)} | found.to_json(), _lines(found.lines())
        case Classifier() | Tagger():
            assert labelled is not None
            found = evaluate_labelled(runner, labelled, _columns(columns), header)
            content, show = {"data": str(labelled)} | found.to_json(), _lines(found.lines())
    content = {"model": str(model)} | content
    if json_file is not None:
        write_json(json_file, content)
    if as_json:
        print_json(content)
    else:
        show()


KINDS: dict[str, tuple[type, ...]] = {
    "--source and --target, or --pairs": (Translator,),
    "--text": (LanguageModel,),
    "--labelled": (Classifier, Tagger),
}
"""The options that say what is judged, and what they are for."""


def _lines(lines: list[str]) -> Callable[[], None]:
    return lambda: typer.echo("\n".join(lines))


def _columns(columns: str | None) -> list[int | str]:
    names = [] if columns is None else [name.strip() for name in columns.split(",")]
    if not all(names):
        raise ArgumentError(f"--columns {columns}: expected numbers from 1, or names, between commas")
    return [int(name) if name.isdecimal() else name for name in names]
