"""Decoding speed: sentences a second of a trained regard model beside Marian with the same weights, beam search.

    python benchmarks/translate.py runs/multi30k-en-de test2016.en

Both see the same batches, sorted by length, with the same beam, length limit, length penalty and stopping rule, so
their translations should be the same; how many are is printed. The two run in turn; the figure is the ratio of medians.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from marian import marian_like

import regard
from regard.data import inference_batches, read_lines
from regard.decoding import Average, WhenBehind, beam_search
from regard.tasks.translation import collate_sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64, help="sentences in a batch")
    parser.add_argument("--max-length", type=int, default=60)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="only the first sentences")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    translator = regard.load(options.model, device="cpu")
    model, specials = translator.model, translator.specials
    peer = marian_like(model).eval()
    sentences = list(read_lines(options.source))[: options.limit]
    encoded = translator.tokenizers.source.encode_batch(sentences)
    lengths = [len(row) + 1 for row in encoded]
    batches = [
        collate_sources([encoded[i] for i in rows], specials, torch.device("cpu"))
        for rows in inference_batches(lengths, 10**6, options.rows)
    ]
    special_ids = {specials.pad, specials.bos, specials.eos}

    def own() -> list[list[int]]:
        found: list[list[int]] = []
        with torch.inference_mode():
            for batch in batches:
                results = beam_search(
                    model,
                    model.start(batch.tokens, batch.lengths),
                    beam=options.beam,
                    bos=specials.bos,
                    eos=specials.eos,
                    max_length=options.max_length,
                    penalty=Average(1.0),
                    stopping=WhenBehind(),
                )
                found += [list(best[0].tokens) for best in results]
        return found

    def other() -> list[list[int]]:
        found: list[list[int]] = []
        with torch.inference_mode():
            for batch in batches:
                seen = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
                rows = peer.generate(
                    input_ids=batch.tokens,
                    attention_mask=seen.long(),
                    num_beams=options.beam,
                    max_new_tokens=options.max_length,
                    early_stopping=False,
                    length_penalty=1.0,
                    do_sample=False,
                )
                found += [[t for t in row.tolist() if t not in special_ids] for row in rows]
        return found

    speeds: dict[str, list[float]] = {"regard": [], "marian": []}
    outputs: dict[str, list[list[int]]] = {}
    for number in range(options.rounds + 1):
        for name, run in (("regard", own), ("marian", other)):
            started = time.perf_counter()
            outputs[name] = run()
            if number:  # the first round warms up
                speeds[name].append(len(sentences) / (time.perf_counter() - started))
    same = sum(a == b for a, b in zip(outputs["regard"], outputs["marian"], strict=True))
    ratios = [a / b for a, b in zip(speeds["regard"], speeds["marian"], strict=True)]
    print(f"beam {options.beam}, {options.rows} sentences a batch, {options.threads} threads")
    for name, values in speeds.items():
        print(f"{name:8} {statistics.median(values):8.1f} sentences/s  ({min(values):.1f} to {max(values):.1f})")
    print(f"ratio    {statistics.median(ratios):8.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"the same translation for {same} of {len(sentences)} sentences")


if __name__ == "__main__":
    main()
