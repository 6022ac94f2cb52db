"""A language model as a directory with one ONNX graph: what it takes and gives, a tokenizer file, and how to run it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from regard.data.tokenizers import Tokenizer
from regard.files import write_json
from regard.interop.exported import CONFIG, SPECIALS_ARE_FOUND, python, text_side, write_readme
from regard.interop.onnx.gpt import graph_of
from regard.interop.onnx.graphs import check_libraries, write_graph
from regard.interop.onnx.translation import FORMAT
from regard.models.gpt import GPT


def write_generator(directory: Path, model: GPT, tokenizer: Tokenizer, begin: int | None, end: Sequence[int]) -> None:
    """Write step.onnx, config.json, a tokenizer file and a README with a program that goes on from prompts.

    Args:
        directory: exists.
        model: on the CPU, in evaluation mode.
        tokenizer: of its texts.
        begin: the token that stands before a text, or None.
        end: the tokens that end one.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
    """
    check_libraries()
    graph = graph_of(model)
    write_graph(directory / "step.onnx", graph)
    side = text_side(tokenizer)
    side.save(directory)
    content = {
        "format": FORMAT,
        "task": "language_modelling",
        "model": {"name": model.config.NAME, **asdict(model.config)},
        "generation": {"begin": begin, "end": list(end)},
        "tokenizer": side.file,
        "step": {
            "file": "step.onnx",
            "inputs": [place.describe() for place in graph.inputs],
            "outputs": list(graph.outputs),
        },
    }
    write_json(directory / CONFIG, content)
    _write_readme(directory, model, begin, end)


def _write_readme(directory: Path, model: GPT, begin: int | None, end: Sequence[int]) -> None:
    attention, longest = model.layers[0].attention, model.config.max_length
    before = "" if begin is None else f"[{begin}] + "
    code = f"""
import numpy as np, onnxruntime, tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
step = onnxruntime.InferenceSession("step.onnx")
prompts = ["Once upon a time", "The"]

rows = [{before}one.ids for one in tokenizer.encode_batch(prompts, add_special_tokens=False)]
longest = max(map(len, rows))
assert all(rows) and longest < {longest}, "a prompt has 1 to {longest - 1} tokens"
first = np.array([longest - len(row) for row in rows])  # prompts end together: what is before is not looked at
tokens = np.array([[0] * (longest - len(row)) + row for row in rows])
empty = np.zeros((len(rows), {attention.key_heads}, 0, {attention.head_width}), np.float32)
past = {{place.name: empty for place in step.get_inputs() if place.name.startswith("past.")}}
said, ends = [[] for _ in rows], {set(end) or "set()"}
for _ in range(min(200, {longest} - longest)):
    log_probs, *after = step.run(None, {{"tokens": tokens, "first": first, **past}})  # (rows, vocabulary)
    past = dict(zip(past, after))
    tokens = log_probs.argmax(-1)[:, None]
    for row, [token] in zip(said, tokens.tolist()):
        row.extend([token] if not ends & set(row) else [])
    if all(ends & set(row) for row in said):
        break
for row in said:
    print(repr(tokenizer.decode([token for token in row if token not in ends])))
"""
    write_readme(
        directory,
        (
            "# A language model as an ONNX graph",
            f"{model.config.words()}. Written by `regard export --to onnx`. `step.onnx` reads tokens, a prompt or the "
            "last one, behind the keys and values of those before; `config.json` says what it takes and gives. Greedy "
            "search with `pip install onnxruntime tokenizers`, in this directory:",
            python(code),
            f"A text has at most {longest} tokens, its prompt included.",
            SPECIALS_ARE_FOUND,
        ),
    )
