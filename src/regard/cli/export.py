"""`regard export`: a model for other libraries."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import JsonOption, ModelArgument, QuietOption, print_json, say
from regard.runs.export import export as write


class Target(StrEnum):
    """For which library."""

    HUGGINGFACE = "huggingface"
    CTRANSLATE2 = "ctranslate2"
    ONNX = "onnx"


class Precision(StrEnum):
    """In which weights are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def export(
    model: ModelArgument,
    to: Annotated[Target, typer.Option(help="For which library.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory to make, whole or not at all; else MODEL-LIBRARY.", show_default=False),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the stored weights; other ones than float32 for ctranslate2 only.")
    ] = Precision.FLOAT32,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a trained model as a directory of another library, for production or for others to use.

        regard export runs/en-de --to ctranslate2 --precision int8

        regard export runs/en-de-rnn --to onnx --out served/en-de

        regard export runs/gpt --to huggingface

    huggingface: what transformers opens with from_pretrained; Transformers, GPT and BERT models. ctranslate2:
    Transformers and GPT models, for a fast engine on CPUs and GPUs. onnx: these and models with recurrent networks, as
    graphs that say one token at a time with a cache, for ONNX Runtime and other engines; it takes a minute.

    Beside the model lies its tokenizer, as a file of the `tokenizers` library, and for ctranslate2 and onnx a README
    with a program that runs it, by the model's defaults of decoding; a note says which of them the program doesn't
    have. A directory that an export has made is replaced; any other that holds something, a changed file too, is left
    alone.
    """
    place = Path(f"{model.resolve() if model.name in ('', '..') else model}-{to.value}") if out is None else out
    done = write(model, to.value, place, precision.value)
    for note in done.notes:
        say(f"note: {note}", quiet)
    if as_json:
        print_json(done.to_json())
        return
    say(f"wrote {done.model} for {to.value} into {done.directory}:", quiet)
    for name, size in done.files.items():
        say(f"  {name}  {size:,} bytes", quiet)
