"""What a Hugging Face directory says about generating: generation_config.json, or config.json in older directories.

What is taken over of an encoder–decoder: the start symbol, the width of the beam, the length penalty, when a beam
search ends, the least and greatest length, n-grams that may not come twice, what may not be said (Marian: padding),
what must be said first and last. Of a language model: what begins and ends a text; how to sample is not a matter of the
model here. Anything else that would change what `generate` gives of an encoder–decoder is refused.
"""

from collections.abc import Mapping
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
    "renormalize_logits": (None, False),
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

    def number(self, name: str, default: Any = None) -> Any:
        """A whole number, such as the id of a token, or `default` if it isn't there.

        Raises:
            CheckpointError: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is not int:
            raise CheckpointError(f"{self.file}: {name} is {value!r:.80}; expected a whole number")
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

    def only(self, name: str, default: int | None = None) -> int | None:
        """One whole number, perhaps in a list.

        Raises:
            CheckpointError: there are several.
        """
        found = self.numbers(name)
        if len(found) > 1:
            raise CheckpointError(f"{self.file}: {name} is {found}; supported is one")
        return found[0] if found else default


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


def translation_content(generation: Generation, positions: int) -> dict[str, Any]:
    """The settings of decoding, and the special tokens, of an encoder–decoder.

    Args:
        generation: what is said about generating.
        positions: of the model.

    Returns:
        "decoding" and "frame"; the source's end and beginning are its tokenizer's matter.

    Raises:
        CheckpointError: something is asked for that this package doesn't do; the message names the field.
    """
    values, file = generation.values, generation.file
    for name, neutral in NEUTRAL.items():
        if values.get(name) not in neutral:
            expected = " or ".join(repr(one) for one in neutral)
            raise CheckpointError(f"{file}: {name} is {values[name]!r:.80}; supported is {expected}")
    start = generation.number("decoder_start_token_id", generation.number("bos_token_id"))
    end = generation.only("eos_token_id")
    if start is None or end is None:
        raise CheckpointError(f"{file}: it doesn't say decoder_start_token_id and eos_token_id")
    early = values.get("early_stopping")
    if not isinstance(early, bool | str | None) or early not in STOPPING:
        raise CheckpointError(f"{file}: early_stopping is {early!r}; expected true, false or 'never'")
    # theirs counts the start symbol, and the token at the last place
    longest = generation.number("max_length")
    said = positions - 1 if longest is None else min(longest, positions) - 1
    once = generation.number("no_repeat_ngram_size", 0)
    first = generation.only("forced_bos_token_id")
    if first is None and values.get("force_bos_token_to_be_generated"):  # as BART's was said before
        first = generation.number("bos_token_id")
    decoding = {
        "beam": generation.number("num_beams", 1),
        "penalty": "average",
        "alpha": _alpha(values, file),
        "max_ratio": 2.0,
        "max_length": max(said, 1) if longest is not None else None,
        "min_length": max(generation.number("min_length", 0) - 1, 0),
        "stopping": STOPPING[early],
        "no_repeat_ngram": once,
        # for theirs, the start symbol has been said
        "forbidden": [*_phrases(values, file, end), *([[start]] if once == 1 else [])],
        "forced_first": first,
        "forced_last": generation.only("forced_eos_token_id"),
    }
    frame = {
        "start": start,
        "end": end,
        "pad": generation.number("pad_token_id", end),
        "source_begin": [],
        "source_end": end,
        "source_pad": generation.number("pad_token_id", end),
    }
    return {"decoding": decoding, "frame": frame}


def language_content(generation: Generation) -> dict[str, Any]:
    """What begins and ends the texts of a language model; what its tokenizer puts in front of them goes before that.

    Raises:
        CheckpointError: an id is none.
    """
    return {"generation": {"begin": generation.only("bos_token_id"), "end": generation.numbers("eos_token_id")}}


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


def _phrases(values: Mapping[str, Any], file: Path, end: int) -> list[list[int]]:
    phrases = values.get("bad_words_ids") or []
    if not all(isinstance(phrase, list) and phrase and all(type(one) is int for one in phrase) for phrase in phrases):
        raise CheckpointError(f"{file}: bad_words_ids is {phrases!r:.80}; expected lists of token ids")
    return [phrase for phrase in phrases if phrase != [end]]  # which `generate` leaves out, too
