"""From a recording and a choice to what is shown: the right attentions, the right tokens, the right numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from regard.attention import AttentionMap, Causal
from regard.errors import ArgumentError
from regard.insight import Reading, links, score_links
from regard.insight.tokens import Role, Tokens, Word, parted
from regard.recording import Recording
from regard.runs.load import load_translator
from regard.runs.looking import (
    Which,
    look_at_alignment,
    look_at_map,
    look_at_ranking,
    look_at_rollout,
    look_at_summary,
    look_at_text,
    readings,
)
from regard.runs.recordings import TranslatorSubject

SOURCE, TARGET = "today two cats play", "heute spielen zwei Katzen"
SELF, CAUSAL, CROSS = "encoder.layers.0.attention", "decoder.layers.0.attention", "decoder.layers.0.cross"


@pytest.fixture(scope="module")
def subject(tiny_model) -> TranslatorSubject:
    return TranslatorSubject(load_translator(tiny_model.directory, device="cpu"))


@pytest.fixture(scope="module")
def found(subject: TranslatorSubject) -> list[Reading]:
    return readings(subject.record([SOURCE], [TARGET]))


class Kept:
    """A store of maps that were never a model's."""

    def __init__(self, maps: dict[str, AttentionMap], tokens: dict[str, list[Tokens]]) -> None:
        self.maps, self.known = maps, tokens

    def names(self) -> Sequence[str]:
        return list(self.maps)

    def calls(self, name: str) -> list[AttentionMap]:
        return [self.maps[name]]

    def tokens(self, sequence: str) -> list[Tokens]:
        return self.known.get(sequence, [])


def stack(layers: int, length: int, heads: int = 2, tokens: Tokens | None = None) -> list[Reading]:
    """The readings of a decoder of random attention."""
    torch.manual_seed(layers + length)
    shape = (1, heads, length, 4)
    maps = {f"layers.{n}": AttentionMap(torch.randn(shape), torch.randn(shape), mask=Causal()) for n in range(layers)}
    roles = dict.fromkeys(maps, Role("causal", "text", "text"))
    return readings(Recording("Random", roles, Kept(maps, {} if tokens is None else {"text": [tokens]})))


def names(found: Sequence[Reading]) -> list[str]:
    return [one.name for one in found]


def test_which_attentions_are_meant(found: list[Reading]) -> None:
    assert names(found) == [SELF, CAUSAL, CROSS]
    assert names(Which().of(found)) == names(Which("cross").of(found)) == [CROSS]
    assert names(Which("self", "-1").of(found)) == [SELF]
    assert names(Which(layer="decoder.*").of(found)) == [CAUSAL, CROSS]
    assert names(Which("causal", "decoder.*").of(found)) == [CAUSAL]
    several = stack(3, 5)
    assert names(Which().of(several)) == names(several) and names(Which(layer="-1").of(several)) == ["layers.2"]
    assert Which().view(several) == "mean of 3 layers (causal) · mean of heads"
    assert Which(layer="1", head=1).view([several[1]]) == "layers.1 · head 1"


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (Which("cross"), "kind cross: there is no such attention here, only: causal"),
        (Which(layer="3"), r"layer 3: there are causal attentions 0 to 2; they are layers.0, layers.1, layers.2"),
        (Which(layer="-4"), "layer -4"),
        (Which(layer="encoder.*"), "layer encoder.*: no attention is called so; they are layers.0"),
        (Which(head=2), "head 2: layers.0 has heads 0 to 1"),
    ],
)
def test_what_is_not_there_is_an_error(which: Which, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        which.alike(stack(3, 5))


def test_a_pattern_over_several_sequences_needs_a_kind(found: list[Reading]) -> None:
    with pytest.raises(ArgumentError, match=r"layer decoder.\*: attentions between several sequences; choose a kind"):
        look_at_map(found, Which(layer="decoder.*"), "")


def test_the_map_is_the_mean_of_layers_and_heads(found: list[Reading]) -> None:
    several = stack(3, 6)
    dense = torch.stack([one.table.dense()[0] for one in several])  # (layers, H, Q, K)
    for which, wanted in (
        (Which(), dense.mean((0, 1))),
        (Which(layer="1"), dense[1].mean(0)),
        (Which(layer="2", head=1), dense[2, 1]),
        (Which(head=0), dense[:, 0].mean(0)),
    ):
        np.testing.assert_allclose(look_at_map(several, which, "").found.shares, wanted, atol=1e-6)
    cross = look_at_map(found, Which(), "").found
    assert (cross.queries, cross.keys) == ("target", "source")
    assert cross.row_texts[0] == "<bos>" and cross.column_texts[-1] == "<eos>"


def test_alignments_are_those_of_the_translator(subject: TranslatorSubject, found: list[Reading]) -> None:
    attention = subject.translator.attention(SOURCE, TARGET)
    for which, choice in (
        (Which(), {"layer": None, "head": None}),
        (Which(layer="0", head=1), {"layer": 0, "head": 1}),
        (Which(layer=CROSS), {"layer": 0, "head": None}),
    ):
        wanted, look = attention.alignment(**choice), look_at_alignment(found, which, "")
        assert look.shown.source_words == wanted.source_words and look.shown.target_words == wanted.target_words
        np.testing.assert_allclose(look.shown.weights, wanted.weights, atol=1e-5)
        assert links(look.shown) == links(wanted)
    assert look.grid == {f"layer 0 · head {n}": f"{CROSS} · head {n}" for n in (0, 1)} and look.across == 2
    gold = look_at_alignment(found, Which(), "", ({(0, 0)}, {(0, 0), (1, 2)})).render(80, False)
    assert "gold  0-0 1-2" in gold and "alignment error rate" in gold
    with pytest.raises(ArgumentError, match="gold: link 4-0 in a pair of 4 source and 4 target words"):
        look_at_alignment(found, Which(), "", (set(), {(4, 0)}))
    with pytest.raises(ArgumentError, match="there is no cross-attention here"):
        look_at_alignment(stack(1, 3), Which(), "")


def pair(source: Tokens, target: Tokens, heads: Sequence[int] | None = None) -> list[Reading]:
    """The readings of one layer of cross-attention."""
    name = "model.decoder.layers.3.encoder_attn"
    table = AttentionMap(torch.randn(1, 2, len(target.texts), 4), torch.randn(1, 2, len(source.texts), 4))
    roles = {name: Role("cross", "target", "source")}
    return readings(Recording("Random", roles, Kept({name: table}, {"source": [source], "target": [target]}), heads))


def words_of(*words: str) -> Tokens:
    places = tuple(Word(word, (at,)) for at, word in enumerate(words))
    return Tokens(words, (False,) * len(words), words=places)


def test_heads_of_a_recording_keep_their_numbers(tmp_path: Path) -> None:
    found = pair(words_of("a", "dog"), words_of("ein", "Hund"), heads=(1, 3))
    look = look_at_alignment(found, Which(), "")
    assert list(look.grid) == ["layer 3 · head 1", "layer 3 · head 3"]
    assert list(look.views) == [
        "model.decoder.layers.3.encoder_attn · mean of heads 1, 3",
        "model.decoder.layers.3.encoder_attn · head 1",
        "model.decoder.layers.3.encoder_attn · head 3",
    ]
    wanted = look.views["model.decoder.layers.3.encoder_attn · head 3"].weights
    np.testing.assert_array_equal(look_at_alignment(found, Which(head=3), "").shown.weights, wanted)
    look.draw_heads(tmp_path / "heads.svg")
    look_at_summary(found, Which(), "").write_page(tmp_path / "summary.html")
    assert 'alt="grids of layers and heads' in (tmp_path / "summary.html").read_text("utf-8")
    for call in (lambda: look_at_map(found, Which(head=0), ""), lambda: look_at_alignment(found, Which(head=0), "")):
        with pytest.raises(ArgumentError, match=r"head 0: .* has heads 1, 3"):
            call()


def test_links_that_count_other_words_are_refused() -> None:
    gold = ({(0, 0)}, {(0, 0)})
    joined = pair(words_of("so", "tired.", "Now"), words_of("so", "müde", "."))
    with pytest.raises(ArgumentError, match="the source has 4 words, which links count, and 3 for the tokenizer"):
        look_at_alignment(joined, Which(), "", gold)
    assert look_at_alignment(joined, Which(), "").shown.source_words == ("so", "tired.", "Now")
    shifted = pair(words_of("New York", "x"), words_of("ein", "Hund"))  # as many words, but others
    with pytest.raises(ArgumentError, match="word 0 of the source is 'a', which links count, and 'ab' for the"):
        look_at_alignment(pair(words_of("ab", "c"), words_of("x")), Which(), "", gold, ("a bc", "x"))
    with pytest.raises(ArgumentError, match="the source has 3 words"):
        look_at_alignment(shifted, Which(), "", None, ("New York x", None))


def test_the_ranking_has_the_error_rates_of_each_heads_links(subject: TranslatorSubject) -> None:
    sources = [SOURCE, "", "one dog sleeps", "two dogs play " * 30]
    targets = [TARGET, "", "ein Hund schläft", "x"]
    gold = [({(0, 0), (1, 2)}, {(0, 0), (1, 2), (3, 1)}), (set(), set()), ({(0, 0), (1, 1)},) * 2, (set(), set())]
    told: list[tuple[str, int, int | None]] = []
    look, problems = look_at_ranking(subject, sources, targets, gold, "", lambda *words: told.append(words))
    assert list(problems) == [3] and "the source has" in problems[3]
    assert look.ranking.pairs == 2 and told[-1] == ("aligning", 3, 4)
    assert len(look.ranking.heads) == 3
    for one in look.ranking.heads:
        predicted = [
            links(subject.translator.attention(sources[n], targets[n]).alignment(layer=0, head=one.head))
            for n in (0, 2)
        ]
        assert one.score == score_links(predicted, [gold[n][0] for n in (0, 2)], [gold[n][1] for n in (0, 2)])
    with pytest.raises(ArgumentError, match="no pair can be judged; pair 1: the source has"):
        look_at_ranking(subject, sources[3:], targets[3:], gold[3:], "", lambda *words: None)


def test_text_is_of_the_chosen_token_in_both_directions(found: list[Reading]) -> None:
    dense = found[2].table.dense()[0]
    word = found[2].queries.words[2]  # type: ignore[union-attr]
    assert word.text == "zwei"
    one = look_at_text(found, Which(), [word.text], ["from"], "").highlights[0]
    np.testing.assert_allclose(one.shares, dense[:, list(word.tokens)].mean((0, 1)), atol=1e-6)
    column = found[2].keys.words[1].tokens  # type: ignore[union-attr]
    both = look_at_text(found, Which(head=1), ["two", "zwei"], ["from", "to"], "").highlights
    assert [(one.chosen, one.direction) for one in both] == [("two", "looked at by"), ("zwei", "looked at")]
    np.testing.assert_allclose(both[0].shares, dense[1][:, list(column)].sum(-1), atol=1e-6)
    with pytest.raises(ArgumentError, match="there is no token 'two'"):
        look_at_text(found, Which(), ["two"], ["from"], "")
    last = look_at_text(found, Which(), [], ["from"], "")
    assert last.highlights[0].positions == (found[2].table.shape[-2] - 1,) and last.all == found


def test_padding_looks_at_nothing(subject: TranslatorSubject) -> None:
    recording = subject.record([SOURCE, "one dog"], [TARGET, "ein Hund"])
    short = readings(recording, 1)
    real = len(subject.translator.tokenizers.source.encode("one dog")) + 1
    one = look_at_text(short, Which("self"), ["dog"], ["to"], "").highlights[0]
    assert one.shares[:real].min() > 0 and len(one.shares) > real and not one.shares[real:].any()
    with pytest.raises(ArgumentError, match="element is 2"):
        readings(recording, 2)


def test_words_that_share_a_token_are_one() -> None:
    words = (Word("it", (0,)), Word("tired", (1, 2)), Word(".", (2,)), Word("So", (3,)))
    assert parted(words) == (Word("it", (0,)), Word("tired.", (1, 2)), Word("So", (3,)))


def test_rollout_and_summary_follow_the_kind(found: list[Reading]) -> None:
    whole = look_at_rollout(found, Which(), ["Katzen"], "").found
    assert set(whole.shares) == {"source", "target"} and whole.layers == (SELF, CAUSAL, CROSS)
    alone = look_at_rollout(found, Which("self"), ["cats", "two"], "").found
    assert list(alone.shares) == ["source"] and alone.sequence == "source" and len(alone.positions) > 1
    np.testing.assert_allclose(sum(x.sum(1) for x in whole.shares.values()) + whole.lost, 1.0, atol=1e-5)
    assert [one.name for one in look_at_summary(found, Which(), "").summary.layers] == [SELF, CAUSAL, CROSS]
    assert [one.name for one in look_at_summary(found, Which("cross"), "").summary.layers] == [CROSS]


def test_everything_can_be_written(found: list[Reading], tmp_path: Path) -> None:
    looks = [
        look_at_alignment(found, Which(), "a <title>"),
        look_at_text(found, Which(), ["zwei"], ["from"], "a <title>"),
        look_at_rollout(found, Which(), [], "a <title>"),
        look_at_summary(found, Which(), "a <title>"),
        look_at_map(found, Which(), "a <title>"),
    ]
    for number, look in enumerate(looks):
        look.write_page(tmp_path / f"{number}.html")
        page = (tmp_path / f"{number}.html").read_text("utf-8")
        assert "a &lt;title&gt;" in page and "<title>a <title>" not in page
        assert 'src="http' not in page and "<link" not in page
        assert all(len(line) <= 60 for line in look.render(60, False).splitlines())
        assert "\x1b" not in look.render(60, False)
