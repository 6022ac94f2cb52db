"""Peak memory: a process's own, not that of the one which started it, and of all parts of a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from regard.runs import memory
from regard.runs.memory import earlier_peak, peak_memory

CHILD = "from regard.runs.memory import peak_memory; print(peak_memory())"
PARENT = """
import subprocess, sys
from regard.runs.memory import peak_memory
fat = bytearray(2**30)
fat[::4096] = b"x" * len(fat[::4096])
child = subprocess.run([sys.executable, "-c", sys.argv[1]], check=True, capture_output=True, text=True)
print(peak_memory(), child.stdout)
"""


@pytest.mark.skipif(not memory.STATUS.exists(), reason="only Linux hands the peak down, and tells the own one too")
def test_a_child_of_a_fat_parent_is_not_fat() -> None:
    found = subprocess.run([sys.executable, "-c", PARENT, CHILD], check=True, capture_output=True, text=True)
    parent, child = map(int, found.stdout.split())
    assert parent > 2**30
    assert 2**20 < child < parent - 2**29


def test_without_proc_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = peak_memory()
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert peak_memory() >= own // 2
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2192 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert peak_memory() == 2192 * 1024


def test_the_peak_of_an_earlier_part_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert earlier_peak(path) == 0
    for content, peak in [('{"peak_memory": 7}', 7), ("{}", 0), ("[]", 0), ('{"peak_memory": null}', 0), ("{", 0)]:
        path.write_text(content)
        assert earlier_peak(path) == peak, content


def test_a_run_that_goes_on_keeps_the_larger_peak(tmp_path: Path) -> None:
    from regard.runs.recipe import make_recipe
    from regard.runs.train import Run

    rows = [f"{a} {b}" for a in "abcdefghij" for b in "klmnopqrst"]
    (tmp_path / "en").write_text("\n".join(rows) + "\n")
    (tmp_path / "de").write_text("\n".join(row[::-1] for row in rows) + "\n")
    model = {"width": 8, "heads": 1, "feedforward": 8, "encoder_layers": 1, "decoder_layers": 1}

    def train(steps: int) -> dict:
        training = {"steps": steps, "device": "cpu", "tokens_per_batch": 64, "validation_sentences": 0}
        data = {"folder": str(tmp_path), "source": "en", "target": "de"}
        recipe = {"data": data, "tokenizer": {"kind": "word"}, "model": model, "training": training}
        Run(make_recipe(recipe), tmp_path / "run", lambda text: None).train()
        return json.loads((tmp_path / "run" / "result.json").read_text())

    first = train(2)
    assert 2**20 < first["peak_memory"] < 2**60
    assert "thread" in first["machine"]
    (tmp_path / "run" / "result.json").write_text(json.dumps(first | {"peak_memory": 2**60}))
    assert train(3)["peak_memory"] == 2**60
