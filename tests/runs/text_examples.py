"""A small running text and recipes for it."""

import random
from pathlib import Path
from typing import Any

import torch

from regard.runs.work.contract import Place

SUBJECTS, VERBS, PLACES = (
    ("the dog", "the cat", "a bird"),
    ("sleeps", "plays", "sings"),
    ("here", "there", "in the park"),
)


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of a small grammar: who sings is a bird, and only birds sing."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        subject = draw.choice(SUBJECTS)
        verb = "sings" if subject == "a bird" else draw.choice(VERBS[:2])
        rows.append(f"{subject} {verb} {draw.choice(PLACES)} .")
    return rows


def write_text(folder: Path, count: int = 300) -> Path:
    """A file of sentences, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "text.txt"
    path.write_text("\n".join(sentences(count, 1)) + "\n", "utf-8")
    return path


def language_recipe(folder: Path, **data: Any) -> dict[str, Any]:
    """A language model of one layer that learns the text of `folder` in a second or two."""
    return {
        "task": "language_modelling",
        "data": {"folder": str(folder), "text": "text.txt", "length": 16} | data,
        "tokenizer": {"kind": "word"},
        "model": {"layers": 1, "width": 16, "feedforward": 32, "heads": 2, "dropout": 0.0},
        "training": {
            "steps": 60,
            "learning_rate": 0.02,
            "schedule": "constant",
            "warmup": 5,
            "sequences_per_batch": 8,
            "validate_every": 30,
            "average": 1,
            "device": "cpu",
        },
    }


def masked_recipe(folder: Path, **data: Any) -> dict[str, Any]:
    """The same for a masked-language model."""
    content = language_recipe(folder, **data)
    content["model"] |= {"attention_dropout": 0.0}
    return content | {"task": "masked_language_modelling"}


def place_of(out: Path, **changes: Any) -> Place:
    """A place that says nothing."""
    found = {
        "out": out,
        "folder": out / "prepared",
        "begun": False,
        "main": True,
        "device": torch.device("cpu"),
        "say": lambda words: None,
        "progress": lambda what, done, total: None,
    }
    return Place(**(found | changes))
