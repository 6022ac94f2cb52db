"""The rooms of the package: each imports only from those above it in the list (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "regard"

ROOMS = [
    "errors",
    "files",
    "attention",
    "layers",
    "models",
    "data",
    "tasks",
    "training",
    "decoding",
    "insight",
    "interop",
    "recording",
    "runs",
    "explorer",
    "serving",
    "cli",
    "__main__",
]
STRANGERS = {("training", "decoding"), ("decoding", "training")}
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            names = [
                f"{node.module}.{alias.name}" if node.module == "regard" else str(node.module) for alias in node.names
            ]
        found |= {name.split(".")[1] for name in names if name.startswith("regard.")}
    return found


@pytest.mark.parametrize(
    "path", [p for p in FILES if p != SOURCE / "__init__.py"], ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_only_from_rooms_above(path: Path) -> None:
    room = room_of(path)
    assert room in ROOMS, f"{path} is in no known room"
    for other in imported_rooms(path) - {room}:
        assert other in ROOMS, f"{path} imports regard.{other}, which is no room"
        assert ROOMS.index(other) < ROOMS.index(room), f"{path} ({room}) imports from {other}, a room below"
        assert (room, other) not in STRANGERS


def test_the_rule_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import regard.cli.app\nfrom regard.runs import train\nfrom regard import serving\n")
    assert imported_rooms(file) == {"cli", "runs", "serving"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 450
