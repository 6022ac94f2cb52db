"""Runs `regard train` again and again and kills it at random moments; used by test_train_kill.py.

    python kill_train.py FOLDER KILLS SEED

Lives are forked from this process, which has imported everything, so that each takes only its own time. What a
life prints goes to FOLDER/log. Prints one line of JSON: kills, and the digests of the finished models.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from regard.cli import app

RECIPE = """
[data]
source = "a.en"
target = "a.de"

[tokenizer]
vocabulary = 320

[model]
encoder_layers = 1
decoder_layers = 1
width = 16
feedforward = 32
heads = 2
dropout = 0.1

[training]
steps = 60
tokens_per_batch = 256
warmup = 10
validate_every = 15
validation_sentences = 4
save_minutes = 0.0005
average = 3
threads = 1
device = "cpu"
"""

NOUNS = ["dog", "cat", "house", "tree", "book", "river", "stone", "lamp", "train", "apple"]
VERBS = ["sees", "finds", "likes", "paints", "moves", "sells"]


def write_data(folder: Path) -> None:
    rng = random.Random(5)
    rows = [f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} a {rng.choice(NOUNS)}" for _ in range(300)]
    folder.joinpath("a.en").write_text("".join(f"{row}\n" for row in rows))
    folder.joinpath("a.de").write_text("".join(f"{row[::-1]}\n" for row in rows))
    folder.joinpath("recipe.toml").write_text(RECIPE)


def start(folder: Path, out: Path) -> int:
    """Fork a life that runs the command; returns its process id."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        app(["train", str(folder / "recipe.toml"), "--out", str(out), "--quiet"], standalone_mode=False)
        os._exit(0)
    finally:
        import traceback

        traceback.print_exc()
        os._exit(1)


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "a life failed; see the log"


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main(folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    write_data(folder)
    durations, digests = [], []
    for name in ("first", "second"):  # two uninterrupted runs must agree before anything is learnt from a third
        started = time.monotonic()
        finish(start(folder, folder / name))
        durations.append(time.monotonic() - started)
        digests.append(digest(folder / name))
    rng, out, done, early = random.Random(seed), folder / "killed", 0, 0
    while done < kills:
        child = start(folder, out)
        # short lives stay in data preparation and the first steps; longer ones get on
        time.sleep(rng.uniform(0.0, 0.45 * min(durations)))
        finished, _ = os.waitpid(child, os.WNOHANG)
        if finished:  # the work was done already: begin another run, to be killed as well
            digests.append(digest(out))
            early += 1
            out = folder / f"killed{early}"
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done += 1
    finish(start(folder, out))
    digests.append(digest(out))
    print(json.dumps({"kills": done, "runs": early + 1, "digests": digests}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
