"""A language model as an ONNX graph says what it says here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from interop.exported_models import SOURCES, letters, next_log_probs, run_readme, shaken
from interop.onnx_translators import session
from regard.interop.onnx import write_generator
from regard.interop.onnx.graphs import NEXT
from regard.models.gpt import GPT, GPTConfig, build_gpt
from regard.runs.language_model import LanguageModel

JOINT = letters(SOURCES)
SETTINGS = {"vocabulary": JOINT.vocab_size, "layers": 1, "width": 16, "feedforward": 24, "heads": 4, "max_length": 48}
LLAMA = {"norm": "rms", "positions": "rotary", "feedforward_kind": "gated", "bias": "none", "key_heads": 2}


def language_model(**settings: object) -> GPT:
    torch.manual_seed(2)
    model = build_gpt(GPTConfig(**(SETTINGS | settings))).eval()
    shaken(model, 0.3)
    return model


@pytest.mark.parametrize("settings", [{}, LLAMA], ids=["as GPT-2", "as Llama"])
def test_prompts_of_different_lengths_and_what_follows(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model(**settings)
    write_generator(tmp_path, model, JOINT, 1, (2,))
    step = session(tmp_path / "step.onnx")
    names = [place.name for place in step.get_outputs()]
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for lengths in ([5, 3, 1], [1], [2, 9]):
        texts = [torch.randint(0, JOINT.vocab_size, (n,), generator=generator).tolist() for n in lengths]
        first = np.array([max(lengths) - n for n in lengths])
        tokens = np.array([[0] * before + ids for before, ids in zip(first, texts, strict=True)])
        shape = (len(texts), model.layers[0].attention.key_heads, 0, model.layers[0].attention.head_width)
        past = {place.name: np.zeros(shape, np.float32) for place in step.get_inputs()[2:]}
        for _ in range(4):
            found = dict(zip(names, step.run(None, {"tokens": tokens, "first": first, **past}), strict=True))
            log_probs = found.pop("log_probs")
            expected = torch.stack([next_log_probs(model, ids) for ids in texts])
            worst = max(worst, float(np.abs(log_probs - expected.numpy()).max()))
            past = {name.removeprefix(NEXT): tensor for name, tensor in found.items()}
            tokens = torch.randint(0, JOINT.vocab_size, (len(texts), 1), generator=generator).numpy()
            texts = [[*ids, int(one)] for ids, [one] in zip(texts, tokens, strict=True)]
    assert worst < 1e-5
    prompts = SOURCES[:4]
    example = '"Once upon a time", "The"'
    found = run_readme(tmp_path, monkeypatch, **{example: ", ".join(map(repr, prompts))})
    left = model.config.max_length - max(len(JOINT.encode_text(text)) + 1 for text in prompts)
    ours = LanguageModel(model, JOINT, 1, (2,)).generate(prompts, max_tokens=left, beam=1)
    said = [eval(line).replace("<unk>", "\ufffd").replace("<bos>", "").replace("<pad>", "") for line in found]
    assert said == [one.text for one in ours]
