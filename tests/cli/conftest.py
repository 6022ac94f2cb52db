"""Run the command line inside the test process: an interpreter with torch takes seconds to start."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from regard.cli import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.split("\n")[:-1]


Regard = Callable[..., Ran]


@pytest.fixture
def regard(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Regard:
    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["regard", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capsysbinary.readouterr()
        return Ran(int(leaving.value.code or 0), out.decode("utf-8"), err.decode("utf-8"))

    return run
