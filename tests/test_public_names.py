"""The public surface: the names that people and measurements depend on."""

import subprocess
import sys

import pytest

import regard
import regard.attention
import regard.layers


def test_the_packages_names() -> None:
    assert set(regard.__all__) == {"AttentionMap", "attend", "attention_plan", "load", "load_recording", "record"}
    assert {"Causal", "Dense", "Dot", "Padding", "ScaledDot"} <= set(regard.attention.__all__)


@pytest.mark.parametrize("module", [regard, regard.attention, regard.layers], ids=lambda module: module.__name__)
def test_every_name_is_there_and_documented(module: object) -> None:
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


def test_import_brings_no_optional_library() -> None:
    heavy = {
        "accelerate",
        "ctranslate2",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "datasets",
        "fastapi",
        "sentencepiece",
        "starlette",
        "uvicorn",
        "zstandard",
        "matplotlib",
        "tensorboard",
        "transformers",
        "sacremoses",
        "notojp_matplotlib",
    }
    code = f"import sys, regard; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "example",
        "check-data",
        "train",
        "compare",
        "translate",
        "generate",
        "fill",
        "label",
        "evaluate",
        "score",
        "attend",
        "record",
        "tokenize",
        "detokenize",
        "average",
        "serve",
        "export",
        "info",
    ],
)
def test_every_command_has_help(command: str) -> None:
    from typer.testing import CliRunner

    from regard.cli import app

    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "regard" in result.output
