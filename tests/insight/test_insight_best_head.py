"""Word alignments of every head against `pool_to_words`, and the ranking of a head that was made to align."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from rich.cells import cell_len

from regard.attention import AttentionMap
from regard.errors import ArgumentError
from regard.insight import (
    Reading,
    pool_to_words,
    rank_heads,
    readings_of,
    render_head_ranking,
    score_links,
    word_alignments,
)
from regard.insight.tokens import Role, Tokens, Word


def tokens_of(lengths: Sequence[int], first: int) -> Tokens:
    """Words of so many tokens each, after `first` special ones and before one more."""
    words, at = [], first
    for number, length in enumerate(lengths):
        words.append(Word(f"w{number}", tuple(range(at, at + length))))
        at += length
    special = [place < first or place == at for place in range(at + 1)]
    return Tokens(tuple(map(str, range(at + 1))), tuple(special), words=tuple(words))


SOURCE, TARGET = tokens_of((1, 2, 1, 3), 0), tokens_of((2, 1, 1), 1)
ROLE = Role("cross", "target", "source")


def pair(maps: dict[str, AttentionMap], source: Tokens = SOURCE, target: Tokens = TARGET) -> list[Reading]:
    return readings_of(maps, dict.fromkeys(maps, ROLE), lambda name: ([target], [source]))


def random_map(seed: int, source: Tokens = SOURCE, target: Tokens = TARGET) -> AttentionMap:
    generator = torch.Generator().manual_seed(seed)
    return AttentionMap(
        torch.randn(1, 3, len(target.texts), 4, generator=generator),
        torch.randn(1, 3, len(source.texts), 4, generator=generator),
    )


@pytest.mark.parametrize("predicting", [False, True])
def test_the_same_as_pooling_the_dense_table(predicting: bool) -> None:
    readings = pair({"a": random_map(0), "b": random_map(1)})
    found = word_alignments(readings, predicting=predicting)
    assert list(found) == [(name, head) for name in "ab" for head in (0, 1, 2, None)]
    rows = [[at - predicting for at in word.tokens] for word in TARGET.words]
    for (name, head), alignment in found.items():
        table = readings[name == "b"].table.dense()[0]
        table = table.mean(0) if head is None else table[head]
        expected = pool_to_words(table, [word.tokens for word in SOURCE.words], rows)
        np.testing.assert_allclose(alignment.weights, expected, atol=1e-6)
        assert alignment.target_words == ("w0", "w1", "w2")


def test_nothing_predicts_the_first_token() -> None:
    target = tokens_of((2, 1), 0)
    found = word_alignments(pair({"a": random_map(0, target=target)}, target=target), predicting=True)
    table = found["a", 0]
    single = pool_to_words(random_map(0, target=target).dense()[0, 0], [w.tokens for w in SOURCE.words], [[0], [1]])
    np.testing.assert_allclose(table.weights, [single[0] / 2, single[1]], atol=1e-6)


def aligning(gold: Sequence[int], shift: int) -> AttentionMap:
    """Three heads of which the second looks, at each target token, where its word's partner begins."""
    q, k = torch.randn(1, 3, len(TARGET.texts), 9), torch.randn(1, 3, len(SOURCE.texts), 9)
    k[0, 1] = torch.eye(9)[: len(SOURCE.texts)]
    for j, i in enumerate(gold):
        for at in TARGET.words[j].tokens:
            q[0, 1, at - shift] = 30 * k[0, 1, SOURCE.words[i].tokens[0]]
    return AttentionMap(q, k)


@pytest.mark.parametrize("predicting", [False, True])
def test_the_head_that_aligns_is_found(predicting: bool) -> None:
    torch.manual_seed(0)
    golds = ([2, 0, 3], [1, 3, 0], [3, 1, 2])
    pairs = [pair({"a": random_map(n), "b": aligning(gold, int(predicting))}) for n, gold in enumerate(golds)]
    sure = [{(i, j) for j, i in enumerate(gold)} for gold in golds]
    ranking = rank_heads(iter(pairs), sure, predicting=predicting)
    assert (ranking.best.layer, ranking.best.head) == ("b", 1) and ranking.best.score.error_rate == 0
    assert ranking.pairs == 3 and ranking.layers == ("a", "b") and len(ranking.heads) == 8
    rates = [one.score.error_rate for one in ranking.heads]
    assert rates == sorted(rates) and rates[-1] > 0.4
    assert rank_heads(pairs, sure, predicting=not predicting).best.score.error_rate > 0
    data = json.loads(json.dumps(ranking.to_json()))
    assert data["heads"][0] == {
        "layer": "b", "head": 1, "precision": 1.0, "recall": 1.0, "error_rate": 0.0, "predicted": 9, "sure": 9
    }  # fmt: skip


def test_counts_are_of_the_corpus_and_possible_links_are_not_wrong() -> None:
    from regard.insight import links

    pairs = [pair({"a": random_map(n)}) for n in range(4)]
    sure, possible = [{(0, 0)}] * 4, [{(0, 0), (1, 1), (2, 2), (3, 2)}] * 4
    ranking = rank_heads(pairs, sure, possible, rule="threshold", threshold=0.3)
    for one in ranking.heads:
        found = [links(word_alignments(p)[one.layer, one.head], "threshold", 0.3) for p in pairs]
        assert one.score == score_links(found, sure, possible)


def test_terminal() -> None:
    ranking = rank_heads([pair({"a.long.name.of.a.layer": random_map(0)})], [{(0, 0)}])
    for width in (20, 60):
        text = render_head_ranking(ranking, width, False, most=2)
        assert all(cell_len(line) <= width for line in text.splitlines())
        assert text.splitlines()[-1] == "… and 2 more" and f"{100 * ranking.best.score.error_rate:.1f}" in text
    assert "\x1b[1m" in render_head_ranking(ranking, 60, True)


def test_errors() -> None:
    one = pair({"a": random_map(0)})
    wordless = Tokens(TARGET.texts, TARGET.special)
    for message, call in (
        ("words at the rows of 'a'", lambda: word_alignments(pair({"a": random_map(0)}, target=wordless))),
        ("pairs has 1 sentence pairs, sure has gold links of 2", lambda: rank_heads([one], [set(), set()])),
        ("more pairs than that", lambda: rank_heads([one, one], [set()])),
        ("pairs has 0", lambda: rank_heads([], [])),
        (r"pairs\[0\] has link 4-0, outside 4 source and 3 target", lambda: rank_heads([one], [{(4, 0)}])),
        (r"pairs\[0\] has link 0-3", lambda: rank_heads([one], [set()], [{(0, 3)}])),
        ("other attentions", lambda: rank_heads([one, pair({"b": random_map(0)})], [set(), set()])),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
