"""Recurrent layers on the CPU, forward and backward, in one run: sequences read in pieces (what `Recurrent` does),
torch's packed sequences, torch's without regard to padding, and `StackedCells`, position by position.

python benchmarks/recurrent.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from regard.layers import Recurrent, StackedCells, zero_state
from regard.layers.recurrent import Packed, Pieces, Whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="sequences")
    parser.add_argument("--spread", type=int, default=4, help="how much shorter than the longest a sequence may be")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"milliseconds, medians of {options.rounds}, {options.threads} threads; ratios to pieces")
    for cell in ("gru", "lstm"):
        for width in (256, 512):
            for length in (15, 30):
                lengths = torch.randint(length - options.spread, length + 1, (options.batch,))
                lengths = lengths.sort(descending=True).values
                lengths[0] = length
                times = measured(cases(cell, width, lengths), options.rounds)
                rest = [f"{name} {ms:6.1f} ({ms / times['pieces']:.2f})" for name, ms in times.items()]
                print(f"{cell:4} width {width}, {length} positions: {', '.join(rest)}", flush=True)


def cases(cell: str, width: int, lengths: Tensor) -> dict[str, Callable[[], None]]:
    layer = Recurrent(cell, width // 2, width)
    network = layer.layers[0][0]
    cells = StackedCells(cell, width // 2, width, width)
    batch, length = len(lengths), int(lengths.max())
    x = torch.randn(batch, length, width // 2, requires_grad=True)
    state = [torch.zeros(1, batch, width) for _ in zero_state(cell, x, 1, width)]
    readers = {"pieces": Pieces(lengths.tolist()), "packed": Packed(lengths.tolist()), "padded": Whole()}

    def stepwise() -> None:
        after, y, outputs = zero_state(cell, x, 1, width), x.new_zeros(batch, width), []
        for inputs in cells.inputs(x.transpose(0, 1)).unbind(0):
            y, after = cells.step(inputs, y, after)
            outputs.append(y)
        torch.stack(outputs).sum().backward()

    def whole(reader: Pieces | Packed | Whole) -> Callable[[], None]:
        return lambda: reader.read(network, x, state)[0].sum().backward()

    return {**{name: whole(reader) for name, reader in readers.items()}, "cells": stepwise}


def measured(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if number:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
