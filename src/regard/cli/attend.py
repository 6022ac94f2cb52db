"""`regard attend`: what the model looked at."""

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.attend_choices import Asked, DirectionName, Files, KindName, Show
from regard.cli.attend_models import show_model
from regard.cli.options import (
    DeviceOption,
    JsonFileOption,
    JsonOption,
    QuietOption,
    ThreadsOption,
)

WHAT, TEXT, LINKS, FILES = "What is shown", "Text", "Word alignments", "Files"


def attend(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Directory made by `regard train`, local Hugging Face directory, or file made by `regard record`.",
            show_default=False,
        ),
    ],
    sentence: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="A sentence or text.", show_default=False)
    ] = None,
    translation: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET", help="What an encoder–decoder model says of it; else its own output.", show_default=False
        ),
    ] = None,
    show: Annotated[
        Show | None,
        typer.Option(
            help="See above. If not given: what the other options are for, else alignment where the model has "
            "cross-attention, and text where it hasn't.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            "--token",
            help="For text and rollout: a word, its second place (dogs#2), or a position (12, -1 the last). Can be "
            "repeated. If not given: the last one.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    direction: Annotated[
        DirectionName | None,
        typer.Option(
            help="For text: what the token looked at (from, if not given), or what looked at it (to).",
            rich_help_panel=WHAT,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Layer, from 0 among those of its kind, -1 the last, or mean; or a pattern over paths of modules, "
            "such as 'encoder.*', but for a regard model's alignment. If not given: all of them; an alignment is their "
            "mean.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Head, from 0, or mean.", rich_help_panel=WHAT)] = None,
    kind: Annotated[
        KindName | None,
        typer.Option(
            help="For all but alignment: which attention. If not given: cross where there is any, and for summary and "
            "rollout all.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Instead of SOURCE: a file, read as one text; - is standard input.", rich_help_panel=TEXT),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Instead of SOURCE, for alignments: a file of sentences, one a line.", rich_help_panel=TEXT),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            help="With --source: their translations; with --text: its target. Else the model's own.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --source and --target: a table (tab-separated, .csv, .jsonl, .parquet; - is tabs on "
            "standard input).",
            rich_help_panel=TEXT,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="With --pairs: the columns of source and target, numbers from 1 or names: en,de. Else 1,2.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For a regard model's own translation: width of the beam, 1 for greedy; else the model's own.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Let a Hugging Face model go on by at most so many tokens, and show these too.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    element: Annotated[
        int | None,
        typer.Option(min=0, help="Of a recording of several texts: which one, from 0.", rich_help_panel=TEXT),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(help='Gold links such as "0-0 1-2", to outline and compare with.', rich_help_panel=LINKS),
    ] = None,
    gold_file: Annotated[
        Path | None,
        typer.Option(
            help="With --source and --target, or --pairs: gold links, a line for each pair; tells which layer and "
            "head aligns best.",
            rich_help_panel=LINKS,
        ),
    ] = None,
    pharaoh: Annotated[
        bool, typer.Option("--pharaoh", help="Print links i-j between words instead.", rich_help_panel=LINKS)
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Write a PNG picture.", rich_help_panel=FILES)] = None,
    svg: Annotated[Path | None, typer.Option(help="Write an SVG picture.", rich_help_panel=FILES)] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            help="Write a grid of all layers' and heads' alignments (.png, .svg, .pdf).", rich_help_panel=FILES
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page that needs nothing else; with all layers and heads.", rich_help_panel=FILES),
    ] = None,
    as_json: JsonOption = False,
    json_file: JsonFileOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Show what a model looked at: a regard model, a Hugging Face model, or what a recording holds.

        regard attend runs/en-de "Two dogs play in the snow."

        regard attend runs/en-de "Two dogs play." "Zwei Hunde spielen." --html dogs.html --png dogs.png

        regard attend path/to/llama "The cat sat on the mat because it was tired." --token it

        regard attend path/to/bert --text page.txt --show summary --png heads.png

        regard attend recording.safetensors --show map --layer 3 --png map.png

    --show alignment: a line for each target word, the weight of each source word in per cent. Weights are those of the
    decoder's cross-attention, from tokens pooled to words: summed over the source word's tokens, averaged over the
    target word's. What is missing to 100 fell on the end of the sentence, or outside the window of a model with local
    attention. --pharaoh prints the heaviest source word of each target word as links i-j (source-target, from 0)
    instead; --json all words, tokens, links, and the weights of every layer and head.

    --show text: the text, coloured by how much a token looked at each word of it, or by how much each word looked at
    the token (--direction to). In a decoder the row of a word is where the word is read: what it looked at there serves
    to say the next one. --show alignment shows what was looked at to say the word itself.

    --show rollout: what each input has to do with a token after the last layer, if attention and the residual stream
    mix as they say (Abnar and Zuidema 2020).

    --show summary: of each head its entropy, its mass on the first, special, previous and own token, how far it looks,
    and which tokens receive most.

    --show map: who looks where, in at most 256 x 256 cells however long the text is.

    A whole text: --source FILE [--target FILE], or --pairs TABLE, prints a line of links for each pair (with --json an
    object: line of the file from 1, source, target, links, and error where the model can't read it); with --html it
    makes one page of all pairs instead, with --gold-file a table of the alignment error rate of every layer and head.

    Attention weights say what a layer mixed, not why the model said what it said.
    """
    show_model(
        show,
        Asked(
            model=model,
            sentence=sentence,
            translation=translation,
            text=text,
            source=source,
            target=target,
            pairs=pairs,
            columns=columns,
            element=element,
            generate=generate,
            kind=kind,
            layer=layer,
            head=head,
            tokens=tokens or [],
            direction=direction,
            gold=gold,
            gold_file=gold_file,
            pharaoh=pharaoh,
            files=Files(png, svg, heads, html, json_file),
            as_json=as_json,
            beam=beam,
            device=device,
            threads=threads,
            quiet=quiet,
        ),
    )
