"""A language model in CTranslate2 says what it says here."""

import json
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch

from interop.exported_models import SOURCES, letters, next_log_probs, run_readme, shaken
from regard.data import train_tokenizer
from regard.errors import UnsupportedError
from regard.interop.ctranslate2 import write_generator
from regard.interop.exported import text_side
from regard.models.gpt import GPT, GPTConfig, build_gpt
from regard.runs.language_model import LanguageModel

JOINT = letters(SOURCES)
LLAMA = {
    "norm": "rms",
    "positions": "rotary",
    "activation": "silu",
    "feedforward_kind": "gated",
    "bias": "none",
    "shared": False,
    "key_heads": 2,
    "norm_epsilon": 1e-3,
}
VARIANTS: dict[str, dict[str, object]] = {
    "as GPT-2": {"activation": "gelu_tanh"},
    "as Llama": LLAMA,
    "wider heads, another base": LLAMA | {"head_width": 6, "rotary_base": 500.0, "key_heads": None},
    "sinusoids, no biases": {"positions": "sinusoidal", "bias": "none"},
    "as Qwen2": LLAMA | {"bias": "queries_keys_values", "key_heads": 1},
    "gated with biases": {"feedforward_kind": "gated", "shared": False},
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)


def language_model(**settings: object) -> GPT:
    config = GPTConfig(
        vocabulary=JOINT.vocab_size,
        **({"layers": 2, "width": 16, "feedforward": 24, "heads": 4, "max_length": 64} | settings),
    )
    torch.manual_seed(5)
    model = build_gpt(config).eval()
    shaken(model, 0.3)
    return model


def opened(model: GPT, directory: Path, precision: str = "float32") -> ctranslate2.Generator:
    write_generator(directory, model, JOINT, 1, (2,), precision)
    return ctranslate2.Generator(str(directory), intra_threads=1)


@variants
def test_the_same_log_probabilities_and_continuations(settings: dict[str, object], tmp_path: Path) -> None:
    model = language_model(**settings)
    theirs = opened(model, tmp_path)
    names = text_side(JOINT).tokens(JOINT.vocab_size)
    texts = [[1, *JOINT.encode_text(text)] for text in SOURCES]
    rows = [[names[one] for one in ids] for ids in texts]
    for ids, scores in zip(texts, theirs.score_batch(rows), strict=True):
        expected = [next_log_probs(model, ids[:i])[ids[i]] for i in range(1, len(ids))]
        np.testing.assert_allclose(scores.log_probs, expected, atol=2e-5)
    ours = LanguageModel(model, JOINT, 1, (2,)).generate(SOURCES, max_tokens=12, beam=1)
    for row, mine in zip(rows, ours, strict=True):  # of different lengths, one by one: see the README
        found = theirs.generate_batch([row], max_length=12, include_prompt_in_result=False, end_token=["<eos>"])[0]
        said = [one for one in found.sequences_ids[0] if one != 2]
        assert JOINT.pieces(said) == [token for token in mine.tokens if token != "<eos>"]


def test_a_readme_goes_on_from_running_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Two dogs play. Two cats sleep.\n" * 20
    tokenizer = train_tokenizer("bpe", [text], 300, strip=False)
    config = GPTConfig(vocabulary=tokenizer.vocab_size, layers=1, width=16, feedforward=32, heads=2, max_length=24)
    torch.manual_seed(0)
    model = build_gpt(config)
    ids = torch.tensor(tokenizer.encode_text(text))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        row = ids[: 24 * 4].view(4, 24)
        loss = torch.nn.functional.cross_entropy(model.output(model(row[:, :-1])).flatten(0, 1), row[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ours = LanguageModel(model.eval(), tokenizer, None, ())
    write_generator(tmp_path, model, tokenizer, None, ())
    left = config.max_length - len(tokenizer.encode_text("Two dogs"))
    expected = ours.generate(["Two dogs"], max_tokens=left, beam=1)[0].text
    assert "\n".join(run_readme(tmp_path, monkeypatch, **{"Once upon a time": "Two dogs"})) == expected
    assert expected.startswith(" play. Two cats")
    for prompt in ("", "Two dogs play. " * 9):
        with pytest.raises(AssertionError, match="a prompt has 1 to 23 tokens, not"):
            run_readme(tmp_path, monkeypatch, **{"Once upon a time": prompt})


def test_specials_that_the_model_lacks_are_no_words(tmp_path: Path) -> None:
    config = GPTConfig(vocabulary=2, layers=1, width=16, feedforward=24, heads=4, max_length=8)  # pad and bos
    write_generator(tmp_path, build_gpt(config), JOINT, None, ())
    said = json.loads((tmp_path / "config.json").read_text())
    assert (said["unk_token"], said["eos_token"], said["bos_token"]) == ("<pad>", "<pad>", "<bos>")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    model = language_model(**LLAMA)
    shaken(model, 0.3, seed=2)
    theirs = opened(model, tmp_path, precision)
    names = text_side(JOINT).tokens(JOINT.vocab_size)
    ids = [1, *JOINT.encode_text(SOURCES[0])]
    expected = [float(next_log_probs(model, ids[:i])[ids[i]]) for i in range(1, len(ids))]
    found = theirs.score_batch([[names[one] for one in ids]])[0].log_probs
    errors = np.abs(np.array(found) - expected)
    assert 0 < errors.max() < {"float16": 0.02, "int8": 0.5}[precision]


def test_norms_that_differ_are_refused(tmp_path: Path) -> None:
    model = language_model()
    model.norm.eps = 0.5
    with pytest.raises(UnsupportedError, match="export to onnx"):
        opened(model, tmp_path)


def test_longer_wavelengths_are_refused(tmp_path: Path) -> None:
    model = language_model(**LLAMA, rotary_factor=8.0, rotary_original=16)
    with pytest.raises(UnsupportedError, match=r"rotary_factor = 8\.0 is not written for CTranslate2: export to onnx"):
        write_generator(tmp_path, model, JOINT, 1, (2,))
