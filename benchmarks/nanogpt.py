"""Training speed beside nanoGPT: its own train.py and `regard train`, the same sizes, data and threads, run in turn.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/nanogpt.py nanoGPT --text input.txt               # tokens a second, five rounds
    python benchmarks/nanogpt.py nanoGPT --text input.txt --whole       # 2,000 iterations each: validation loss too

The sizes are those of `recipes/shakespeare-char.toml` and of nanoGPT's README for a CPU: characters, 4 layers, 4 heads,
width 128, block 64, batch 12, no dropout. Nothing of nanoGPT is changed: a copy of it gets the text, its prepare.py
makes the data (it imports `requests` only to download; an empty module stands in), and the command of its training is
printed.

In a round each trains a few hundred iterations in a process of its own. Times are those that each writes itself about
its whole iteration (nanoGPT's lines `time …ms`; regard's log.jsonl): reading a batch, forward, backward, clipping,
step, logging. Validations are in neither. The first iterations of a process don't count. The figure is the ratio, round
by round. On a CPU nanoGPT computes in float32; the recipe multiplies in bfloat16 (--precision float32: as nanoGPT).
nanoGPT's validation losses are means of 200 random batches, regard's are of the whole validation part.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import Spread

RECIPE = Path(__file__).parents[1] / "recipes" / "shakespeare-char.toml"
BATCH, BLOCK = 12, 64
WARM = 20  # iterations of a process that don't count
MANY = 10**9


@dataclass(frozen=True)
class Trained:
    """One training in a process of its own."""

    seconds: list[float]
    """Of each iteration that counts."""
    whole: float
    """Seconds of the process, starting and validating included."""
    peak: int
    """Bytes of resident memory at most."""
    losses: dict[int, float]
    """Validation loss by iteration."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return BATCH * BLOCK * len(self.seconds) / sum(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("nanogpt", type=Path, help="a checkout of nanoGPT")
    add("--text", type=Path, required=True, help="tiny Shakespeare's input.txt, or another text")
    add("--threads", type=int, default=2)
    add("--iterations", type=int, default=300, help="of each in a round")
    add("--rounds", type=int, default=5)
    add("--compile", action="store_true", help="let nanoGPT compile its model (its README doesn't on a CPU)")
    add(
        "--precision", choices=("float32", "bfloat16"), help="of regard's products; else the recipe's. nanoGPT: float32"
    )
    add("--whole", action="store_true", help="one round of 2,000 iterations, with validation losses")
    add("--json", type=Path, metavar="FILE", help="write every figure to it")
    options = parser.parse_args()
    iterations, rounds = (2000, 1) if options.whole else (options.iterations, options.rounds)
    if iterations <= WARM:
        parser.error(f"--iterations: {WARM} don't count, so more are needed")
    with tempfile.TemporaryDirectory(prefix="nanogpt-") as folder:
        peer = prepare(options.nanogpt, options.text, Path(folder) / "nanoGPT")
        command = peer_command(iterations, options.whole, options.compile)
        print(f"nanoGPT:  {shlex.join(['python', *command[1:]])}", flush=True)
        results: dict[str, list[Trained]] = {"regard": [], "nanogpt": []}
        for number in range(rounds):
            out = Path(folder) / f"regard-{number}"
            own = own_command(options.text, out, iterations, options.threads, options.precision)
            if not number:
                print(f"regard:   {shlex.join(['python', *own[1:]])}", flush=True)
            results["regard"].append(own_result(own, out, options.threads))
            results["nanogpt"].append(peer_result(command, peer, options.threads))
            print(f"round {number + 1}: {results['regard'][-1].speed:,.0f} and {results['nanogpt'][-1].speed:,.0f}")
    tell(results, options.whole)
    if options.json:
        content = {name: [asdict(each) for each in runs] for name, runs in results.items()}
        options.json.write_text(json.dumps(content, indent=1), "utf-8")


def prepare(checkout: Path, text: Path, copy: Path) -> Path:
    """Copy what is needed of nanoGPT and let it make its data."""
    copy.mkdir()
    for name in ("model.py", "train.py", "configurator.py"):
        shutil.copy(checkout / name, copy)
    for name in ("config", "data/shakespeare_char"):
        shutil.copytree(checkout / name, copy / name)
    data = copy / "data" / "shakespeare_char"
    shutil.copy(text, data / "input.txt")
    (data / "requests.py").touch()
    subprocess.run([sys.executable, str(data / "prepare.py")], check=True, stdout=subprocess.DEVNULL)
    return copy


def peer_command(iterations: int, whole: bool, compiled: bool) -> list[str]:
    """nanoGPT's command of its README for a CPU; `whole` with losses of 200 batches every 250 iterations."""
    sizes = f"--block_size={BLOCK} --batch_size={BATCH} --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0"
    loop = f"--max_iters={iterations} --lr_decay_iters=2000 --log_interval=1"
    judging = "--eval_iters=200" if whole else f"--eval_iters=1 --eval_interval={MANY}"
    general = f"--device=cpu --compile={compiled}"
    words = f"train.py config/train_shakespeare_char.py {general} {judging} {sizes} {loop}".split()
    return [sys.executable, *words]


def own_command(text: Path, out: Path, iterations: int, threads: int, precision: str | None) -> list[str]:
    """The command that trains the same with regard; losses are of the whole validation part."""
    settings = [f"training.steps={iterations}", f"training.threads={threads}"]
    settings += [] if precision is None else [f"training.precision={precision}"]
    if iterations < 2000:  # one validation at the end, as short as may be
        settings += [f"training.validate_every={MANY}", "training.validation_tokens=768", "training.average=1"]
    pairs = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "regard", "train", str(RECIPE), "--data", str(text.parent), "--quiet"]
    return [*command, "--set", f'data.text="{text.name}"', *pairs, "--out", str(out)]


def own_result(command: Sequence[str], out: Path, threads: int) -> Trained:
    _, whole, peak = run(command, Path.cwd(), threads)
    events = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    seconds = [event["seconds"] for event in events if event["event"] == "step"]
    losses = {event["step"]: event["metrics"]["loss"] for event in events if event["event"] == "validation"}
    return Trained(seconds[WARM:], whole, peak, losses)


def peer_result(command: Sequence[str], folder: Path, threads: int) -> Trained:
    output, whole, peak = run(command, folder, threads)
    judged = {int(step): float(loss) for step, loss in re.findall(r"^step (\d+): .* val loss ([\d.]+)", output, re.M)}
    # the line of an iteration with a validation counts its time too
    times = {int(i): float(ms) / 1000 for i, ms in re.findall(r"^iter (\d+): .* time ([\d.]+)ms", output, re.M)}
    return Trained([s for i, s in times.items() if i >= WARM and i not in judged], whole, peak, judged)


def run(command: Sequence[str], folder: Path, threads: int) -> tuple[str, float, int]:
    """Output, seconds and peak of memory of a process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    return text, seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def tell(results: dict[str, list[Trained]], whole: bool) -> None:
    """The figures, as a table in Markdown."""
    print("\n| | tokens a second | process, s | peak, MiB |" + (" validation loss, last (best) |" if whole else ""))
    print("|---|---|---|---|" + ("---|" if whole else ""))
    for name, runs in results.items():
        row = f"| {name} | {Spread.of([each.speed for each in runs])} | {Spread.of([each.whole for each in runs])} "
        row += f"| {Spread.of([each.peak / 2**20 for each in runs])} |"
        if whole:
            losses = runs[0].losses
            row += f" {losses[max(losses)]:.4f} ({min(losses.values()):.4f}) |"
        print(row)
    ratios = [a.speed / b.speed for a, b in zip(results["regard"], results["nanogpt"], strict=True)]
    print(f"\nratio of tokens a second: {Spread.of(ratios)}")


if __name__ == "__main__":
    main()
