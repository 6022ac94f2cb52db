"""Training speed: target tokens a second of regard's Transformer beside Hugging Face's Marian, same shape and batches.

    python benchmarks/train.py --source train.en --target train.de
    python benchmarks/train.py                    # on the example corpus, which is generated

Both take the same optimizer, gradient clipping, dropout and label smoothing. The two run in turn, a few steps each, so
that a change in the machine's speed meets both; the figure is the ratio of the medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from marian import marian_like
from torch.nn import functional as F

from regard.data import TokenBatches, read_parallel, usable
from regard.data.example import write_example
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.corpus import train_tokenizers
from regard.runs.recipe import TokenizerRecipe
from regard.runs.translator import specials_of
from regard.tasks.translation import TranslationBatch, collate, translation_loss

CLIP, SMOOTHING = 1.0, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--vocabulary", type=int, default=10000)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in a batch")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="steps of each model in a round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        if options.source is None:
            write_example(Path(folder))
            options.source, options.target = Path(folder) / "train.en", Path(folder) / "train.zh"
        pairs, _ = usable(read_parallel(options.source, options.target))
    joint = [(pair.source, pair.target) for pair in pairs]
    tokenizers = train_tokenizers(TokenizerRecipe(vocabulary=options.vocabulary), joint, Path())
    sources = tokenizers.source.encode_batch(pairs.sources)
    targets = tokenizers.target.encode_batch(pairs.targets)
    lengths = ([len(row) + 1 for row in side] for side in (sources, targets))
    order = TokenBatches(*lengths, options.tokens, seed=1).epoch(0)
    specials, size = specials_of(tokenizers), tokenizers.target.vocab_size
    settings = {"source_vocabulary": size, "target_vocabulary": size, "dropout": options.dropout}
    model = build_transformer(TransformerConfig.preset(options.preset, **settings))
    peer = marian_like(model)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True) for m in (model, peer)]
    model.train()
    peer.train()

    def batch(number: int) -> TranslationBatch:
        rows = order[number % len(order)]
        pick = [sources[i] for i in rows], [targets[i] for i in rows]
        return collate(*pick, specials, torch.device("cpu"))

    def own_step(pairs: TranslationBatch) -> None:
        loss, count = translation_loss(model, pairs, SMOOTHING)
        finish(model, optimizers[0], loss / count)

    def peer_step(pairs: TranslationBatch) -> None:
        seen = torch.arange(pairs.sources.tokens.shape[1]) < pairs.sources.lengths[:, None]
        logits = peer(
            input_ids=pairs.sources.tokens,
            attention_mask=seen.long(),
            decoder_input_ids=pairs.inputs,
            use_cache=False,
        ).logits
        targets = pairs.outputs.masked_fill(~pairs.real, -100)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=SMOOTHING)
        finish(peer, optimizers[1], loss)

    def finish(module: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()

    speeds: dict[str, list[float]] = {"regard": [], "marian": []}
    for number in range(options.rounds + 1):
        batches = [batch(number * options.steps + i) for i in range(options.steps)]
        tokens = sum(pairs.count for pairs in batches)
        for name, step in (("regard", own_step), ("marian", peer_step)):
            started = time.perf_counter()
            for pairs in batches:
                step(pairs)
            if number:  # the first round warms up
                speeds[name].append(tokens / (time.perf_counter() - started))
    ratios = [a / b for a, b in zip(speeds["regard"], speeds["marian"], strict=True)]
    print(
        f"{options.preset}, V = {size}, {options.tokens} tokens a batch, {options.threads} threads, "
        f"dropout {options.dropout}"
    )
    for name, values in speeds.items():
        print(f"{name:8} {statistics.median(values):8,.0f} target tokens/s  ({min(values):,.0f} to {max(values):,.0f})")
    print(f"ratio    {statistics.median(ratios):8.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
