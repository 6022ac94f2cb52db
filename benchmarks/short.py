"""Short sequences: the Transformer's forward and backward pass with the backend `short` beside torch's fused operator.

python benchmarks/short.py
"""

import argparse
import statistics
import time

import torch

from regard.attention import dispatch
from regard.attention.backends.reference import REFERENCE
from regard.attention.backends.sdpa import SDPA_BACKEND
from regard.attention.backends.short import SHORT
from regard.models.transformer import TransformerConfig, build_transformer

CHOICES = {"short": (SHORT, REFERENCE), "sdpa": (SDPA_BACKEND, REFERENCE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in a batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = build_transformer(TransformerConfig.preset(options.preset, source_vocabulary=1000, target_vocabulary=1000))
    for length in (8, 12, 16, 20, 24):
        rows = options.tokens // length
        source, target = torch.randint(4, 1000, (2, rows, length))
        lengths = torch.full((rows,), length)
        lengths[::3] -= 2
        upstream = torch.randn(rows, length, model.config.width)
        times: dict[str, list[float]] = {name: [] for name in CHOICES}
        for number in range(options.rounds + 1):
            for name, backends in CHOICES.items():
                dispatch.BACKENDS = backends
                started = time.perf_counter()
                model(source, lengths, target).backward(upstream)
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(
            f"{length:3} tokens: short {1000 * medians['short']:6.1f} ms, sdpa {1000 * medians['sdpa']:6.1f} ms, "
            f"ratio {medians['sdpa'] / medians['short']:.2f}"
        )


if __name__ == "__main__":
    main()
