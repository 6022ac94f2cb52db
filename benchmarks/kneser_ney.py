"""Perplexity of an interpolated Kneser–Ney 5-gram on the tokens of a trained language model, to hold the model against.

    python benchmarks/kneser_ney.py runs/wikitext2-gpt --train train.txt.gz --valid valid.txt [--json FILE]
    python benchmarks/kneser_ney.py --check        # the model against a slow direct one, and its sums

Only the tokenizer of the model's directory is read; the n-grams are counted in the training text. Perplexity is a
token's (comparable with that model's alone), bits are a byte's (comparable with anything on the same text). As in
`regard evaluate`, the first token of a text isn't judged where the model has nothing to begin with. For what a run's
log says of the first part of the text, give `training.validation_tokens` of its recipe as --limit.
"""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ngrams import FALLBACK, Ids, KneserNey

from regard.data.tokenizers import Tokenizer
from regard.runs.directory import CONFIG, read_config
from regard.runs.text_input import read_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", nargs="?", type=Path, help="directory of a trained language model, or a tokenizer's file")
    add("--train", type=Path, nargs="+", help="text, perhaps gzipped")
    add("--valid", type=Path, help="text to judge on")
    add("--order", type=int, default=5)
    add("--limit", type=int, metavar="N", help="judge the first N tokens only")
    add("--json", type=Path, metavar="FILE", help="write the figures to it")
    add("--check", action="store_true", help="only see that the model is right")
    options = parser.parse_args()
    if options.check:
        check()
        return
    if not (options.model and options.train and options.valid):
        parser.error("a model's directory, --train and --valid are needed")
    figures = judge(options.model, options.train, options.valid, options.order, options.limit)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), "utf-8")


def judge(model: Path, train: Sequence[Path], valid: Path, order: int, limit: int | None) -> dict[str, object]:
    """Count, judge and print; the same figures are returned."""
    tokenizer = Tokenizer.load(model / "tokenizer.json" if model.is_dir() else model)
    stream = np.concatenate([encoded(tokenizer, read_text(path)) for path in train])
    tokens = encoded(tokenizer, read_text(valid))[:limit]
    first = 0 if begins(model) else 1
    judged, size = len(tokens) - first, len(tokenizer.text_of(tokens.tolist()[first:]))
    print(f"{len(stream):,} tokens to count, {judged:,} to judge ({size:,} bytes), V = {tokenizer.vocab_size:,}")
    figures: dict[str, object] = {"order": order, "tokens": judged, "bytes": size, "train_tokens": len(stream)}
    for name, modified in (("modified", True), ("plain", False)):
        started = time.perf_counter()
        counted = KneserNey(stream, tokenizer.vocab_size, order, modified)
        total = -float(counted.log_probabilities(tokens)[first:].sum())
        figures[name] = {
            "loss": total / judged,
            "perplexity": math.exp(total / judged),
            "bits_per_byte": total / math.log(2) / size,
            "discounts": [table.discounts for table in counted.tables],
        }
        print(
            f"Kneser–Ney {order}-gram, {name:8}: perplexity {math.exp(total / judged):.2f} a token, "
            f"{total / math.log(2) / size:.4f} bits a byte ({time.perf_counter() - started:.1f} s)"
        )
    return figures


def begins(model: Path) -> bool:
    """Whether a model has something that its first token follows; of a tokenizer alone, and an unfinished run, yes."""
    if not (model / CONFIG).exists():
        return True
    return read_config(model).content["generation"]["begin"] is not None


def encoded(tokenizer: Tokenizer, text: str) -> Ids:
    """The tokens of a running text."""
    return np.array(tokenizer.encode_text(text), np.int64)


def check() -> None:
    """Hold the model against one written with dictionaries, and add up its distributions; raises if one is wrong."""
    generator = np.random.default_rng(1)
    cases = [(1, True, 7), (2, True, 5), (3, False, 5), (4, True, 3), (5, True, 3), (5, False, 11)]
    for order, modified, size in cases:
        # a chain, so that some n-grams are frequent and many are never seen
        steps = generator.integers(0, 2, 400) * generator.integers(0, size, 400)
        stream = np.cumsum(steps) % size
        model = KneserNey(stream, size + 1, order, modified)  # a token that is never seen
        direct = Direct(stream.tolist(), size + 1, order, [table.discounts for table in model.tables])
        judged = generator.integers(0, size + 1, 200)
        expected = np.log([direct.probability([size + 1] * (order - 1) + judged[:i].tolist(), w)
                           for i, w in enumerate(judged.tolist())])  # fmt: skip
        np.testing.assert_allclose(model.log_probabilities(judged), expected, rtol=1e-12)
        for length in range(order + 2):
            for _ in range(20):
                context = generator.integers(0, size + 1, length)
                sums = model.distribution(context)
                np.testing.assert_allclose([sums.sum(), sums.min() > 0], 1.0, rtol=1e-12)
                one = direct.probability([size + 1] * (order - 1) + context.tolist(), 2)
                np.testing.assert_allclose(sums[2], one, rtol=1e-12)
        estimated = sum(table.discounts[0] != FALLBACK[0] for table in model.tables)
        print(f"order {order}, {'three discounts' if modified else 'one discount'}: right "
              f"(estimated in {estimated} of {order} orders)")  # fmt: skip


class Direct:
    """The same model written as the papers write it: slow, with dictionaries of tuples."""

    def __init__(
        self, stream: list[int], vocabulary: int, order: int, discounts: Sequence[tuple[float, float, float]]
    ) -> None:
        self.vocabulary, self.order, self.discounts = vocabulary, order, discounts
        tokens = [vocabulary] * (order - 1) + stream
        self.counts: dict[int, Counter[tuple[int, ...]]] = {
            order: Counter(tuple(tokens[i - order : i]) for i in range(order, len(tokens) + 1))
        }
        for k in range(order - 1, 0, -1):
            longer = {tuple(tokens[i - k - 1 : i]) for i in range(k + 1, len(tokens) + 1)}
            self.counts[k] = Counter(gram[1:] for gram in longer if gram[-1] != vocabulary)

    def probability(self, context: Sequence[int], word: int, order: int | None = None) -> float:
        k = self.order if order is None else order
        if k == 0:
            return 1 / self.vocabulary
        history = tuple(context[len(context) - k + 1 :]) if k > 1 else ()
        lower = self.probability(context, word, k - 1)
        following = [count for gram, count in self.counts[k].items() if gram[:-1] == history]
        if not following:
            return lower
        taken = [self.discounts[k - 1][min(count, 3) - 1] for count in following]
        count = self.counts[k][(*history, word)]
        own = count - self.discounts[k - 1][min(count, 3) - 1] if count else 0.0
        return (own + sum(taken) * lower) / sum(following)


if __name__ == "__main__":
    main()
