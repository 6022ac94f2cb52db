"""Translation with exported graphs, as their README says it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from interop.exported_models import SOURCES, TARGETS, letters, run_readme, shaken
from regard.interop.onnx import write_translator
from regard.interop.onnx.graphs import NEXT
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from regard.models.families import build_model
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator

SOURCE_SIDE, TARGET_SIDE = letters(SOURCES), letters(TARGETS)
SIZES = SOURCE_SIDE.vocab_size, TARGET_SIDE.vocab_size
EXAMPLE = '"Two dogs play.", "A man reads the newspaper in the park."'
"""What stands in a README."""
LENGTHS = ([7, 2, 5, 1], [1], [3, 9])
"""Of sources: with padding, one alone, and longer than any that the graphs were made with."""


class Runner:
    """Both graphs of a directory, with ONNX Runtime."""

    def __init__(self, directory: Path) -> None:
        content = json.loads((directory / "config.json").read_text())
        self.constant, self.changing = content["state"]["sentence"], content["state"]["hypothesis"]
        self.outputs = {part: content[part]["outputs"] for part in ("encoder", "step")}
        self.encoder, self.steps = (session(directory / content[part]["file"]) for part in self.outputs)

    def start(self, source: Tensor, lengths: Tensor) -> dict[str, Any]:
        given = {"source": source.numpy(), "lengths": lengths.numpy()}
        state = dict(zip(self.outputs["encoder"], self.encoder.run(None, given), strict=True))
        if "lengths" in self.constant:
            state["lengths"] = given["lengths"]
        return state

    def step(self, tokens: Tensor, position: int, state: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        given = {"tokens": tokens.numpy(), "position": np.array(position), **state}
        log_probs, *after = self.steps.run(None, given)
        names = [name.removeprefix(NEXT) for name in self.outputs["step"][1:]]
        return log_probs, state | dict(zip(names, after, strict=True))


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def compare(model: EncoderDecoder, theirs: Runner, width: int, lengths: Sequence[int], steps: int = 7) -> float:
    """The largest difference of log-probabilities, step by step, for `width` random hypotheses of random sources; after
    some steps the hypotheses are others."""
    generator = torch.Generator().manual_seed(len(lengths) + width)
    count, longest = len(lengths), max(lengths)

    def draw(*shape: int) -> Tensor:
        return torch.randint(2, model.config.source_vocabulary, shape, generator=generator)

    source, sizes = draw(count, longest), torch.tensor(lengths)
    worst = 0.0
    with torch.no_grad():
        rows = torch.arange(count).repeat_interleave(width)
        ours, state = model.start(source, sizes).select_hypotheses(rows), theirs.start(source, sizes)
        state |= {name: state[name].repeat(width, 1) for name in theirs.changing}
        for position in range(steps):
            tokens = draw(count, width)
            mine, ours = model.step(tokens.flatten(), ours)
            found, state = theirs.step(tokens, position, state)
            assert found.shape == (count, width, model.config.target_vocabulary)
            worst = max(worst, float(np.abs(found.reshape(mine.shape) - mine.numpy()).max()))
            if position == 3:  # as a beam does: all go on from the last one of their sentence
                ours = ours.select_hypotheses(torch.arange(count).repeat_interleave(width) * width + width - 1)
                last = [width - 1] * width
                state |= {name: state[name][:, last] for name in theirs.changing}
    return worst


def check(config: EncoderDecoderConfig, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model says the same in its graphs, step by step and in the README's program."""
    torch.manual_seed(1)
    model = build_model(config).eval()
    shaken(model, 0.5)
    # pad, bos and unk: the library doesn't leave them out of a text
    decoding = {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0, "forbidden": [[0], [1], [3]]}
    ours = Translator(model, Tokenizers(SOURCE_SIDE, TARGET_SIDE), decoding)
    write_translator(directory, model, SOURCE_SIDE, TARGET_SIDE, ours.specials, decoding)
    theirs = Runner(directory)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(model, theirs, width, lengths) < 1e-5
    texts = SOURCES[:4]
    expected = [one.text for one in ours.translate(texts)]
    assert run_readme(directory, monkeypatch, **{EXAMPLE: ", ".join(map(repr, texts))}) == expected
    assert len(set(expected)) > 1
