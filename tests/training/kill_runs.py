"""Trains `toy_run` in forked children and kills them with SIGKILL at random moments; run by test_kill.py.

    python kill_runs.py FOLDER KILLS SEED

A process that has imported torch once forks each life, so a life costs milliseconds. It never computes itself, so no
thread is lost in a fork. Prints JSON: how many lives were killed, at which steps, how many while a checkpoint was being
written, and the digests of the final states of the uninterrupted runs and of the killed ones.
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
import toy_run

from regard.training import Metric, Settings

STEPS = 120
SETTINGS = Settings(accumulate=3, validate_every=30, save_every=2, keep=3, metric=Metric())


def digest(trainer):
    tensors, numbers, progress = toy_run.final_state(trainer)
    result = hashlib.sha256(json.dumps([numbers, progress, trainer.store.steps()]).encode())
    for name in sorted(tensors):
        result.update(name.encode() + tensors[name].numpy().tobytes())
    return result.hexdigest()


def life(folder):
    """One attempt at the whole run, in a child; its digest is written when it reaches the end."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        trainer, _ = toy_run.train(folder, STEPS, settings=SETTINGS)
        (folder.parent / f"{folder.name}.digest").write_text(digest(trainer))
        code = 0
    finally:
        os._exit(code)


def uninterrupted(folder):
    started = time.monotonic()
    _, status = os.waitpid(life(folder), 0)
    assert status == 0, status
    return (folder.parent / f"{folder.name}.digest").read_text(), time.monotonic() - started


def main(root, kills, seed):
    torch.set_num_threads(1)
    toy_run.make_trainer(root / "unused", STEPS)  # imports a good part of torch, so that no life need do it
    expected, _ = uninterrupted(root / "first")
    again, seconds = uninterrupted(root / "second")
    delays = random.Random(seed)
    killed, steps, in_saves, results, run = 0, set(), 0, [], 0
    while killed < kills:
        folder = root / f"killed-{run}"
        child = life(folder)
        time.sleep(delays.uniform(0.0, seconds / 7))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
            in_saves += any(".tmp-" in name or ".old-" in name for name in names)
            steps.add(max((int(name[5:]) for name in names if name[5:].isdigit()), default=-1))
        else:  # it reached the end first: begin another run, so that every kill counts
            results.append((root / f"killed-{run}.digest").read_text())
            run += 1
    results.append(uninterrupted(root / f"killed-{run}")[0])
    report = {"killed": killed, "steps": sorted(steps), "in_saves": in_saves, "seconds": seconds}
    print(json.dumps({**report, "uninterrupted": [expected, again], "results": results}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
