"""`regard export`: what it says, where it writes, what it refuses."""

import json
from pathlib import Path

import pytest


def test_where_it_writes_and_what_it_says(regard, tiny_model, tmp_path: Path) -> None:
    out = tmp_path / "served"
    ran = regard("export", tiny_model.directory, "--to", "ctranslate2", "--out", out)
    assert (ran.code, ran.out) == (0, "")
    note, first, *lines = ran.err.splitlines()
    assert note.startswith("note: decoding.stopping = 'behind' is not taken over")
    assert first.startswith("wrote Transformer, 1+1 layers, width 16") and first.endswith(
        f"for ctranslate2 into {out}:"
    )
    sizes = {name: int(size.replace(",", "")) for name, size, _ in (line.split() for line in lines)}
    assert sizes == {path.name: path.stat().st_size for path in out.iterdir() if path.name != "export.json"}

    ran = regard(
        "export", tiny_model.directory, "--to", "ctranslate2", "--out", out, "--precision", "int8", "--json", "--quiet"
    )
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["files"]["model.bin"] < sizes["model.bin"] / 2
    del said["files"]
    assert said["notes"] == [note.removeprefix("note: ")]
    assert {key: said[key] for key in ("directory", "to", "task", "precision")} == {
        "directory": str(out),
        "to": "ctranslate2",
        "task": "translation",
        "precision": "int8",
    }


def test_without_out_it_is_beside_the_model(regard, tiny_model, tmp_path: Path, monkeypatch) -> None:
    model = tmp_path / "en-de"
    model.symlink_to(tiny_model.directory)
    ran = regard("export", f"{model}/", "--to", "huggingface", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert (tmp_path / "en-de-huggingface" / "model.safetensors").exists()
    translated = regard("translate", tmp_path / "en-de-huggingface", stdin=b"two dogs play\n")
    assert translated.out == "zwei Hunde spielen\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tflite"], "'tflite' is not one of 'huggingface', 'ctranslate2', 'onnx'"),
        ([], "Missing option '--to'"),
        (
            ["--to", "onnx", "--precision", "int8"],
            "precision int8 is for ctranslate2: what is written",
        ),
        (["--to", "ctranslate2", "--out", "MODEL"], "is the directory of the model"),
    ],
)
def test_what_is_refused(regard, tiny_model, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [str(tiny_model.directory) if word == "MODEL" else word for word in arguments]
    ran = regard("export", tiny_model.directory, *given)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
