"""Preparing a corpus of any size: pairs a second beside `tokenizers` alone, and how memory grows with the corpus.

    python benchmarks/prepare.py                      # 500,000 and 5,000,000 pairs: some ten minutes, 4 GB of disk
    python benchmarks/prepare.py --pairs 20000 100000 --json figures.json

The corpus is generated: words of a made-up vocabulary with Zipf frequencies, about 20 a sentence (log-normal), as many
on both sides. The same number of pairs is always the same corpus.

For each size, each in a process of its own:

alone      `tokenizers` encodes the same lines with the same tokenizer and threads, and the ids are read; the lines lie
           in memory already (at most 500,000 pairs)
prepare    `prepare_corpus` with that tokenizer: two passes over the files (the first holds out a validation part),
           tokens and offsets written, checksums of everything
train      a first run of `regard train`: the tokenizer is learned from a sample, the text tokenised, then 20 steps of
           the smallest model and a validation
batches    the batches of two epochs, all of them read from disk

Memory is the peak of anonymous memory (RssAnon in /proc/self/status, every 5 ms) above what the process has before the
work: mapped files don't count, because the system takes their pages back when it needs them. Linux only.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from measuring import Spread

from regard.data import read_lines, train_tokenizer
from regard.data.token_store import ParallelTokens
from regard.runs.corpus import prepare_corpus, training_batches
from regard.runs.directory import JOINT, Tokenizers
from regard.runs.recipe import Recipe, make_recipe
from regard.runs.train import Run

VOCABULARY = 50_000  # words of each language
CHUNK = 50_000  # pairs generated together
TOGETHER = 10_000  # lines that `tokenizers` alone gets in one call
ALONE = 500_000  # most pairs that it encodes
WORKS = ("alone", "prepare", "train", "batches")

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pairs", nargs="+", type=int, default=[500_000, 5_000_000], help="sizes: 500000 5000000")
    add("--folder", type=Path, help="where corpora go, and stay; default: a temporary folder")
    add("--vocabulary", type=int, default=16_000, help="of the tokenizer")
    add("--sample", type=int, default=100_000, help="pairs that the tokenizer is trained on")
    add("--rounds", type=int, default=3, help="of alone and prepare in turn, at each size")
    add("--json", type=Path, metavar="FILE", help="write the figures to it")
    add("--work", choices=WORKS, help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work, options.pairs[0], options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(parents=True, exist_ok=True)
        figures = measure(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), "utf-8")


def measure(options: argparse.Namespace) -> list[Figures]:
    figures: list[Figures] = []
    print(f"{'pairs':>10}  {'':8} {'seconds':>8} {'pairs/s':>10} {'anonymous MiB':>14}")
    for size in sorted(set(options.pairs)):
        source, target = write_corpus(options.folder, size)
        if not (options.folder / JOINT).exists():
            lines = [
                line for path in (source, target) for line, _ in zip(read_lines(path), range(50_000), strict=False)
            ]
            train_tokenizer("bpe", lines, options.vocabulary).save(options.folder / JOINT)
        ratios: list[float] = []
        for number in range(options.rounds):
            pair = [show(run(what, size, options), figures) for what in ("alone", "prepare")]
            if number or options.rounds == 1:  # the first round warms up
                ratios.append(pair[1]["speed"] / pair[0]["speed"])
        for what in ("train", "batches"):
            show(run(what, size, options), figures)
        print(f"{size:10,}  prepare is {Spread.of(ratios)} times as fast as tokenizers alone")
    if len({one["pairs"] for one in figures}) > 1:
        for what in WORKS[1:]:
            ends = [
                max((f["pairs"], f["anonymous"]) for f in figures if f["what"] == what and f["pairs"] == size)
                for size in (min(options.pairs), max(options.pairs))
            ]
            (few, low), (many, high) = ends
            print(f"{what:8} {(high - low) / (many - few):6.1f} bytes of anonymous memory for each further pair")
    return figures


def show(found: Figures, figures: list[Figures]) -> Figures:
    figures.append(found)
    print(
        f"{found['pairs']:10,}  {found['what']:8} {found['seconds']:8.1f} {found['speed']:10,.0f} "
        f"{found['anonymous'] / 2**20:14.1f}",
        flush=True,
    )
    return found


def run(what: str, pairs: int, options: argparse.Namespace) -> Figures:
    """A piece of work in a process of its own."""
    settings = {"work": what, "pairs": pairs, "folder": options.folder, "sample": options.sample}
    command = [
        sys.executable,
        __file__,
        *(part for name, value in settings.items() for part in (f"--{name}", str(value))),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} of {pairs} pairs failed")
    return dict(json.loads(done.stdout))


def work(what: str, pairs: int, options: argparse.Namespace) -> Figures:
    source, target = corpus_files(options.folder, pairs)
    prepared = options.folder / f"prepared-{pairs}"
    recipe = make_recipe(
        {
            "data": {"folder": str(options.folder), "source": source.name, "target": target.name},
            "tokenizer": {"vocabulary": options.vocabulary, "sample": options.sample},
            "training": {"steps": 20, "validate_every": 20, "tokens_per_batch": 2048, "validation_sentences": 20},
        }
    )
    known = Tokenizers.load(options.folder)
    call: Callable[[], object]
    done = pairs
    if what == "alone":
        done = min(pairs, ALONE)
        sides = [[line for line, _ in zip(read_lines(path), range(done), strict=False)] for path in (source, target)]
        inner = tokenizers.Tokenizer.from_file(str(options.folder / JOINT))
        call = partial(encode_alone, inner, sides)
    elif what == "batches":
        tokens = ParallelTokens.open(prepared)
        call = partial(read_batches, tokens)
    elif what == "prepare":
        shutil.rmtree(prepared, ignore_errors=True)
        call = partial(prepare_corpus, recipe, prepared, known, silent, silent)
    else:
        out = options.folder / f"run-{pairs}"
        shutil.rmtree(out, ignore_errors=True)
        call = partial(train, recipe, out)
    with AnonymousPeak() as peak:
        began = time.perf_counter()
        call()
        seconds = time.perf_counter() - began
    return {"what": what, "pairs": pairs, "seconds": seconds, "speed": done / seconds, "anonymous": peak.bytes}


def encode_alone(inner: tokenizers.Tokenizer, sides: list[list[str]]) -> None:
    for start in range(0, len(sides[0]), TOGETHER):
        for lines in sides:
            batch = inner.encode_batch_fast(lines[start : start + TOGETHER], add_special_tokens=False)
            [each.ids for each in batch]


def train(recipe: Recipe, out: Path) -> None:
    Run(recipe, out, silent).train()


def silent(*words: object) -> None:
    """Says nothing."""


def read_batches(tokens: ParallelTokens) -> None:
    plan = training_batches(tokens, 4096, 1)
    previous = None  # the loop has the old epoch while it asks for the next
    for number in range(2):
        epoch = plan.epoch(number)
        for indices in epoch:
            for index in indices.tolist():
                tokens.source[index], tokens.target[index]
        previous = epoch
    assert previous is not None


class AnonymousPeak:
    """Within the block, the most anonymous memory that this process gets beyond what it has at the start."""

    def __enter__(self) -> "AnonymousPeak":
        self.bytes, self._before, self._done = 0, anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, anonymous() - self._before)


def anonymous() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def corpus_files(folder: Path, pairs: int) -> tuple[Path, Path]:
    return folder / f"corpus-{pairs}.source", folder / f"corpus-{pairs}.target"


def write_corpus(folder: Path, pairs: int) -> tuple[Path, Path]:
    """The generated corpus of so many pairs; what is there already stays."""
    source, target = corpus_files(folder, pairs)
    if source.exists() and target.exists():
        return source, target
    with open(source, "w", encoding="utf-8") as left, open(target, "w", encoding="utf-8") as right:
        for sources, targets in generate(pairs):
            left.writelines(sources)
            right.writelines(targets)
    return source, target


def generate(pairs: int) -> Iterator[tuple[list[str], list[str]]]:
    """Lines of both sides, `CHUNK` pairs at a time."""
    random = np.random.default_rng(1)
    languages = [words(random), words(random)]
    ranks = 1 / (np.arange(VOCABULARY) + 2.7)  # Zipf–Mandelbrot
    cumulative = np.cumsum(ranks / ranks.sum())
    for start in range(0, pairs, CHUNK):
        count = min(CHUNK, pairs - start)
        lengths = np.clip(random.lognormal(2.85, 0.5, count), 1, 120)
        yield tuple(  # type: ignore[misc]
            sentences(random, language, cumulative, np.clip(lengths * ratio, 1, 150).astype(int))
            for language, ratio in zip(languages, (1.0, random.lognormal(0.0, 0.15, count)), strict=True)
        )


def words(random: np.random.Generator) -> list[str]:
    """Made-up words of one to four syllables, the frequent ones shorter."""
    syllables = [c + v + e for c in "bdfghklmnprstvw" for v in "aeiou" for e in ("", "n", "r", "s")]
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        rank = len(found)
        count = 1 if rank < 200 else 2 if rank < 5000 else 3 + int(random.integers(2))
        found["".join(syllables[i] for i in random.integers(len(syllables), size=count))] = None
    return list(found)


def sentences(random: np.random.Generator, language: list[str], cumulative: Any, lengths: Any) -> list[str]:
    drawn = [
        language[i] for i in np.searchsorted(cumulative, random.random(int(lengths.sum()))).clip(max=VOCABULARY - 1)
    ]
    ends = np.cumsum(lengths)
    return [
        " ".join(drawn[a:b]).capitalize() + ".\n" for a, b in zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    ]


if __name__ == "__main__":
    main()
