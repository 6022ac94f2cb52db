"""A Transformer in CTranslate2 says what it says here, with the same scores."""

import importlib
import sys
from dataclasses import asdict
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from torch import nn

import regard
from conftest import TinyModel
from interop.exported_models import SOURCES, TARGETS, letters, log_probs_of, run_readme, shaken
from regard.decoding import Average, LengthPenalty, NoPenalty, WhenFull
from regard.errors import ArgumentError, MissingExtraError, UnsupportedError
from regard.interop.ctranslate2 import PRECISIONS, write_translator
from regard.interop.exported import sentence_sides
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator, specials_of

JOINT = letters(SOURCES + TARGETS)
SIZE = JOINT.vocab_size
DECODING = {"beam": 5, "penalty": "average", "alpha": 1.0, "max_ratio": 2.0}
MARIAN = {
    "activation": "silu",
    "positions": "tensor2tensor",
    "embedding_scale": False,
    "embedding_norm": True,
    "output_bias": True,
}
VARIANTS: dict[str, dict[str, object]] = {
    "as in the paper": {},
    "pre-norm": {"norm": "pre", "shared": "target"},
    "learned positions": {"positions": "learned", "shared": "none", "activation": "gelu"},
    "grouped heads": {"key_heads": 2, "activation": "gelu_tanh"},
    "one key head": {"key_heads": 1, "norm": "pre"},
    "of others": MARIAN,
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)


def translator(tokenizers: Tokenizers | None = None, **settings: object) -> Translator:
    both = Tokenizers(JOINT, JOINT) if tokenizers is None else tokenizers
    config = TransformerConfig(
        both.source.vocab_size, both.target.vocab_size, 2, 3, 16, 24, 4, dropout=0.0, max_length=50, **settings
    )
    torch.manual_seed(3)
    model = build_transformer(config).eval()
    shaken(model, 0.05)
    if settings.get("output_bias"):
        model.output.bias.data[2] += 2.0  # so that some sentences end
    return Translator(model, both, DECODING)


def written(ours: Translator, directory: Path, precision: str = "float32") -> tuple[str, ...]:
    both = ours.tokenizers
    return write_translator(directory, ours.model, both.source, both.target, ours.specials, ours.decoding, precision)


def opened(ours: Translator, directory: Path, precision: str = "float32") -> ctranslate2.Translator:
    written(ours, directory, precision)
    return ctranslate2.Translator(str(directory), intra_threads=1)


def printed(text: str) -> str:
    """A text as the library writes it, to which special tokens are ordinary ones."""
    return text.replace("<pad>", "").replace("<bos>", "").replace("<unk>", "\ufffd")


def sources(ours: Translator) -> list[list[str]]:
    side = sentence_sides(ours.tokenizers.source, ours.tokenizers.target)[0]
    names = side.tokens(ours.model.config.source_vocabulary)
    return [[names[one] for one in ours.tokenizers.source.encode(text)] for text in SOURCES]


@variants
def test_the_same_translations_with_the_same_scores(settings: dict[str, object], tmp_path: Path) -> None:
    ours = translator(**settings)
    theirs = opened(ours, tmp_path)
    ended = 0
    rules: list[tuple[LengthPenalty, float]] = [(NoPenalty(), 0.0), (Average(0.6), 0.6), (Average(1.0), 1.0)]
    for beam, (penalty, alpha) in [(1, rules[0])] + [(5, rule) for rule in rules]:
        mine = ours.translate_nbest(SOURCES, nbest=beam, beam=beam, penalty=penalty, stopping=WhenFull(), max_length=30)
        found = theirs.translate_batch(
            sources(ours),
            beam_size=beam,
            num_hypotheses=beam,
            length_penalty=alpha,
            max_decoding_length=30,
            min_decoding_length=0,
            return_scores=True,
        )
        names = sentence_sides(JOINT, JOINT)[1].tokens(SIZE)
        for a, b in zip(mine, found, strict=True):
            shown = [tuple(JOINT.pieces([names.index(token) for token in one])) for one in b.hypotheses]
            assert shown == [one.tokens for one in a]
            np.testing.assert_allclose(b.scores, [one.score for one in a], rtol=1e-5, atol=1e-5)
            ended += sum(one.finished for one in a)
    assert settings != MARIAN or ended, "no random model ended: the test sees less than it should"


@variants
def test_the_same_log_probabilities_of_given_translations(settings: dict[str, object], tmp_path: Path) -> None:
    ours = translator(**settings)
    names = sentence_sides(JOINT, JOINT)[1].tokens(SIZE)
    targets = [JOINT.encode(text) for text in (*TARGETS, "Hund")]
    found = opened(ours, tmp_path).score_batch(sources(ours), [[names[one] for one in ids] for ids in targets])
    for text, ids, scores in zip(SOURCES, targets, found, strict=True):
        expected = log_probs_of(ours.model, [*JOINT.encode(text), 2], ids)
        np.testing.assert_allclose(scores.log_probs, expected, atol=1e-5)


def test_two_tokenizers_that_end_sentences_alike_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = letters(SOURCES), letters(TARGETS)
    ours = translator(Tokenizers(source, target), shared="none")
    ours.decoding = DECODING | {"stopping": "full"}
    expected = ours.translate(["two dogs"], stopping=WhenFull())[0].text
    other = frame(specials_of(ours.tokenizers), source_begin=[5], source_end=4)
    for name, around in (("alike", None), ("other", other)):
        (tmp_path / name).mkdir()
        ours = Translator(ours.model, ours.tokenizers, ours.decoding, frame=around)
        opened(ours, tmp_path / name)
        found = [printed(x) for x in run_readme(tmp_path / name, monkeypatch, **{"Two dogs play.": "two dogs"})]
        assert found == [ours.translate(["two dogs"], stopping=WhenFull())[0].text]
    assert found != [expected]  # what stands around a source was fed


def frame(specials: object, **changes: object) -> dict[str, object]:
    known = asdict(specials)  # type: ignore[call-overload]
    names = {"bos": "start", "eos": "end", "source_eos": "source_end"}
    return {names.get(name, name): value for name, value in known.items()} | changes


@pytest.mark.parametrize(
    "defaults",
    [
        {"forbidden": True, "renormalize": True},
        {"forced_first": 7},
        {"max_ratio": 0.5, "min_length": 25, "beam": 1},
        {"max_length": 9, "min_length": 9, "forced_first": 7, "beam": 1},
        {"max_length": 9, "forced_last": 2, "beam": 1},
        {"no_repeat_ngram": 2, "forced_first": 7, "max_length": 12, "renormalize": True},
        {"penalty": "gnmt", "beam": 1},
    ],
    ids=lambda x: ", ".join(x),
)
def test_the_readme_keeps_to_the_defaults_of_a_model_of_others(
    defaults: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = translator(**MARIAN)
    ours.model.output.bias.data[2] -= 3.0  # so that there is something to forbid
    free = ours.translate(["two dogs play"], stopping=WhenFull())[0].tokens
    if "forbidden" in defaults:  # the first, and another one after the second
        said = [token for piece in free for token in JOINT.encode(piece)]
        defaults = defaults | {"forbidden": [said[:1], said[2:4]]}
    ours.decoding = DECODING | {"stopping": "full"} | defaults
    assert written(ours, tmp_path) == ()
    expected = ours.translate(["two dogs play"])[0]
    assert free != expected.tokens or "penalty" in defaults
    [found] = run_readme(tmp_path, monkeypatch, **{"Two dogs play.": "two dogs play"})
    assert printed(found) == expected.text
    assert "finds what `regard translate` finds" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [("penalty", "gnmt"), ("stopping", "certain"), ("forced_last", 2), ("forbidden", [[5]]), ("min_length", 2)],
)
def test_what_is_not_taken_over_is_named(key: str, value: object, tmp_path: Path) -> None:
    ours = translator()
    ours.decoding = DECODING | {"stopping": "full", key: value}
    [note] = written(ours, tmp_path)
    assert note.startswith(f"decoding.{key}")
    assert f"- {note}\n" in (tmp_path / "README.md").read_text()


def test_a_trained_model_and_its_readme(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = regard.load(tiny_model.directory)
    theirs = opened(ours, tmp_path)
    joint = ours.tokenizers.source
    for beam in (1, 5):
        rows = [joint.pieces(joint.encode(text)) for text in tiny_model.sources]
        found = theirs.translate_batch(rows, beam_size=beam, min_decoding_length=0, return_scores=True)
        mine = ours.translate(tiny_model.sources, beam=beam, stopping=WhenFull())
        assert [tuple(one.hypotheses[0]) for one in found] == [one.tokens for one in mine]
        scores = [one.log_prob / len(one.token_log_probs) for one in mine]
        np.testing.assert_allclose([one.scores[0] for one in found], scores, atol=1e-5)
    for source, target in tiny_model.pairs[:2]:
        assert run_readme(tmp_path, monkeypatch, **{"Two dogs play.": f"  {source} "}) == [target]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions(precision: str, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = regard.load(tiny_model.directory)
    before = {name: weight.clone() for name, weight in ours.model.state_dict().items()}
    opened(ours, tmp_path, precision)
    assert all(torch.equal(weight, before[name]) for name, weight in ours.model.state_dict().items())
    for source, target in tiny_model.pairs[:3]:
        assert run_readme(tmp_path, monkeypatch, **{"Two dogs play.": source}) == [target]
    size = (tmp_path / "model.bin").stat().st_size / sum(x.numel() for x in ours.model.parameters())
    least, most = {"float32": (4, 5.3), "float16": (2, 2.7), "int8": (1, 2.2)}[precision]
    assert least < size < most


def test_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = translator()
    with pytest.raises(ArgumentError, match="precision is 'int4': expected float32, float16, int8"):
        opened(ours, tmp_path, "int4")
    next(module for module in ours.model.modules() if isinstance(module, nn.LayerNorm)).eps = 1e-3
    with pytest.raises(UnsupportedError, match="one ε for all norms"):
        opened(ours, tmp_path)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(MissingExtraError, match=r"needs ctranslate2.specs: pip install 'regard\[ctranslate2\]'"):
        opened(ours, tmp_path)

    def damaged(name: str) -> None:
        raise ImportError("libctranslate2.so: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", damaged)
    with pytest.raises(MissingExtraError, match=r"installed and can't be loaded: libctranslate2\.so"):
        opened(ours, tmp_path)
