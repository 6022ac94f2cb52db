"""A translation model as a directory of ONNX graphs: what they take and give, tokenizer files, and how to run them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from regard.data.tokenizers import Tokenizer
from regard.files import write_json
from regard.interop.exported import CONFIG, Side, python, sentence_sides, write_readme
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
) -> None:
    """Write encoder.onnx, step.onnx, config.json, tokenizer files and a README with a program that translates.

    Args:
        directory: exists.
        model: of any family, on the CPU, in evaluation mode.
        source, target: the tokenizers; the same object where they are one.
        specials: what stands around texts.
        decoding: the model's defaults.

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
    _write_readme(directory, model, graphs, sides, specials, decoding)


def _write_readme(
    directory: Path,
    model: EncoderDecoder,
    graphs: Graphs,
    sides: tuple[Side, Side],
    specials: Specials,
    decoding: Mapping[str, Any],
) -> None:
    files = tuple(side.file for side in sides)
    begin = f"{list(specials.source_begin)} + " if specials.source_begin else ""
    known = '"lengths": lengths, ' if "lengths" in graphs.sentence else ""
    never = [phrase[0] for phrase in decoding.get("forbidden", ()) if len(phrase) == 1]
    forbid = f"\n    log_probs[..., {never}] = -np.inf" if never else ""
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

names = [output.name for output in step.get_outputs()]
tokens, said = np.full((len(texts), 1), {specials.bos}), [[] for _ in texts]  # one hypothesis of each sentence
for position in range({model.config.max_length - 1}):
    found = dict(zip(names, step.run(None, {{"tokens": tokens, "position": np.array(position), **state}})))
    log_probs = found.pop("log_probs")  # (sentences, hypotheses, vocabulary){forbid}
    state |= {{name.removeprefix("next."): tensor for name, tensor in found.items()}}
    tokens = log_probs.argmax(-1)
    for row, [token] in zip(said, tokens.tolist()):
        row.extend([token] if {specials.eos} not in row else [])
    if all({specials.eos} in row for row in said):
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
            "Tensors of the state are per sentence, (sentences, …), or per hypothesis, (sentences, hypotheses, …): a "
            "beam search repeats and selects the latter along its second axis, and what is per sentence stays. "
            f"Sources and translations have at most {model.config.max_length} positions.",
        ),
    )
