"""What a `LanguageModel` gives, and how it is asked for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypedDict

from regard.data.tokenizers import Tokenizer
from regard.decoding import Beam, Filter, Greedy, Hypothesis, MinP, Rule, Sampling, Search, TopK, TopP, text_of_bytes
from regard.decoding.text_stream import stop_bytes
from regard.errors import ArgumentError

Finish = Literal["end", "stop", "length"]
MAX_TOKENS = 200


@dataclass(frozen=True)
class Generation:
    """How a text goes on.

    Attributes:
        text: what follows the prompt, up to the stop string, if one was said.
        tokens: all that was said, as text; also those tokens in which a stop string lies.
        ids: the same, as ids.
        log_prob: natural-log probability of the tokens, and of the end where the model ended the text, in the model's
            own distribution.
        token_log_probs: the terms of it: one of each token, and one of the end.
        finished: what ended it: the model ("end"), a stop string ("stop") or the number of tokens ("length").
        notes: what a reader has to know: that the prompt was cut.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_prob: float
    token_log_probs: tuple[float, ...]
    finished: Finish
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of a text that is being generated.

    Attributes:
        number: of the sample, from 0.
        text: what comes next in it.
        done: all of it, with its last piece; else None.
    """

    number: int
    text: str
    done: Generation | None = None


class How(TypedDict, total=False):
    """How texts go on: the keyword arguments of `LanguageModel.generate` and `LanguageModel.stream`."""

    max_tokens: int | None
    """The most tokens of a continuation; 200 if neither this nor the model says it."""
    temperature: float | None
    """Of sampling: below 1 keeps nearer to the most probable; the model's own if not given, else 1."""
    top_k: int | None
    """Of sampling: only the K most probable tokens; the model's own if not given, else all."""
    top_p: float | None
    """Of sampling: only the most probable tokens that make up this probability; as for top_k."""
    min_p: float | None
    """Of sampling: only tokens this many times as probable as the best one."""
    samples: int | None
    """How many for each prompt; 1 if not given."""
    seed: int
    """Of sampling; 1 if not given."""
    stop: Sequence[str]
    """Strings before which a text ends, wherever tokens begin and end in them."""
    beam: int | None
    """No sampling, but the best of a beam search of this width; 1 is greedy search."""
    search: Search | None
    """Instead of all of sampling and of the beam: how texts are looked for."""
    rules: Sequence[Rule]
    """About what is said, not about the prompt."""
    cut: bool
    """Prompts with more tokens than the model has positions are cut from the left, and `notes` say so."""


@dataclass(frozen=True)
class Asked:
    """How texts go on, checked; see `How`."""

    search: Search
    max_tokens: int
    seed: int
    stop: tuple[str, ...]
    rules: tuple[Rule, ...]
    cut: bool


@dataclass(frozen=True)
class Prompt:
    """A prompt in tokens.

    Attributes:
        ids: its tokens, the start symbol first where there is one; at least one.
        key: of its random draws.
        notes: what a reader has to know.
    """

    ids: tuple[int, ...]
    key: int
    notes: tuple[str, ...] = ()


def asked_of(
    defaults: Mapping[str, Any],
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    samples: int | None = None,
    seed: int = 1,
    stop: Sequence[str] = (),
    beam: int | None = None,
    search: Search | None = None,
    rules: Sequence[Rule] = (),
    cut: bool = False,
) -> Asked:
    """Check what is asked, and fill in what is not given.

    Args:
        defaults: a model's own temperature, top_k, top_p and max_tokens; missing or None: 1, no filter, 200.

    Raises:
        ArgumentError: contradictions, or values out of range.
    """
    own = defaults.get("max_tokens")
    longest = max_tokens if max_tokens is not None else MAX_TOKENS if own is None else own
    if not isinstance(longest, Integral) or longest < 1:
        raise ArgumentError(f"max_tokens is {longest!r}; expected a whole number, at least 1")
    stop_bytes(stop)
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "samples": samples}
    given = {name: value for name, value in sampling.items() if value is not None}
    return Asked(_search_of(search, beam, given, defaults), int(longest), seed, tuple(stop), tuple(rules), cut)


def _search_of(
    search: Search | None, beam: int | None, sampling: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Search:
    """The search that is asked for, as an object or by its parts: sampling, if nothing says otherwise."""
    if search is not None:
        if isinstance(search, type) or not isinstance(search, Search):
            raise ArgumentError(f"search is {search!r}; expected a search, such as Greedy() or Sampling()")
        parts = [*sampling] if beam is None else ["beam", *sampling]
        if parts:
            raise ArgumentError(f"search and {', '.join(parts)} are given; expected one or the other")
        return search
    if beam is not None:
        if sampling:
            raise ArgumentError(f"beam and {', '.join(sampling)} are given; expected a beam search or sampling")
        return Greedy() if beam == 1 else Beam(beam)
    known = {name: value for name, value in {**defaults, **sampling}.items() if value is not None}
    makers: dict[str, Callable[[Any], Filter]] = {"top_k": TopK, "top_p": TopP, "min_p": MinP}
    filters = [make(known[name]) for name, make in makers.items() if name in known]
    return Sampling(float(known.get("temperature", 1.0)), tuple(filters), known.get("samples", 1))


def generation_of(tokenizer: Tokenizer, found: Hypothesis, stop: Sequence[str], notes: tuple[str, ...]) -> Generation:
    """What was found, as text. A stop string ends a text for nothing, and so has no term."""
    text, stopped = text_of_bytes(tokenizer.text_of(found.tokens), stop)
    terms = found.token_log_probs[: len(found.tokens)] if stopped else found.token_log_probs
    finished: Finish = "stop" if stopped else "end" if found.finished else "length"
    pieces = tuple(tokenizer.pieces(found.tokens))
    return Generation(text, pieces, found.tokens, found.log_prob, terms, finished, notes)
