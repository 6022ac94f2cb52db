"""`regard record`: what a model's attentions did with a text, as a file."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import (
    DeviceOption,
    JsonOption,
    QuietOption,
    ThreadsOption,
    check_folder,
    check_outputs,
    is_inside,
    print_json,
    progress,
    say,
)
from regard.errors import ArgumentError, DataError
from regard.recording import Recording, load_recording
from regard.runs.recordings import open_subject, read_texts
from regard.runs.subjects import Subject

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Directory made by `regard train`, or of a Hugging Face model.", show_default=False
    ),
]


def record(
    model: ModelArgument,
    sentence: Annotated[str | None, typer.Argument(metavar="TEXT", help="A text.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write (.safetensors), whole or not at all; replaces nothing but a recording.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Instead of TEXT: a file, a text a line (.gz too; - or nothing: standard input)."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="What is said to each text, line by line; else what the model itself says.")
    ] = None,
    where: Annotated[str, typer.Option(metavar="PATTERN", help="Attentions to record, by path, with * and ?.")] = "*",
    heads: Annotated[str | None, typer.Option(help="Heads to keep, from 0: 0,3; else all.")] = None,
    document: Annotated[bool, typer.Option("--document", help="A file is one text, not one a line.")] = False,
    generate: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Let the model write up to N tokens, and record that.")
    ] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Record a model's attention while it reads a text, in a file that opens without the model.

        regard record runs/en-de "Two dogs play in the snow." --out dogs.safetensors

        regard record runs/gpt --text page.txt --document --out page.safetensors

        regard record llama-3.2-1b --text book.txt --document --where "*.layers.1?.*" --out book.safetensors

        regard record llama-3.2-1b "Once upon a time" --generate 50 --out story.safetensors

    MODEL is a directory made by `regard train`, or a local directory of a Hugging Face model with safetensors weights
    and a tokenizer. A model that reads a source and says a target is fed --target, or else what it says itself.

    Several texts make one padded batch: the positions of padding are in the file, too, marked as such. `regard attend
    FILE` shows what is in it, with --element of which text; `regard.load_recording` opens it in Python.

    What is kept are queries and keys, so the file grows with the length of the text, not with its square. Prints the
    attentions, how many heads they have, and between how many tokens; --json the same for each attention.
    """
    if out is None:
        raise ArgumentError("give --out FILE.safetensors, the file to write")
    _check_out(out, model, {"--text": text, "--target": target})
    chosen = _numbers(heads)
    if sentence is not None and text is not None:
        raise ArgumentError("give TEXT or --text, not both")
    if sentence is not None and document:
        raise ArgumentError("--document is for files; TEXT is one text anyway")
    if target is not None and generate is not None:
        raise ArgumentError("--generate lets the model say something; leave it out with --target")
    if sentence is not None and not sentence.strip():
        raise ArgumentError("TEXT is blank")
    texts = [sentence] if sentence is not None else read_texts(text, document)
    targets = None if target is None else read_texts(target, document)
    with progress(quiet) as show:
        show("opening the model", 0, None)
        subject = open_subject(model, device=device, threads=threads)
        if targets is not None:
            _check_targets(subject, texts, targets, target)
        show("recording", 0, None)
        recording = subject.record(texts, targets, where=where, heads=chosen, generate=generate)
        show("writing", 0, None)
        recording.save(out)
    size = out.stat().st_size
    if as_json:
        print_json({"out": str(out), "bytes": size, "texts": len(texts), **_plain(recording)})
    else:
        typer.echo(_summary(recording, len(texts)))
    say(f"wrote {out} ({_bytes(size)})", quiet)


def _check_out(out: Path, model: Path, inputs: dict[str, Path | None]) -> None:
    """Refuse a file whose content would be lost, unless that is an older recording."""
    check_folder("--out", out)
    check_outputs({"--out": out}, inputs)
    if model.is_dir() and is_inside(out, model):
        raise ArgumentError(f"--out {out}: is in the directory of the model; choose another folder")
    if not out.exists() or (out.is_file() and out.stat().st_size == 0):
        return
    try:
        if not out.is_file():
            raise DataError("is no file")  # opening a pipe would wait
        load_recording(out)
    except DataError as error:
        reason = str(error).removeprefix(f"{out}: ")
        raise ArgumentError(f"--out {out}: exists, and only recordings are replaced ({reason})") from error


def _check_targets(subject: Subject, texts: Sequence[str], targets: Sequence[str], path: Path | None) -> None:
    if subject.kind not in ("translator", "encoder-decoder"):
        raise ArgumentError(f"--target is for models with a target: {subject.name} reads one text")
    if len(targets) != len(texts):
        raise ArgumentError(f"{_count(texts, 'text')} and {_count(targets, 'line')} in {path}: expected one for each")


def _numbers(heads: str | None) -> list[int] | None:
    if heads is None:
        return None
    parts = [part.strip() for part in heads.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise ArgumentError(f"--heads {heads}: expected numbers from 0 with commas between, such as 0,3")
    return [int(part) for part in parts]


def _plain(recording: Recording) -> dict[str, Any]:
    """What was recorded, for JSON."""
    return {
        "model": recording.model,
        "attentions": [
            {
                "name": name,
                "kind": recording.roles[name].kind,
                "queries": recording.roles[name].queries,
                "keys": recording.roles[name].keys,
                "shape": [*table.shape],
            }
            for name, table in recording.items()
        ],
    }


def _summary(recording: Recording, texts: int) -> str:
    """A line for each group of attentions that are alike."""

    def alike(name: str) -> tuple[Any, ...]:
        role = recording.roles[name]
        return role.kind, role.queries, role.keys, recording[name].shape

    names = list(recording)
    first = f"{recording.model}: {_count(names, 'attention')}, {_count(range(texts), 'text')}"
    # a decoder's self- and cross-attention take turns
    order = list(dict.fromkeys(alike(name) for name in names))
    groups = groupby(sorted(names, key=lambda name: order.index(alike(name))), key=alike)
    return "\n".join([first, *(_line(key, list(group)) for key, group in groups)])


def _line(key: tuple[Any, ...], names: Sequence[str]) -> str:
    kind, queries, keys, (_, heads, rows, columns) = key
    between = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    return (
        f"  {kind}, {queries} → {keys}: {len(names)} × {_count(range(heads), 'head')}, {rows} × {columns} tokens: "
        f"{between}"
    )


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
