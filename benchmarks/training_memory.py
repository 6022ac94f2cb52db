"""Memory and time of a training step: float32 or bfloat16, with and without gradient checkpointing.

    python benchmarks/training_memory.py [--preset small] [--length 32] [--tokens 2048 8192]

Each case runs in a process of its own, once for each number of target tokens in a batch: the slope between the two
peaks of resident memory is what a token costs; what is left is constant (weights, gradients, optimizer, code).
Prints a table in Markdown; docs/training.md holds one.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from regard.models.transformer import TransformerConfig, build_transformer
from regard.tasks.translation import Specials, TranslationObjective, collate
from regard.training import build_optimizer, open_processes, recompute

VOCABULARY = 10_000
CASES = [("float32", False), ("float32", True), ("bfloat16", False), ("bfloat16", True)]
STEPS = 4


def child(options: argparse.Namespace) -> None:
    """Train a few steps of one case and print the peak and the times."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    processes = open_processes(torch.device("cpu"), options.precision, "none")
    config = TransformerConfig.preset(
        options.preset, source_vocabulary=VOCABULARY, target_vocabulary=VOCABULARY, norm="pre"
    )
    model = build_transformer(config)
    layers = [*model.encoder.layers, *model.decoder.layers]
    if options.checkpointing:
        recompute(layers)
    loss = processes.prepare(TranslationObjective(model, 0.1), layers)
    optimizer = build_optimizer(model, 1e-4)
    rows = torch.randint(4, VOCABULARY, (options.tokens[0] // options.length, options.length - 1)).tolist()
    batch = collate(rows, rows, Specials(0, 1, 2, 0, 2), torch.device("cpu"))
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        (loss(batch) / batch.count).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "seconds": statistics.median(seconds[1:]), "tokens": batch.count}))


def measured(options: argparse.Namespace, precision: str, checkpointing: bool, tokens: int) -> dict[str, float]:
    """One case at one size, in a process of its own."""
    command = [sys.executable, __file__, "--child", "--precision", precision, "--tokens", str(tokens)]
    command += ["--preset", options.preset, "--length", str(options.length), "--threads", str(options.threads)]
    command += ["--checkpointing"] if checkpointing else []
    # freed memory goes back to the system at once, so that the peak is what is in use
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--length", type=int, default=32, help="target and source tokens of a sentence")
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=[2048, 8192], help="target tokens of a batch, two sizes"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    few, many = options.tokens
    print(f"{options.preset}, sentences of {options.length} tokens, {VOCABULARY:,} tokens in the vocabulary\n")
    print("| precision | gradient checkpointing | KiB a target token | constant, MiB | time of a step |")
    print("|---|---|---|---|---|")
    first = 0.0
    for precision, checkpointing in CASES:
        a, b = (measured(options, precision, checkpointing, tokens) for tokens in (few, many))
        slope = (b["peak"] - a["peak"]) / (b["tokens"] - a["tokens"])
        constant = a["peak"] - slope * a["tokens"]
        first = first or b["seconds"]
        print(
            f"| {precision} | {'yes' if checkpointing else 'no'} | {slope / 1024:,.1f} | {constant / 2**20:,.0f} | "
            f"{b['seconds'] / first:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
