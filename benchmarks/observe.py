"""What looking costs: a Llama-shaped model of Hugging Face transformers, run plainly with SDPA, recorded, recorded with
all statistics of all layers and heads, and with the weights that eager attention returns. All in one run, as ratios.

    python benchmarks/observe.py [--lengths 1024 2048 4096 8192 16384] [--rounds 5] [--device cuda --dtype bfloat16]
    python benchmarks/observe.py --parts            # single statistics beside the attention alone; crops of 32k × 32k
    python benchmarks/observe.py --lengths 8192 --picture map.png

The model is random: 8 layers, width 512, 8 heads over 2 key heads, feed-forward 1376, without the output projection.
Memory is the growth of the peak of resident memory over the loaded model, each case in a process of its own (CUDA: of
the allocator's peak). Eager attention is left out above `--eager-up-to`. Prints tables in Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from measuring import Spread, alternate, ratio
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from regard import AttentionMap, record
from regard.attention import Causal
from regard.insight.overview import draw_overview, overview
from regard.insight.reading import readings_of
from regard.recording import Recording
from regard.runs.memory import peak_memory

HEADS, GROUPS, WIDTH, LAYERS = 8, 2, 512, 8
CELLS, TOP = 256, 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_of(attention: str, options: argparse.Namespace) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=1000, hidden_size=WIDTH, intermediate_size=1376, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=GROUPS, max_position_embeddings=1 << 17,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaModel._from_config(config, attn_implementation=attention, dtype=DTYPES[options.dtype])
    return model.eval().to(options.device)


def sync(options: argparse.Namespace) -> None:
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()


def surveyed(recording: Recording) -> None:
    for table in recording.values():
        table.survey(top=TOP, cells=(CELLS, CELLS))


def cases(length: int, options: argparse.Namespace, only: str | None = None) -> dict[str, Callable[[], object]]:
    """Calls by name; `only` makes no more models than it needs."""
    ids = torch.randint(0, 1000, (1, length), generator=torch.Generator().manual_seed(1)).to(options.device)
    padded = torch.ones_like(ids)
    padded[:, :5] = 0
    sdpa = model_of("sdpa", options) if only != "eager" else None
    eager = model_of("eager", options) if only in (None, "eager") and length <= options.eager_up_to else None

    def plain(**more: torch.Tensor) -> BaseModelOutputWithPast:
        found = sdpa(ids, use_cache=False, **more)
        sync(options)
        return found

    def recorded(**more: torch.Tensor) -> Recording:
        with record(sdpa) as recording:
            plain(**more)
        return recording

    def looked_at() -> Recording:
        recording = recorded()
        surveyed(recording)
        sync(options)
        return recording

    calls: dict[str, Callable[[], object]] = {
        "sdpa": plain,
        "record": recorded,
        "record + statistics": looked_at,
        "sdpa, padding": lambda: plain(attention_mask=padded),
        "record, padding": lambda: recorded(attention_mask=padded),
    }
    if eager is not None:
        calls["eager"] = lambda: (eager(ids, use_cache=False, output_attentions=True), sync(options))
    return calls if only is None else {only: calls[only]}


def growth(name: str, length: int, options: argparse.Namespace) -> int:
    """Bytes by which the peak of a process rises through one call of a case."""
    command = [sys.executable, __file__, "--child", name, "--lengths", str(length), "--device", options.device]
    command += ["--dtype", options.dtype, "--eager-up-to", str(options.eager_up_to), "--threads", str(options.threads)]
    # what the heap of glibc can't give back between blocks that are kept isn't the case's
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} at {length}: {done.stderr[-2000:]}")
    return int(json.loads(done.stdout)["growth"])


def child(options: argparse.Namespace) -> None:
    (length,), name = options.lengths, options.child
    cuda = options.device.startswith("cuda")
    with torch.no_grad():
        call = cases(length, options, only=name)[name]
        cases(CELLS, options, only=name)[name]()  # what is loaded at first use is not the case's
        before = torch.cuda.memory_allocated() if cuda else peak_memory()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        kept = call()
        after = torch.cuda.max_memory_allocated() if cuda else peak_memory()
    print(json.dumps({"growth": after - before, "kept": kept is not None}))


def megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f}"


def whole(options: argparse.Namespace) -> None:
    names = ["sdpa", "record", "record + statistics", "sdpa, padding", "record, padding", "eager"]
    print(
        f"\n{LAYERS} layers, {options.threads} threads, {options.dtype}; ratios of time to sdpa, medians (least–most)\n"
    )
    print("| tokens | sdpa, s | " + " | ".join(names[1:]) + " |\n|" + "---|" * (len(names) + 1))
    for length in options.lengths:
        with torch.no_grad():
            times = alternate(cases(length, options), options.rounds, options.budget)
        ratios = [str(ratio(times, name, "sdpa")) if name in times else "–" for name in names[1:]]
        print(f"| {length:,} | {Spread.of(times['sdpa'])} | " + " | ".join(ratios) + " |", flush=True)
    print("\nMiB by which the peak of memory grows (q and k of all layers beside)\n")
    print("| tokens | q and k | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    for length in options.lengths:
        held = LAYERS * (HEADS + GROUPS) * WIDTH // HEADS * length * DTYPES[options.dtype].itemsize
        found = [
            megabytes(growth(name, length, options)) if name != "eager" or length <= options.eager_up_to else "–"
            for name in names
        ]
        print(f"| {length:,} | {megabytes(held)} | " + " | ".join(found) + " |", flush=True)


def parts(options: argparse.Namespace) -> None:
    dtype, width = DTYPES[options.dtype], WIDTH // HEADS
    print(f"\nstatistics of one layer beside its attention alone, {options.threads} threads, {options.dtype}\n")
    print("| tokens | sdpa, s | received + entropy | received | entropy | pool | top(8) | survey |\n|" + "---|" * 8)
    for length in options.lengths:
        torch.manual_seed(0)
        q, k, v = (
            torch.randn(1, heads, length, width, dtype=dtype, device=options.device)
            for heads in (HEADS, GROUPS, GROUPS)
        )

        def fresh(q: torch.Tensor = q, k: torch.Tensor = k) -> AttentionMap:
            return AttentionMap(q, k, mask=Causal())

        calls: Mapping[str, Callable[[], object]] = {
            "sdpa": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
            "received": lambda: fresh().received(),
            "entropy": lambda: fresh().entropy(),
            "pool": lambda: fresh().pool((CELLS, CELLS)),
            "top": lambda: fresh().top(TOP),
            "both": lambda: fresh().survey(),
            "survey": lambda: fresh().survey(top=TOP, cells=(CELLS, CELLS)),
        }
        calls = {name: (lambda call=call: (call(), sync(options))) for name, call in calls.items()}
        with torch.no_grad():
            times = alternate(calls, options.rounds, options.budget)
        ratios = [str(ratio(times, name, "sdpa")) for name in ("both", "received", "entropy", "pool", "top", "survey")]
        print(f"| {length:,} | {Spread.of(times['sdpa'])} | " + " | ".join(ratios) + " |", flush=True)
    crops(options, 32768)


def crops(options: argparse.Namespace, length: int) -> None:
    """Crops of 256 × 256 anywhere in a map of 32k × 32k, of one head."""
    torch.manual_seed(0)
    dtype, width = DTYPES[options.dtype], WIDTH // HEADS
    q, k = (torch.randn(1, heads, length, width, dtype=dtype, device=options.device) for heads in (HEADS, GROUPS))
    table = AttentionMap(q, k, mask=Causal())
    places = torch.randint(0, length - CELLS, (41, 2), generator=torch.Generator().manual_seed(2)).tolist()

    def touch(i: int, j: int, h: int) -> float:
        began = time.perf_counter()
        table[0, h, i : i + CELLS, j : j + CELLS]
        sync(options)
        return 1000 * (time.perf_counter() - began)

    with torch.no_grad():
        first = [touch(i, min(i, j), n % HEADS) for n, (i, j) in enumerate(places[:9])]
        began = time.perf_counter()
        table.lse()
        sync(options)
        whole = time.perf_counter() - began
        later = [touch(i, min(i, j), n % HEADS) for n, (i, j) in enumerate(places)]
    print(f"\ncrops of {CELLS} × {CELLS} of a map of {length:,} × {length:,}, one head of {HEADS}, milliseconds")
    print(f"before ℓ is known {Spread.of(first)}; ℓ of all heads once: {whole:.1f} s; then {Spread.of(later)}")


def picture(options: argparse.Namespace) -> None:
    """The map of a head at the last of the lengths. Ids come again after 1,000 places, and the first head's keys are
    made as its queries are, so that a token looks at those like it."""
    length, model = options.lengths[-1], model_of("sdpa", options)
    ids = torch.randint(0, 1000, (1, 1000), generator=torch.Generator().manual_seed(1)).repeat(1, length // 1000 + 1)
    attention, width = model.layers[0].self_attn, WIDTH // HEADS
    attention.q_proj.weight.data.mul_(2.5)  # fresh weights are so small that every key would be seen alike
    attention.k_proj.weight.data[:width] = attention.q_proj.weight.data[:width]
    with torch.no_grad(), record(model, "layers.0.*") as recording:
        model(ids[:, :length].to(options.device), use_cache=False)
    found = overview(readings_of(recording, recording.roles, recording.tokens), head=0)
    draw_overview(found, options.picture, f"{found.view}, {length:,} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384], help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for a length, three rounds at least")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eager-up-to", type=int, default=4096)
    parser.add_argument("--parts", action="store_true", help="single statistics, and crops")
    parser.add_argument("--picture", type=Path, help="draw a map of the longest text instead (.png, .svg, .pdf)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        child(options)
    elif options.picture is not None:
        picture(options)
    elif options.parts:
        parts(options)
    else:
        whole(options)


if __name__ == "__main__":
    main()
