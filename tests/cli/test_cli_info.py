"""`regard info`: facts are shown as they are."""

import json
import shutil
from pathlib import Path


def test_what_looks_like_markup_is_text(regard, tiny_model, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model.directory, tmp_path / "model")
    (model / "data.json").write_text(json.dumps({"[/name]": "[/x] [bold]y"}))
    ran = regard("info", model)
    assert ran.code == 0 and "data: [/name]" in ran.out and "[/x] [bold]y" in ran.out
