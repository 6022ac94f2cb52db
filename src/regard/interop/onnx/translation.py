"""A translation model as a directory of ONNX graphs: what they take and give, tokenizer files, and how to run them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from regard.data.tokenizers import Tokenizer
from regard.files import write_json
from regard.interop.exported import (
    CONFIG,
    SPECIALS_ARE_FOUND,
    Side,
    differences,
    least_length,
    most_length,
    python,
    sentence_sides,
    write_readme,
)
from regard.interop.onnx.encoder_decoder import Graphs, graphs_of
from regard.interop.onnx.graphs import check_libraries, write_graph
from regard.models.encoder_decoder import EncoderDecoder
from regard.tasks.translation import Specials

FORMAT: Final = "regard onnx 1"


def write_translator(
    directory: Path,
    model: EncoderDecoder,
    source: Tokenizer,
    target: Tokenizer,
    specials: Specials,
    decoding: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write encoder.onnx, step.onnx, config.json, tokenizer files and a README with a program that translates.

    Args:
        directory: exists.
        model: of any family, on the CPU, in evaluation mode.
        source, target: the tokenizers; the same object where they are one.
        specials: what stands around texts.
        decoding: the model's defaults.

    Returns:
        A sentence for each of the defaults that the program in the README doesn't have.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
    """
    check_libraries()
    graphs = graphs_of(model)
    write_graph(directory / "encoder.onnx", graphs.encoder)
    write_graph(directory / "step.onnx", graphs.step)
    sides = sentence_sides(source, target)
    for side in {side.file: side for side in sides}.values():
        side.save(directory)
    content = {
        "format": FORMAT,
        "task": "translation",
        "model": {"name": model.config.NAME, **asdict(model.config)},
        "specials": asdict(specials),
        "decoding": dict(decoding),
        "tokenizers": {"source": sides[0].file, "target": sides[1].file},
        **graphs.describe(),
    }
    write_json(directory / CONFIG, content)
    notes = _notes(decoding)
    _write_readme(directory, model, graphs, sides, specials, decoding, notes)
    return notes


def _notes(decoding: Mapping[str, Any]) -> tuple[str, ...]:
    """What the program doesn't do of the model's defaults; the rest of them matters to a beam search only."""
    if decoding["beam"] == 1:
        return ()
    note = f"decoding.beam = {decoding['beam']} is not taken over, nor penalty, alpha and stopping: the program is a "
    return (note + "greedy search, `regard translate --beam 1`",)


def _choice(decoding: Mapping[str, Any], positions: int, end: int) -> str:
    """Python that says which token follows, by the rules among a model's defaults."""
    least, first, last = least_length(decoding, positions), decoding.get("forced_first"), decoding.get("forced_last")
    lines = []
    if last is not None:
        lines += ["if len(said) == most - 1:", f"    return {last}"]
    if first is not None:
        lines += ["if not said:", f"    return {first}"]
    if n := decoding.get("no_repeat_ngram"):
        lines += [
            f"for i in range(len(said) - {n - 1}):  # what completes {n} tokens that have been said",
            f"    if said[i : i + {n - 1}] == said[len(said) - {n - 1} :]:",
            f"        scores[said[i + {n - 1}]] = -np.inf",
        ]
    if phrases := [list(phrase) for phrase in decoding.get("forbidden", ())]:
        lines += [
            f"for *before, token in {phrases}:  # what is never said",
            "    if len(before) <= len(said) and said[len(said) - len(before) :] == before:",
            "        scores[token] = -np.inf",
        ]
    if least:
        lines += [f"if len(said) < {least}:", f"    scores[{end}] = -np.inf"]
    return "\n".join(f"    {line}" for line in [*lines, "return int(scores.argmax())"])


def _write_readme(
    directory: Path,
    model: EncoderDecoder,
    graphs: Graphs,
    sides: tuple[Side, Side],
    specials: Specials,
    decoding: Mapping[str, Any],
    notes: Sequence[str],
) -> None:
    files = tuple(side.file for side in sides)
    begin = f"{list(specials.source_begin)} + " if specials.source_begin else ""
    known = '"lengths": lengths, ' if "lengths" in graphs.sentence else ""
    framed = len(specials.source_begin) + 1
    positions = model.config.max_length - framed
    code = f"""
import numpy as np, onnxruntime, tokenizers

source, target = (tokenizers.Tokenizer.from_file(name) for name in {files!r})
encoder, step = (onnxruntime.InferenceSession(name) for name in ("encoder.onnx", "step.onnx"))
texts = ["Two dogs play.", "A man reads the newspaper in the park."]

rows = [{begin}one.ids + [{specials.source_eos}] for one in source.encode_batch(texts, add_special_tokens=False)]
lengths = np.array([len(row) for row in rows])
padded = np.array([row + [{specials.source_pad}] * (lengths.max() - len(row)) for row in rows])
names = [output.name for output in encoder.get_outputs()]
state = {{{known}**dict(zip(names, encoder.run(None, {{"source": padded, "lengths": lengths}})))}}

def following(scores, said, most):  # the token after those of a sentence, which has at most so many
{_choice(decoding, positions, specials.eos)}

names = [output.name for output in step.get_outputs()]
tokens, said = np.full((len(texts), 1), {specials.bos}), [[] for _ in texts]  # one hypothesis of each sentence
limits = [{most_length(decoding, positions, f"(len(row) - {framed})")} for row in rows]
for position in range(max(limits)):
    found = dict(zip(names, step.run(None, {{"tokens": tokens, "position": np.array(position), **state}})))
    log_probs = found.pop("log_probs")  # (sentences, hypotheses, vocabulary)
    state |= {{name.removeprefix("next."): tensor for name, tensor in found.items()}}
    tokens = np.array([[following(*one)] for one in zip(log_probs[:, 0], said, limits)])
    for row, [token], most in zip(said, tokens.tolist(), limits):
        row.extend([token] if len(row) < most and {specials.eos} not in row else [])
    if all({specials.eos} in row or len(row) == most for row, most in zip(said, limits)):
        break
for row in said:
    print(target.decode([token for token in row if token != {specials.eos}]))
"""
    write_readme(
        directory,
        (
            "# A translation model as ONNX graphs",
            f"{model.config.words()}. Written by `regard export --to onnx`. `encoder.onnx` reads sources, `step.onnx` "
            "says the next token; `config.json` says what they take and give. Greedy search with `pip install "
            "onnxruntime tokenizers`, in this directory:",
            python(code),
            differences(notes),
            "Tensors of the state are per sentence, (sentences, …), or per hypothesis, (sentences, hypotheses, …): a "
            "beam search repeats and selects the latter along its second axis, and what is per sentence stays. "
            f"Sources and translations have at most {model.config.max_length} positions.",
            SPECIALS_ARE_FOUND,
        ),
    )
