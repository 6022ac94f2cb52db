"""Counting what a model does right in a probe, and one small model that learns one."""

from pathlib import Path

import pytest
import torch

from regard.data import train_tokenizer
from regard.data.probes import ProbeFiles, ProbeSettings, write_probe
from regard.errors import DataError
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.compare.probes import EXTRA, judge_probe, wilson
from regard.runs.directory import Tokenizers
from regard.runs.results import Translation
from regard.runs.translator import Translator, specials_of
from regard.tasks.translation import collate, translation_loss

DECODING = {"beam": 4, "penalty": "average", "alpha": 1.0, "max_ratio": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    settings = ProbeSettings(
        "reverse", shortest=2, longest=4, vocabulary=6, strings=400, valid=3, test_each=10, lengths=(2, 4, 8)
    )
    write_probe(folder, settings)
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def untrained(folder: Path, max_length: int = 64) -> Translator:
    joint = train_tokenizer("word", lines(ProbeFiles.of(folder).train_source))
    torch.manual_seed(1)
    config = TransformerConfig(joint.vocab_size, joint.vocab_size, 1, 1, 32, 64, 2, dropout=0.0, max_length=max_length)
    return Translator(build_transformer(config).eval(), Tokenizers(joint, joint), DECODING)


def saying(translator: Translator, monkeypatch: pytest.MonkeyPatch, say) -> list[tuple[int, int, int]]:
    """Replaces the search; gives what it was asked: strings, beam, most tokens."""
    asked = []

    def translate(texts, *, beam, max_length):
        asked.append((len(texts), beam, max_length))
        return [Translation(say(text), 0.0, 0.0, (), (), True) for text in texts]

    monkeypatch.setattr(translator, "translate", translate)
    return asked


def test_strings_and_symbols_are_counted_by_length(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator, wrong = untrained(folder), set(lines(folder / "test.source")[10:13])

    def say(text: str) -> str:
        words = text.split()[::-1]
        if text in wrong:
            words[1] = "nothing"  # one of four symbols of three strings of length 4
        if len(words) == 8:
            words = [*words[:6], "one", "more", "and", "more"]  # six of eight right
        return " ".join(words)

    asked = saying(translator, monkeypatch, say)
    found = judge_probe(translator, folder, beam=2)
    assert asked == [(10, 2, 2 + EXTRA), (10, 2, 4 + EXTRA), (10, 2, 8 + EXTRA)]
    assert [(one.length, one.strings) for one in found] == [(2, 10), (4, 10), (8, 10)]
    assert [one.exact for one in found] == [100.0, 70.0, 0.0]
    assert [one.tokens for one in found] == pytest.approx([100.0, 100 * 37 / 40, 75.0])
    for one in found:
        assert one.exact_low <= one.exact <= one.exact_high
        assert (one.exact_low / 100, one.exact_high / 100) == pytest.approx(wilson(round(one.exact / 10), 10))


@pytest.mark.parametrize(("say", "tokens"), [(lambda text: "", 0.0), (lambda text: f"{text} {text}", None)])
def test_too_little_and_too_much_is_not_exact(folder: Path, monkeypatch: pytest.MonkeyPatch, say, tokens) -> None:
    translator = untrained(folder)
    saying(translator, monkeypatch, say)
    for one in judge_probe(translator, folder):
        assert one.exact == 0.0
        if tokens is not None:
            assert one.tokens == tokens

    saying(translator, monkeypatch, lambda text: " ".join([*text.split()[::-1], "more"]))
    assert [(one.exact, one.tokens) for one in judge_probe(translator, folder)] == [(0.0, 100.0)] * 3


def test_strings_beyond_the_model_s_positions_count_as_unsaid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = untrained(folder, max_length=8)  # one is for <eos>
    asked = saying(translator, monkeypatch, lambda text: " ".join(text.split()[::-1]))
    found = judge_probe(translator, folder)
    assert asked == [(10, 1, 7), (10, 1, 7), (0, 1, 7)]
    assert [(one.strings, one.exact, one.tokens) for one in found] == [(10, 100.0, 100.0)] * 2 + [(10, 0.0, 0.0)]


def test_a_small_model_learns_to_reverse_strings_it_never_saw(folder: Path) -> None:
    translator = untrained(folder)
    before = judge_probe(translator, folder)
    assert all(one.exact < 30 for one in before)
    joint, files = translator.tokenizers.source, ProbeFiles.of(folder)
    sides = [joint.encode_batch(lines(path)) for path in (files.train_source, files.train_target)]
    batch = collate(*sides, specials_of(translator.tokenizers), torch.device("cpu"))
    model = translator.model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss, count = translation_loss(model, batch, 0.0)
        (loss / count).backward()
        optimizer.step()
    model.eval()
    after = {one.length: one for one in judge_probe(translator, folder)}
    assert after[4].exact >= 80 and after[4].tokens >= 90
    assert after[8].exact < 50  # longer than any it was trained on


def test_files_out_of_step_are_named(folder: Path, tmp_path: Path) -> None:
    translator = untrained(folder)
    copy = ProbeFiles.of(tmp_path)
    for path in ("test.source", "test.target", "test.length"):
        (tmp_path / path).write_bytes((folder / path).read_bytes())
    copy.test_length.write_text("2\n" * 29, "utf-8")
    with pytest.raises(DataError, match=r"test.source has 30, test.target 30 and test.length 29 lines"):
        judge_probe(translator, tmp_path)
    copy.test_length.write_text("2\n" * 29 + "x\n", "utf-8")
    with pytest.raises(DataError, match=r"test.length, line 30: 'x' is no length"):
        judge_probe(translator, tmp_path)
    copy.test_target.unlink()
    with pytest.raises(DataError, match=r"test\.target"):
        judge_probe(translator, tmp_path)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # from Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, Wilson without correction
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_share(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(trials - hits, trials) == pytest.approx((1 - high, 1 - low), abs=5e-5)
