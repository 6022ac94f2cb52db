"""Translation with exported graphs, as their README says it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from regard.interop.onnx.graphs import NEXT
from regard.models.encoder_decoder import EncoderDecoder

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
