"""A tiny language to label: sentences about animals and things, generated; nothing is read from anywhere."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ANIMALS = ("cat", "dog", "fox", "owl")
THINGS = ("car", "cup", "key", "hat")
PLACES = ("Rome", "Oslo", "Lima")
PEOPLE = (("Ada", "Lovelace"), ("Alan", "Turing"), ("Grace", "Hopper"))
MODEL = {"preset": "tiny", "layers": 1, "width": 32, "feedforward": 64, "heads": 2, "dropout": 0.0}
TRAINING = {
    "steps": 100,
    "sentences_per_batch": 16,
    "learning_rate": 0.005,
    "warmup": 20,
    "validate_every": 50,
    "device": "cpu",
    "seed": 3,
}


def labelled(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Labels and texts: a text is about an animal or about a thing."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label, words = rng.choice([("animal", ANIMALS), ("thing", THINGS)])
        text = f"{rng.choice(['I see', 'there is', 'we like', 'look at'])} a {rng.choice(words)}"
        rows.append((label, text + rng.choice(["", " today", " in the big old house"])))
    return rows


def tagged(count: int, seed: int = 1) -> list[list[tuple[str, str]]]:
    """Sentences of words and tags: people and places."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        first, last = rng.choice(PEOPLE)
        person = [(first, "B-PER"), (last, "I-PER")] if rng.random() < 0.7 else [(first, "B-PER")]
        rest = [("lives", "O"), ("in", "O"), (rng.choice(PLACES), "B-LOC"), (".", "O")]
        rows.append(person + (rest if rng.random() < 0.5 else [("sleeps", "O"), (".", "O")]))
    return rows


def write_labelled(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), "utf-8")
    return path


def write_tagged(path: Path, rows: Sequence[Sequence[tuple[str, str]]]) -> Path:
    path.write_text("".join("".join(f"{word} {tag}\n" for word, tag in row) + "\n" for row in rows), "utf-8")
    return path


def classification_recipe(folder: Path, **training: Any) -> dict[str, Any]:
    """Written files, and a recipe for them as nested tables."""
    write_labelled(folder / "train.tsv", labelled(120))
    write_labelled(folder / "valid.tsv", labelled(30, seed=2))
    return {
        "task": "classification",
        "data": {"folder": str(folder), "train": "train.tsv", "valid": "valid.tsv", "length": 16},
        "tokenizer": {"kind": "word"},
        "model": dict(MODEL),
        "training": TRAINING | training,
    }


def tagging_recipe(folder: Path, **training: Any) -> dict[str, Any]:
    """Written files, and a recipe for them as nested tables."""
    write_tagged(folder / "train.conll", tagged(120))
    write_tagged(folder / "valid.conll", tagged(30, seed=2))
    return {
        "task": "tagging",
        "data": {"folder": str(folder), "train": "train.conll", "valid": "valid.conll", "length": 16},
        "tokenizer": {"kind": "bpe", "vocabulary": 300},
        "model": dict(MODEL),
        "training": TRAINING | training,
    }


def as_toml(content: dict[str, Any]) -> str:
    """Nested tables as a recipe file."""
    lines = []
    for section, table in content.items():
        if isinstance(table, dict):
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        else:
            lines.insert(0, f"{section} = {json.dumps(table)}")
    return "\n".join(lines) + "\n"
