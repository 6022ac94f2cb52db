"""What a Hugging Face directory says about generating: generation_config.json, or config.json in older directories.

What is taken over of an encoder–decoder: the start symbol, the width of the beam, the length penalty, when a beam
search ends, the least and greatest length, n-grams that may not come twice, what may not be said (Marian: padding),
what must be said first and last, and whether what all this leaves of the probabilities is normalised again. Of a
language model: what begins and ends a text; how to sample is not a matter of the model here. Anything else that would
change what `generate` gives of an encoder–decoder is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regard.errors import CheckpointError
from regard.interop.huggingface.directory import CONFIG, read_object
from regard.interop.huggingface.weights.fields import GENERATION, TOKENS

GENERATION_CONFIG: Final = "generation_config.json"
LENGTH: Final = 20
"""Tokens that `generate` gives at most where nothing says how many."""

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "do_sample": (None, False),
    "repetition_penalty": (None, 1.0, 1),
    "encoder_repetition_penalty": (None, 1.0, 1),
    "encoder_no_repeat_ngram_size": (None, 0),
    "diversity_penalty": (None, 0.0, 0),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0.0, 0),
    "guidance_scale": (None, 1.0, 1),
    "sequence_bias": (None,),
    "constraints": (None,),
    "force_words_ids": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "min_new_tokens": (None, 0),
    "max_new_tokens": (None,),
    "num_return_sequences": (None, 1),
    "stop_strings": (None, []),
    "dola_layers": (None,),
    "token_healing": (None, False),
    "max_time": (None,),
}
"""What is refused of an encoder–decoder, but for values that change nothing."""

STOPPING: Final[dict[Any, str]] = {None: "behind", False: "behind", True: "full", "never": "certain"}
"""Our names of the rules by which a beam search ends, by their `early_stopping`."""


@dataclass(frozen=True)
class Generation:
    """What is said about generating.

    Attributes:
        file: where it stands.
        values: the fields.
    """

    file: Path
    values: Mapping[str, Any]

    def number(self, name: str, least: int, default: Any = None) -> Any:
        """A whole number, or `default` if it isn't there.

        Raises:
            CheckpointError: it is something else, or below `least`.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is not int or value < least:
            raise CheckpointError(f"{self.file}: {name} is {value!r:.80}; expected a whole number, {least} or more")
        return value

    def numbers(self, name: str) -> list[int]:
        """One or several whole numbers, as a list; empty if there are none.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.values.get(name)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(one) is int for one in found):
            raise CheckpointError(f"{self.file}: {name} is {value!r:.80}; expected whole numbers")
        return found

    def token(self, name: str, vocabulary: int | None = None) -> int | None:
        """The id of one token, perhaps in a list.

        Args:
            name: of the field.
            vocabulary: ids of the model; None leaves it open how many there are.

        Raises:
            CheckpointError: there are several, or it is none of the model's.
        """
        found = self.numbers(name)
        if len(found) > 1:
            raise CheckpointError(f"{self.file}: {name} is {found}; supported is one")
        if vocabulary is not None:
            self._check(name, found, vocabulary)
        return found[0] if found else None

    def phrases(self, name: str, vocabulary: int) -> list[list[int]]:
        """Lists of ids of tokens.

        Raises:
            CheckpointError: it is something else, or an id is none of the model's.
        """
        value = self.values.get(name)
        found = [] if value is None else value
        if not isinstance(found, list) or not all(
            isinstance(phrase, list) and phrase and all(type(one) is int for one in phrase) for phrase in found
        ):
            raise CheckpointError(f"{self.file}: {name} is {value!r:.80}; expected lists of token ids")
        self._check(name, [one for phrase in found for one in phrase], vocabulary)
        return found

    def _check(self, name: str, ids: Sequence[int], vocabulary: int) -> None:
        if not all(0 <= one < vocabulary for one in ids):
            value = self.values[name]
            raise CheckpointError(
                f"{self.file}: {name} is {value!r:.80}; the ids of the model are 0 to {vocabulary - 1}"
            )


def read_generation(directory: Path, config: Mapping[str, Any]) -> Generation:
    """What a directory says about generating.

    Token ids that generation_config.json doesn't have are those of config.json.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = directory / GENERATION_CONFIG
    if not file.exists():
        names = GENERATION | set(TOKENS)
        return Generation(directory / CONFIG, {name: config[name] for name in names if name in config})
    tokens = {name: config.get(name) for name in TOKENS}
    given = {name: value for name, value in read_object(file).items() if value is not None}
    return Generation(file, tokens | given)


def translation_content(generation: Generation, positions: int, source: int, target: int) -> dict[str, Any]:
    """The settings of decoding, and the special tokens, of an encoder–decoder.

    Args:
        generation: what is said about generating.
        positions: of the model.
        source, target: sizes of its vocabularies.

    Returns:
        "decoding" and "frame"; the source's end and beginning are its tokenizer's matter.

    Raises:
        CheckpointError: something is asked for that this package doesn't do, or an id is none of the model's; the
            message names the field.
    """
    values, file = generation.values, generation.file
    for name, neutral in NEUTRAL.items():
        if values.get(name) not in neutral:
            expected = " or ".join(repr(one) for one in neutral)
            raise CheckpointError(f"{file}: {name} is {values[name]!r:.80}; supported is {expected}")
    start = generation.token("decoder_start_token_id", target)
    if start is None:
        start = generation.token("bos_token_id", target)
    end = generation.token("eos_token_id", target)
    if start is None or end is None:
        raise CheckpointError(f"{file}: it doesn't say decoder_start_token_id and eos_token_id")
    early = values.get("early_stopping")
    if not isinstance(early, bool | str | None) or early not in STOPPING:
        raise CheckpointError(f"{file}: early_stopping is {early!r}; expected true, false or 'never'")
    # theirs counts the start symbol, and the token at the last place
    longest = generation.number("max_length", 1)
    said = positions - 1 if longest is None else min(longest, positions) - 1
    shortest = max(generation.number("min_length", 0, 0) - 1, 0)
    once = generation.number("no_repeat_ngram_size", 0, 0)
    first = generation.token("forced_bos_token_id", target)
    if first is None and values.get("force_bos_token_to_be_generated"):  # as BART's was said before
        first = generation.token("bos_token_id", target)
    again = values.get("renormalize_logits")
    if type(again) not in (bool, type(None)) or (again and shortest):
        raise CheckpointError(
            f"{file}: renormalize_logits is {again!r:.80}, min_length {values.get('min_length')!r:.80}; supported is "
            "true or false, and without a least length if true"
        )
    # `generate` leaves out the end, too
    forbidden = [phrase for phrase in generation.phrases("bad_words_ids", target) if phrase != [end]]
    decoding = {
        "beam": generation.number("num_beams", 1, 1),
        "penalty": "average",
        "alpha": _alpha(values, file),
        "max_ratio": 2.0,
        "max_length": max(said, 1) if longest is not None else None,
        "min_length": shortest,
        "stopping": STOPPING[early],
        "no_repeat_ngram": once,
        # for theirs, the start symbol has been said
        "forbidden": [*forbidden, *([[start]] if once == 1 else [])],
        "forced_first": first,
        "forced_last": generation.token("forced_eos_token_id", target),
        "renormalize": bool(again),
    }
    pad = generation.token("pad_token_id", min(source, target))
    pad = end if pad is None else pad
    frame: dict[str, Any] = {
        "start": start,
        "end": end,
        "pad": pad,
        "begin": generation.token("bos_token_id"),
        "source_begin": [],
        "source_end": end,
        "source_pad": pad,
    }
    return {"decoding": decoding, "frame": frame}


def language_content(generation: Generation) -> dict[str, Any]:
    """What begins and ends the texts of a language model; what its tokenizer puts in front of them goes before that.

    Raises:
        CheckpointError: an id is none.
    """
    return {"generation": {"begin": generation.token("bos_token_id"), "end": generation.numbers("eos_token_id")}}


def language_generation(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of generation_config.json of a language model: the inverse of `language_content`."""
    begin, end = content["generation"]["begin"], content["generation"]["end"]
    fields = {"bos_token_id": begin, "eos_token_id": end[0] if len(end) == 1 else end or None, "do_sample": False}
    return {name: value for name, value in fields.items() if value is not None}


def _alpha(values: Mapping[str, Any], file: Path) -> float:
    alpha = values.get("length_penalty")
    if alpha is None:
        return 1.0
    if type(alpha) not in (int, float):
        raise CheckpointError(f"{file}: length_penalty is {alpha!r:.80}; expected a number")
    return float(alpha)
