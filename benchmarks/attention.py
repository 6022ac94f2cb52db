"""The operator beside torch's SDPA and beside plain broadcasting, in one run: time, and growth of memory with length.

    python benchmarks/attention.py                                    # everything, in a few minutes
    python benchmarks/attention.py --lengths 128 8192 --scores "scaled dot" additive --features --rounds 9
    python benchmarks/attention.py --only overhead additive --json figures.json

Sections (--only picks some):

overhead  one query: what `attend` adds to a bare call of SDPA, in microseconds (B1 H4 Q1 K64 D32)
additive  the additive score at B4 H1 Q256 K256 D256 beside broadcasting
forward   each score under each mask, then other features (soft-cap, sink, biases, window, documents, dropout, fewer
          queries than keys, grouped heads), at each length, without gradients
backward  the same, forward and backward, with the gradients of queries, keys, values and every parameter
memory    what a pass adds to the peak of memory, each in a process of its own, and the exponent p of its growth with
          length, ~ Lᵖ: 1 is linear, 2 is a table of queries × keys

"sdpa" is torch's scaled_dot_product_attention of the lifted queries and keys, with mask or bias as a table of Q × K
where it has no flag for it; it is missing where it can't compute the result. "plain" writes out every score by its
formula. "compiled" is regard after `compile_kernels()`, for additive scores; compiling takes up to half a minute once.
Tables of masks and of biases without parameters are made for the peers beforehand. That all give the same result is
checked at the shortest length.

The ways run in turn. A ratio is their time over regard's in the same round: "× 2.00" means that regard takes half as
long. Shown are the median and, in brackets, the range over the rounds. A score that joins
regard.attention.scores.EXAMPLES joins here.
CPU only. Ctrl-C ends a run and keeps what was measured.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from attention_cases import ADDITIVE, FEATURES, GOAL, MASKS, Case, Problem, Sizes, Way, score_cases
from measuring import Spread, alternate, exponent, peak_growth, ratio
from torch import Tensor
from torch.nn import functional as F

from regard.attention import Causal, Padding, attend
from regard.attention.additive_compiled import compile_kernels
from regard.attention.scores import EXAMPLES
from regard.errors import UnsupportedError

DTYPES = {str(x).removeprefix("torch."): x for x in (torch.float32, torch.float64, torch.bfloat16, torch.float16)}
MIB = 2**20

Record = dict[str, Any]
"""One row of the result, as --json writes it."""


def main() -> None:
    options = read_options()
    if options.probe:
        try:
            probe(options)
        except KeyboardInterrupt:
            os._exit(1)
        return
    torch.set_num_threads(options.threads)
    setting = f"torch {torch.__version__}, {options.threads} threads, {options.dtype}, "
    setting += f"B{options.batch} H{options.heads} D{options.width} unless said otherwise"
    print(setting)
    began, records = time.perf_counter(), list[Record]()
    try:
        for name in SECTIONS:
            if name in options.only:
                for record in SECTIONS[name](options):
                    records.append({"section": name} | record)
    except KeyboardInterrupt:
        print("\ninterrupted: what is above was measured in full")
    print(f"\n{time.perf_counter() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"setting": setting, "rows": records}, indent=1), "utf-8")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION", help="default: all")
    add("--lengths", nargs="+", type=int, default=[128, 512, 2048], help="keys, for the times: 128 512 2048")
    add("--memory-lengths", nargs="+", type=int, default=[1024, 4096], help="keys, for the memory: 1024 4096")
    add("--scores", nargs="*", choices=EXAMPLES, default=list(EXAMPLES), metavar="SCORE", help=", ".join(EXAMPLES))
    add("--masks", nargs="+", choices=MASKS, default=list(MASKS), metavar="MASK", help=", ".join(MASKS))
    features = list(FEATURES)
    add("--features", nargs="*", choices=features, default=features, metavar="FEATURE", help="; ".join(features))
    add("--batch", type=int, default=2)
    add("--heads", type=int, default=2)
    add("--width", type=int, default=64, help="of a head")
    add("--dtype", choices=DTYPES, default="float32")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--rounds", type=int, default=5, help="counted for each row")
    add("--seconds", type=float, default=0.5, help="after which a row begins no further round, from the third on")
    add("--patience", type=float, default=2.0, help="a call that would take more seconds than this is left out")
    add("--plain-limit", type=int, default=512, help="MiB that a table of plain broadcasting may take")
    add("--memory-limit", type=int, default=4096, help="MiB: what would take more memory is not measured")
    add("--json", type=Path, metavar="FILE", help="write every round of every row to it")
    add("--probe", action="store_true", help=argparse.SUPPRESS)  # the process that measures memory
    options = parser.parse_args()
    options.lengths, options.memory_lengths = sorted(set(options.lengths)), sorted(set(options.memory_lengths))
    return options


def sizes_of(options: argparse.Namespace, length: int) -> Sizes:
    heads = options.heads
    return Sizes(options.batch, heads, heads, length, length, options.width, DTYPES[options.dtype])


def cases_of(options: argparse.Namespace) -> dict[str, Case]:
    return score_cases(options.scores, options.masks) | {name: FEATURES[name] for name in options.features}


def forward(problem: Problem, call: Way) -> Tensor:
    with torch.no_grad():
        return call()


def backward(problem: Problem, call: Way) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(), problem.leaves, problem.upstream)


PASSES: dict[str, Callable[[Problem, Way], object]] = {"forward": forward, "forward + backward": backward}


@lru_cache(maxsize=1)
def compiler() -> bool:
    """Whether the additive kernels can be compiled; the first time they are."""
    print("(compiling the additive kernels)", flush=True)
    try:
        compile_kernels().undo()
    except UnsupportedError as error:
        print(error)
        return False
    return True


def pass_of(problem: Problem, way: str, call: Way, work: str) -> Callable[[], object]:
    """One pass, with compiled kernels for the way of that name."""

    def run() -> object:
        with compile_kernels() if way == "compiled" else nullcontext():
            return PASSES[work](problem, call)

    return run


def overhead(options: argparse.Namespace) -> Iterator[Record]:
    """One query over a short cache."""
    print("\none query, B1 H4 Q1 K64 D32: µs, and what attend adds to a bare call of SDPA")
    q, (k, v), lengths = torch.randn(1, 4, 1, 32), torch.randn(2, 1, 4, 64, 32), torch.tensor([50])
    seen = (torch.arange(64) < lengths[:, None])[:, None, None]  # (B, 1, 1, K)
    padding = Padding(lengths)
    masks = {
        "plain": (None, None),
        "causal": (Causal(), None),
        "padded": (padding, seen),
        "causal, padded": (Causal() & padding, seen),
    }
    for name, (mask, table) in masks.items():
        calls = {
            "regard": lambda mask=mask: attend(q, k, v, mask=mask),
            "sdpa": lambda table=table: F.scaled_dot_product_attention(q, k, v, attn_mask=table),
        }
        with torch.no_grad():
            seconds = alternate(calls, 5 * options.rounds, budget=2.0)
        own, bare = (1e6 * Spread.of(seconds[way]).median for way in ("regard", "sdpa"))
        more = Spread.of([1e6 * (a - b) for a, b in zip(seconds["regard"], seconds["sdpa"], strict=True)])
        print(f"{name:16} regard {own:6.1f}   sdpa {bare:6.1f}   more {more}", flush=True)
        yield {"case": name, "seconds": seconds}


def additive(options: argparse.Namespace) -> Iterator[Record]:
    """The goal for the additive score."""
    print("\nadditive, B4 H1 Q256 K256 D256, float32: ms, and how many times as long the others take")
    problem = Problem(ADDITIVE, GOAL)
    ways = problem.ways(2**40, compiler())  # broadcasting takes 256 MiB here
    check("additive", problem, ways)
    for work in PASSES:
        record = timed(options, "additive", work, problem, ways, budget=8 * options.seconds)
        for own in ("regard", "compiled"):
            if own in ways:
                show(record, own, f"{own}, {work}")
        yield record


def times(work: str) -> Callable[[argparse.Namespace], Iterator[Record]]:
    """The section that times every case at every length."""

    def section(options: argparse.Namespace) -> Iterator[Record]:
        print(f"\n{work}: ms, and how many times as long the others take")
        for name, case in cases_of(options).items():
            last: dict[str, tuple[int, float]] = {}
            for length in options.lengths:
                problem = Problem(case, sizes_of(options, length))
                ways = problem.ways(options.plain_limit * MIB, problem.compilable and compiler())
                if length == options.lengths[0]:
                    check(name, problem, ways)
                slow = [way for way, (n, s) in last.items() if s * (length / n) ** 2 > options.patience]
                if "regard" in slow:
                    print(f"{name:28} {length:6}   left out: it would take more than {options.patience:g} s")
                    break
                ways = {way: call for way, call in ways.items() if way not in slow}
                record = timed(options, name, work, problem, ways, options.seconds)
                show(record, "regard", name)
                last |= {way: (length, min(rounds)) for way, rounds in record["seconds"].items()}
                yield record

    return section


def timed(
    options: argparse.Namespace, name: str, work: str, problem: Problem, ways: dict[str, Way], budget: float
) -> Record:
    """Time the ways of a problem in turn."""
    calls = {way: pass_of(problem, way, call, work) for way, call in ways.items()}
    seconds = alternate(calls, options.rounds, budget)
    length, backend = problem.k.shape[2], problem.backend
    return {"case": name, "work": work, "length": length, "backend": backend, "seconds": seconds}


def show(record: Record, own: str, name: str) -> None:
    """Print a row: the milliseconds of one way, and the others' times beside them."""
    seconds = record["seconds"]
    line = f"{name:28} {record['length']:6} {1e3 * Spread.of(seconds[own]).median:10.2f}   {record['backend']:11}"
    for peer in ("sdpa", "plain", "compiled"):
        shown = f"{peer} × {ratio(seconds, peer, own)}" if peer in seconds and peer != own else ""
        line += f"   {shown:25}"
    print(line.rstrip(), flush=True)


def check(name: str, problem: Problem, ways: dict[str, Way]) -> None:
    """End the run if two ways disagree."""
    if problem.features.dropout:
        return
    results: dict[str, Any] = {way: pass_of(problem, way, call, "forward")() for way, call in ways.items()}
    allowed = torch.finfo(problem.q.dtype).eps ** 0.5
    for way, result in results.items():
        difference = float((result - results["regard"]).abs().max())
        if not difference <= allowed:
            sys.exit(f"{name}: {way} and regard differ by {difference:.2g}")


def memory(options: argparse.Namespace) -> Iterator[Record]:
    """What each case adds to the peak of memory, measured by a process that forks and so must not have used threads."""
    lengths = " and ".join(f"{length:,}" for length in options.memory_lengths)
    print(f"\nmemory that a pass adds, MiB at {lengths} keys, and the exponent p of its growth", flush=True)
    command = [sys.executable, "-u", __file__, *sys.argv[1:], "--probe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | PROBE) as process:
        assert process.stdout is not None
        for answer in process.stdout:
            record = json.loads(answer)
            line = f"{record['case']:24} {record['work']:18}"
            for way, growth in record["bytes"].items():
                numbers = "".join("       –" if x is None else f"{x / MIB:8.1f}" for x in growth)
                p = exponent({n: x for n, x in zip(options.memory_lengths, growth, strict=True) if x is not None})
                line += f"   {way} {numbers}  p = {'–   ' if p is None else f'{p:.2f}'}"
            print(line.rstrip(), flush=True)
            yield record
    if process.returncode:
        sys.exit("the process that measures memory failed")


PROBE = {
    "CUDA_VISIBLE_DEVICES": "",  # a GPU's threads would stand in the way of forks
    "MALLOC_MMAP_THRESHOLD_": "65536",  # glibc then gives back at once what is freed: the peak is what is held
}
"""Environment of the process that measures memory."""


def probe(options: argparse.Namespace) -> None:
    """Print a line of JSON for each case and pass."""
    torch.set_num_threads(1)
    lengths, limit = options.memory_lengths, options.memory_limit * MIB
    for name, case in cases_of(options).items():
        for work in PASSES:
            found: dict[str, list[int | None]] = {}
            for way in Problem(case, sizes_of(options, WARM)).ways(plain_limit=0):
                found[way] = []
                for length in lengths:
                    last = found[way][-1] if found[way] else 0
                    most = math.inf if last is None else last * (length / lengths[len(found[way]) - 1]) ** 2
                    found[way].append(None if most > limit else growth_of(options, case, way, work, length))
            print(json.dumps({"case": name, "work": work, "lengths": lengths, "bytes": found}))


WARM = 64
"""Length at which a pass is run once before its memory is measured: what is loaded at first use is not the call's."""


def growth_of(options: argparse.Namespace, case: Case, way: str, work: str, length: int) -> int | None:
    """Bytes that a pass adds to the peak."""

    def prepare(length: int) -> Callable[[], object]:
        problem = Problem(case, sizes_of(options, length))
        call = problem.ways(plain_limit=0)[way]
        return lambda: PASSES[work](problem, call)

    def warm_and_prepare() -> Callable[[], object]:
        torch.set_num_threads(options.threads)
        prepare(WARM)()
        return prepare(length)

    return peak_growth(warm_and_prepare)


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Record]]] = {
    "overhead": overhead,
    "additive": additive,
    "forward": times("forward"),
    "backward": times("forward + backward"),
    "memory": memory,
}


if __name__ == "__main__":
    main()
