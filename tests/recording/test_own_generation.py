"""Recording this package's models while they generate: the maps of what was found are those of reading it again."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

import conftest
from conftest import TinyModel
from regard.data import read_tokenizer, train_tokenizer
from regard.decoding import DiverseBeam, Greedy, Sampling
from regard.errors import UnsupportedError
from regard.models.bahdanau import BahdanauConfig, build_bahdanau
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.luong import LuongConfig, build_luong
from regard.models.transformer import TransformerConfig, build_transformer
from regard.recording import Recording, record
from regard.runs.directory import Tokenizers
from regard.runs.load import load_translator
from regard.runs.results import Translation
from regard.runs.translator import Translator

JOINT = train_tokenizer("bpe", [text for pair in conftest.PAIRS for text in pair], 331)
SIZE = JOINT.vocab_size
MODELS = {
    "transformer": lambda: build_transformer(
        TransformerConfig(SIZE, SIZE, 2, 2, 24, 32, 4, key_heads=2, max_length=conftest.MAX_LENGTH)
    ),
    "bahdanau": lambda: build_bahdanau(BahdanauConfig(SIZE, SIZE, 16, 20, 12, 10, max_length=conftest.MAX_LENGTH)),
    "luong feeding, local-p": lambda: build_luong(
        LuongConfig(SIZE, SIZE, 2, 16, 20, attention="local-p", window=3, max_length=conftest.MAX_LENGTH)
    ),
    "luong, local-m": lambda: build_luong(
        LuongConfig(
            SIZE,
            SIZE,
            1,
            16,
            20,
            score="concat",
            attention="local-m",
            window=3,
            input_feeding=False,
            max_length=conftest.MAX_LENGTH,
        )
    ),
    "luong, global": lambda: build_luong(LuongConfig(SIZE, SIZE, 1, 16, 20, "dot", max_length=conftest.MAX_LENGTH)),
}
TEXTS = ["one dog sleeps", "", "today two cats play", "two dogs"]
SAID = [text for text in TEXTS if text]
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4},
    "diverse": {"search": DiverseBeam(4, groups=2, strength=0.5)},
    "sampling": {"search": Sampling()},
    "constrained": {"beam": 3, "constraints": [["Hund"], [], ["Katze"], []]},
    "prefixes": {"beam": 3, "prefixes": ["ein Hund", "", "zwei", "sp"]},
}


def _translator(kind: str) -> Translator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = MODELS[kind]().eval()
    return Translator(model, Tokenizers(JOINT, JOINT), conftest.DECODING)


def _forced(model: EncoderDecoder, source: str, target: Sequence[int]) -> Recording:
    """The maps of reading a source and a target, `<bos>` first."""
    ids = [*JOINT.encode(source), JOINT.eos_id]
    with torch.no_grad(), record(model) as recording:
        model(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([list(target)]))
    return recording


def _check(recording: Recording, model: EncoderDecoder, texts: Sequence[str], said: Sequence[Translation]) -> None:
    """Every map is, for each translation, that of reading it again; the tokens go along."""
    for number, (text, translation) in enumerate(zip(texts, said, strict=True)):
        cross = next(name for name, role in recording.roles.items() if role.kind == "cross")
        queries, keys = (side[number] for side in recording.tokens(cross))
        fed = [one for one, shown in zip(queries.ids, queries.texts, strict=True) if shown]
        assert fed[0] == JOINT.bos_id
        assert tuple(JOINT.pieces(fed[1:])) == translation.tokens[: len(fed) - 1]
        # the last token is fed only where `<eos>` was asked for after it
        assert len(translation.tokens) - (len(fed) - 1) in ((0,) if translation.finished else (0, 1))
        assert "".join(word.text for word in keys.words) == text.replace(" ", "")
        whole = _forced(model, text, fed)
        assert list(whole) == list(recording)
        for name, table in recording.items():
            expected, got = whole[name].dense()[0], table.dense()[number]
            rows, columns = expected.shape[-2:]
            torch.testing.assert_close(got[:, :rows, :columns], expected, atol=1e-5, rtol=1e-5)
            assert got[:, :, columns:].abs().sum() == 0
            if recording.roles[name].queries == "target":
                assert got[:, rows:].abs().sum() == 0


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("search", SEARCHES)
def test_maps_of_translations_are_those_of_reading_them_again(kind: str, search: str) -> None:
    translator = _translator(kind)
    plain = translator.translate(TEXTS, max_length=9, **SEARCHES[search])
    with record(translator, keep="generation") as recording:
        found = translator.translate(TEXTS, max_length=9, **SEARCHES[search])
    assert found == plain
    assert not translator.listeners and not {"start", "step"} & vars(translator.model).keys()
    _check(recording, translator.model, SAID, [one for one in found if one.tokens or one.text])


def test_all_of_the_best_are_there() -> None:
    translator = _translator("transformer")
    with record(translator, "decoder.*", keep="generation") as recording:
        found = translator.translate_nbest(SAID, beam=4, nbest=3, max_length=9)
    texts = [text for text, several in zip(SAID, found, strict=True) for _ in several]
    said = [one for several in found for one in several]
    assert len(said) == 9
    cross = recording["decoder.layers.1.cross"]
    assert cross.shape[0] == 9 and cross.scoring.k.shape[0] == 9
    for number, (text, translation) in enumerate(zip(texts, said, strict=True)):
        ids = [one for one, shown in zip(*_target(recording, number), strict=True) if shown]
        whole = _forced(translator.model, text, ids)
        for name in recording:
            expected = whole[name].dense()[0]
            got = recording[name].dense()[number, :, : expected.shape[-2], : expected.shape[-1]]
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert tuple(JOINT.pieces(ids[1:])) == translation.tokens[: len(ids) - 1]


def _target(recording: Recording, number: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    tokens = recording.tokens("decoder.layers.1.cross")[0][number]
    return tokens.ids, tokens.texts


def test_an_ensemble_is_recorded_by_its_first_model() -> None:
    first, second = _translator("transformer").model, _translator("bahdanau").model
    translator = Translator(first, Tokenizers(JOINT, JOINT), conftest.DECODING, [second])
    plain = translator.translate(SAID, beam=3, max_length=8)
    with record(translator, keep="generation") as recording:
        found = translator.translate(SAID, beam=3, max_length=8)
    assert found == plain
    _check(recording, first, SAID, found)


def test_translations_with_attention_leave_the_generation_as_it_was() -> None:
    translator = _translator("transformer")
    with record(translator, keep="generation") as recording:
        found = translator.translate(SAID, beam=3, max_length=8, attention=True)
    _check(recording, translator.model, SAID, found)


def test_the_last_batch_is_kept() -> None:
    translator = _translator("transformer")
    with record(translator, keep="generation") as recording:
        translator.translate(SAID, beam=2, max_length=8)
        found = translator.translate(SAID[:1], beam=3, max_length=6)
    assert recording["decoder.layers.0.cross"].shape[0] == 1
    _check(recording, translator.model, SAID[:1], found)


def test_steps_by_hand_give_the_hypotheses_of_the_last() -> None:
    model = _translator("transformer").model
    source, lengths = torch.tensor([[5, 6, 7, 2], [9, 4, 2, 0]]), torch.tensor([4, 3])
    fed = torch.tensor([[1, 8, 9], [1, 7, 5]])
    with torch.no_grad():
        plain = _by_hand(model, source, lengths, fed)
        with record(model, keep="generation") as recording:
            recorded = _by_hand(model, source, lengths, fed)
    assert torch.equal(plain, recorded)
    with torch.no_grad(), record(model) as whole:
        model(source, lengths, fed)
    for name, table in recording.items():
        torch.testing.assert_close(table.dense(), whole[name].dense(), atol=1e-5, rtol=1e-5)
    assert [tokens.ids for tokens in recording.tokens("decoder.layers.0.attention")[0]] == [(1, 8, 9), (1, 7, 5)]
    source_tokens = recording.tokens("encoder.layers.0.attention")[0]
    assert [tokens.special for tokens in source_tokens] == [(False,) * 4, (False, False, False, True)]


def _by_hand(model: EncoderDecoder, source: Tensor, lengths: Tensor, fed: Tensor) -> Tensor:
    state = model.start(source, lengths)
    log_probs = []
    for column in fed.unbind(1):
        scores, state = model.step(column, state)
        log_probs.append(scores)
    return torch.stack(log_probs)


def test_states_taken_in_turns_are_an_error_when_a_map_is_asked_for() -> None:
    model = _translator("transformer").model
    with torch.no_grad(), record(model, keep="generation") as recording:
        state = model.start(torch.tensor([[5, 2]]), torch.tensor([2]))
        _, first = model.step(torch.tensor([1]), state)
        model.step(torch.tensor([6]), first)
        model.step(torch.tensor([7]), first)
    with pytest.raises(UnsupportedError, match="a step doesn't continue the one before it"):
        recording["decoder.layers.0.attention"]


def test_a_state_from_before_the_recording_is_stepped_unseen() -> None:
    model = _translator("bahdanau").model
    with torch.no_grad():
        state = model.start(torch.tensor([[5, 2]]), torch.tensor([2]))
        with record(model, keep="generation"):
            model.step(torch.tensor([1]), state)
        with record(model) as recording:
            model(torch.tensor([[7, 2]]), torch.tensor([2]), torch.tensor([[1]]))
            model.step(torch.tensor([1]), state)
        assert all(recording.tokens(name) == ([], []) for name in recording)  # not known of what


def test_everything_is_put_back_when_a_search_fails() -> None:
    translator = _translator("transformer")
    with pytest.raises(ZeroDivisionError), record(translator, keep="generation"):
        translator.listeners.append(lambda sentences, ids: 1 // 0)
        translator.translate(SAID, search=Greedy(), max_length=5)
    assert len(translator.listeners) == 1 and not {"start", "step"} & vars(translator.model).keys()


def test_everything_else_is_put_back_when_something_cannot_be() -> None:
    translator = _translator("transformer")
    with pytest.raises(ValueError, match="not in list"), record(translator, keep="generation"):
        translator.listeners.clear()
    hooks = [hook for part in translator.model.modules() for hook in (part._forward_hooks, part._forward_pre_hooks)]
    assert not any(hooks) and not {"start", "step"} & vars(translator.model).keys()


def test_a_copy_of_the_model_is_another_model() -> None:
    model = _translator("transformer").model
    source, lengths, fed = torch.tensor([[5, 6, 7, 2]]), torch.tensor([4]), torch.tensor([[1, 8, 9]])
    with torch.no_grad(), record(model, keep="generation") as recording:
        plain = _by_hand(model, source, lengths, fed)
        other = copy.deepcopy(model)
        before = recording["encoder.layers.0.attention"].dense()
        assert torch.equal(_by_hand(other, source, lengths, fed), plain)
        other(source + 1, lengths, fed)
    torch.testing.assert_close(recording["encoder.layers.0.attention"].dense(), before, rtol=0, atol=0)
    with torch.no_grad():
        assert torch.equal(_by_hand(other, source, lengths, fed), plain)


def test_a_pass_after_steps_by_hand_leaves_them_as_they_were() -> None:
    model = _translator("transformer").model
    source, lengths, fed = torch.tensor([[5, 6, 7, 2]]), torch.tensor([4]), torch.tensor([[1, 8, 9]])
    with torch.no_grad(), record(model, keep="generation") as recording:
        _by_hand(model, source, lengths, fed)
        model(source + 1, lengths, fed)
    with torch.no_grad(), record(model) as whole:
        model(source, lengths, fed)
    assert list(recording) == list(whole)
    for name, table in recording.items():
        torch.testing.assert_close(table.dense(), whole[name].dense(), atol=1e-5, rtol=1e-5)
    assert recording.tokens("decoder.layers.0.cross")[1][0].ids == (5, 6, 7, 2)


def test_two_recordings_at_once() -> None:
    translator = _translator("luong, global")
    with record(translator, keep="generation") as outer, record(translator, keep="generation") as inner:
        found = translator.translate(SAID, beam=3, max_length=6)
    for recording in (outer, inner):
        _check(recording, translator.model, SAID, found)
    assert not {"start", "step"} & vars(translator.model).keys()


def test_steps_with_keep_are_recorded_one_by_one() -> None:
    translator = _translator("transformer")
    with record(translator, "decoder.layers.0.attention", keep=50) as recording:
        translator.translate(SAID[:1], beam=2, max_length=5)
    calls = recording.calls("decoder.layers.0.attention")
    assert [call.shape[-2:] for call in calls] == [(1, n + 1) for n in range(len(calls))]
    assert recording.tokens("decoder.layers.0.attention")[1] == []


# what a translator says of token ids


def test_tokens_of_a_sequence(tiny_model: TinyModel) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    side = translator.tokenizers.target
    ids = side.encode("ein Hund schläft")
    row = [side.bos_id, *ids, side.eos_id, side.pad_id, ids[0]]
    tokens = translator.tokens_of("target", row, [*[True] * (len(ids) + 2), False, False])
    assert tokens.ids == tuple(row) and len(tokens.texts) == len(row)
    assert tokens.texts[0] == "<bos>" and tokens.texts[len(ids) + 1] == "<eos>" and tokens.texts[-2] == "<pad>"
    assert tokens.special == (True, *[False] * len(ids), True, True, True)
    assert [word.text for word in tokens.words] == ["ein", "Hund", "schläft"]
    assert [i for word in tokens.words for i in word.tokens] == list(range(1, len(ids) + 1))
    assert "".join(tokens.texts[i] for i in tokens.words[1].tokens).endswith("Hund")


@pytest.mark.parametrize("start", [JOINT.bos_id, JOINT.pad_id])
def test_targets_of_a_batch_end_in_padding(start: int) -> None:
    translator, pad = _translator("transformer"), JOINT.pad_id
    ids = {"end": JOINT.eos_id, "pad": pad, "source_pad": pad, "source_end": JOINT.eos_id, "source_begin": []}
    translator = Translator(translator.model, translator.tokenizers, translator.decoding, frame={"start": start, **ids})
    sources, lengths = torch.tensor([[5, 6, 2], [5, 2, 0], [5, 2, 0]]), torch.tensor([3, 2, 2])
    fed = torch.tensor([[start, 7, pad, 8], [start, 7, pad, pad], [start, pad, pad, pad]])
    for keep in (1, "generation"):
        with torch.no_grad(), record(translator, keep=keep) as recording:
            translator.model(sources, lengths, fed)
        target, source = recording.tokens("decoder.layers.1.cross")
        assert [one.padding for one in target] == [(), (False, False, True, True), (False, True, True, True)]
        assert [one.padding for one in source] == [(), (False, False, True), (False, False, True)]
        assert all(one.special[0] for one in target)


def test_what_is_said_is_no_padding() -> None:
    translator = _translator("transformer")
    with torch.no_grad(), record(translator, keep="generation") as recording:
        state = translator.model.start(torch.tensor([[5, 2]]), torch.tensor([2]))
        for token in (JOINT.bos_id, 7, JOINT.pad_id):
            _, state = translator.model.step(torch.tensor([token]), state)
        translator.listeners[-1]([0, 0], [[JOINT.bos_id, 7, JOINT.pad_id], [JOINT.bos_id, 7]])
    known = recording.tokens("decoder.layers.0.cross")[0]
    assert [one.padding for one in known] == [(), (False, False, True)]


def test_words_of_bytes_and_what_is_unknown(tiny_model: TinyModel) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    ids = translator.tokenizers.source.encode("你好 one")
    tokens = translator.tokens_of("source", ids, [True] * len(ids))
    assert [word.text for word in tokens.words] == ["你", "好", "one"]
    assert len(tokens.words[0].tokens) == 3 and not any(tokens.special)


def test_special_tokens_of_others_are_special(tmp_path: Path) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "dog": 5, "##s": 6}
    inner = Inner(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    inner.add_special_tokens([name for name in vocabulary if name.startswith("[")])
    inner.save(str(tmp_path / "tokenizer.json"))
    given = read_tokenizer(tmp_path / "tokenizer.json")
    translator = _translator("bahdanau")
    translator.tokenizers = Tokenizers(given, given)
    ids = [2, 5, 6, 4, 5, 1, 3]
    tokens = translator.tokens_of("source", ids, [True] * len(ids))
    assert tokens.special == (True, False, False, True, False, False, True)
    assert [word.text for word in tokens.words] == ["dogs", "dog", "\ufffd"]
    assert tokens.words[0].tokens == (1, 2)
