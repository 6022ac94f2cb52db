"""Bytes in, text out: in any pieces, with any stop strings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.decoding import Beam, Greedy, Limits, Prompted, Ruled, Sampling, StopAt, TextStream, text_of_bytes
from regard.decoding.text_stream import LONE_BYTE, REPLACEMENT
from regard.errors import ArgumentError

ANY, EOS = 5, 11
pieces_of = st.lists(st.one_of(st.binary(max_size=3), st.text("aä€😀b", max_size=2).map(str.encode)), max_size=12)
stops_of = st.lists(st.text("aä€b", min_size=1, max_size=4), max_size=3)


@settings(max_examples=300)
@given(pieces_of, stops_of)
def test_any_pieces_give_the_same_text(pieces, stops):
    data = b"".join(pieces)
    stream = TextStream(stops)
    parts = [stream.feed(piece) for piece in pieces]
    parts.append(stream.finish())
    text, stopped = text_of_bytes(data, stops)
    assert ("".join(parts), stream.stopped) == (text, stopped)
    byte_by_byte = TextStream(stops)
    assert "".join(byte_by_byte.feed(bytes([one])) for one in data) + byte_by_byte.finish() == text
    whole = LONE_BYTE.sub(REPLACEMENT, data.decode("utf-8", "surrogateescape"))
    if not stopped:
        assert text == whole and not any(stop.encode() in data for stop in stops)
    else:  # what is left doesn't hold a stop string, and what follows is one
        assert not any(stop.encode() in data[: len(text.encode())] for stop in stops if REPLACEMENT not in text)
        assert any(stop.encode() in data for stop in stops)


@given(st.text("aä€😀b", max_size=20), st.lists(st.integers(1, 4), max_size=40))
def test_a_character_comes_out_as_soon_as_it_is_whole(text, sizes):
    stream, data, out = TextStream(), text.encode(), ""
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        out += stream.feed(piece)
        fed = text.encode()[: len(text.encode()) - len(data)]
        assert out == fed.decode(errors="ignore")
    assert out + stream.finish() == text


def test_the_first_complete_stop_string_cuts():
    assert text_of_bytes(b"one two three", ["three", "two"]) == ("one ", True)
    assert text_of_bytes(b"xabc", ["abcd", "b", "ab"]) == ("x", True)  # both end with the same byte: the longest
    assert text_of_bytes(b"xabc", ["abc", "b"]) == ("xa", True)  # b is complete first
    stream = TextStream(["\n\n"])
    assert [stream.feed(piece) for piece in (b"a", b"\n", b"b\n", b"\nc", b"d")] == ["a", "", "\nb", "", ""]
    assert stream.stopped and stream.finish() == ""


def test_what_could_have_become_a_stop_string_comes_in_the_end():
    stream = TextStream(["END"])
    assert stream.feed(b"the EN") == "the "
    assert stream.finish() == "EN"


@pytest.mark.parametrize("stops", ["END", [""], ["a", 3], ["\ud800"]])
def test_what_is_no_stop_string_is_refused(stops):
    with pytest.raises(ArgumentError, match="stop"):
        TextStream(stops)


SURFACES = [b"a", b"b", b"ab", b"ba", b"", b"b\xc3", b"\xa4", b"c", b"abc", b"ca", b"\n"]


@pytest.mark.parametrize("search", [Greedy(), Beam(3, 3), Sampling(samples=4)], ids=["greedy", "beam", "sampling"])
@pytest.mark.parametrize("stops", [["bab"], ["bä", "cab"], ["aa", "bb", "cc"], ["abcabcabcabc"]])
def test_searches_stop_where_the_text_does(toys, search, stops):
    """What is found with the rule is what is found without it up to the token that completes a stop string."""
    plain = Prompted(toys.Reading(len(SURFACES), 100))
    ruled = Ruled(Widened(plain), [StopAt(SURFACES, stops, EOS)])
    prompts = toys.padded([[one, 7] for one in range(11)])
    limits = Limits(ANY, EOS, 20, keys=tuple(range(11)))
    stopped = 0
    free = search.run(plain, plain.start(*prompts), limits)
    for few, wanted in zip(search.run(ruled, ruled.start(*prompts), limits), free, strict=True):
        for number, one in enumerate(few):
            text = [b"".join(SURFACES[token] for token in one.tokens[:n]) for n in range(len(one.tokens) + 1)]
            holds = [any(stop.encode() in part for stop in stops) for part in text]
            assert not any(holds[:-1])  # it ended with the token that completed a stop string
            if one.finished:
                assert holds[-1] and one.token_log_probs[-1] == 0 and len(one.token_log_probs) == len(one.tokens) + 1
            else:
                assert len(one.tokens) == 20
            stopped += one.finished
            if not isinstance(search, Beam):
                assert wanted[number].tokens[: len(one.tokens)] == one.tokens
    assert stopped > 0 or stops == ["abcabcabcabc"]


class Widened:
    """A model with an end symbol that it never says."""

    def __init__(self, model):
        self.model = model

    def start(self, *batch):
        return self.model.start(*batch)

    def step(self, tokens, state):
        log_probs, state = self.model.step(tokens.clamp(max=EOS - 1), state)
        return torch.nn.functional.pad(log_probs, (0, 1), value=-torch.inf), state
