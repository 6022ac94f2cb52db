"""Prepares a corpus again and again and kills it at random moments; used by test_corpus.py.

    python kill_prepare.py FOLDER KILLS SEED

Lives are forked from this process, which has imported everything and computes nothing, so that no thread is lost.
Prints one line of JSON: kills, how many of them came while tokens were being written, and whether the files of the
killed corpora are those of the uninterrupted one.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from regard.data import preparing, text_readers
from regard.runs import prepared
from regard.runs.corpus import prepare_corpus
from regard.runs.recipe import make_recipe

WORDS = ["dog", "cat", "house", "tree", "book", "river", "stone", "lamp", "train", "apple", "über", "二"]


def write_data(folder: Path) -> None:
    rng = random.Random(5)
    rows = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(4000)]
    for number, part in enumerate((rows[:1500], rows[1500:])):
        text = "".join(f"{row}\t{row[::-1] if rng.random() < 0.98 else ''}\n" for row in part)
        (folder / f"part{number}.tsv").write_text(text, "utf-8")


def prepare(folder: Path, out: Path) -> None:
    recipe = make_recipe(
        {
            "data": {
                "folder": str(folder),
                "train": [{"pairs": "part0.tsv", "weight": 0.5}, {"pairs": "part1.tsv"}],
                "max_length": 30,
            },
            "tokenizer": {"vocabulary": 320, "sample": 500},
        }
    )
    prepare_corpus(recipe, out, None, lambda text: None, lambda what, done, total: None)


def start(folder: Path, out: Path) -> int:
    """Fork a life that prepares; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        prepare(folder, out)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "a life failed"


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def main(folder: Path, kills: int, seed: int) -> None:
    text_readers.BLOCK = 100
    prepared.encode_corpus = partial(preparing.encode_corpus, save_seconds=0.0)
    write_data(folder)
    started = time.monotonic()
    finish(start(folder, folder / "whole"))
    duration = time.monotonic() - started
    expected = files(folder / "whole")
    rng, out, done, within, runs = random.Random(seed), folder / "killed0", 0, 0, 0
    same = []
    while done < kills:
        child = start(folder, out)
        time.sleep(rng.uniform(0.0, 0.6 * duration))
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:  # prepared already: begin another, to be killed as well
            assert status == 0, "a life failed"
            same.append(files(out) == expected)
            runs += 1
            out = folder / f"killed{runs}"
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        within += (out / "source.tokens").exists() and not (out / "manifest.json").exists()
        done += 1
    finish(start(folder, out))
    same.append(files(out) == expected)
    print(json.dumps({"kills": done, "within": within, "same": same}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
