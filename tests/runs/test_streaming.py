"""Lines in chunks: full ones from files, prompt ones from pipes."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from regard.decoding import Beam, ConstrainedBeam, NoRepeatNgram, Sampling
from regard.errors import ArgumentError, DataError
from regard.runs.load import load_translator
from regard.runs.scoring import score_pairs
from regard.runs.streaming import Line, Settings, read_chunks, translate_chunks, with_wishes


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """What is written here comes out of standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as end:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield end


def test_a_file_is_cut_into_full_chunks(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{n}\n" for n in range(17)))
    assert [len(chunk) for chunk in read_chunks(path, size=5)] == [5, 5, 5, 2]
    assert [line for chunk in read_chunks(path, size=5) for line in chunk] == [str(n) for n in range(17)]


def test_standard_input_that_is_a_file_is_cut_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_text("a\nb\nc\n")
    with open(path) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert list(read_chunks("-", size=2)) == [["a", "b"], ["c"]]


def test_a_pipe_that_pauses_gives_what_is_there(pipe: BinaryIO) -> None:
    chunks = read_chunks("-", size=100, patience=0.02)
    pipe.write(b"one\ntwo\nthr")
    assert next(chunks) == ["one", "two"]
    pipe.write(b"ee\n")
    assert next(chunks) == ["three"]
    pipe.write(b"last")
    pipe.close()
    assert list(chunks) == [["last"]]


def test_a_slow_pipe_keeps_no_line_waiting_and_a_fast_one_fills_chunks(pipe: BinaryIO) -> None:
    def drip() -> None:
        for _ in range(30):
            pipe.write(b"drop\n")
            time.sleep(0.01)
        pipe.write(b"flood\n" * 200)
        pipe.close()

    writer = threading.Thread(target=drip)
    writer.start()
    chunks = list(read_chunks("-", size=50, patience=0.05))
    writer.join()
    assert [line for chunk in chunks for line in chunk] == ["drop"] * 30 + ["flood"] * 200
    assert max(map(len, chunks)) == 50
    assert sum("drop" in chunk for chunk in chunks) > 1


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"\xef\xbb\xbfa\r\n\r\nb\r", b"a\x0bb\xe2\x80\xa8c\n\n", b"a\n\xef\xbb\xbfb"]
)
def test_pipe_and_file_read_the_same(pipe: BinaryIO, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    pipe.write(content)
    pipe.close()
    assert list(read_chunks("-", patience=0)) == list(read_chunks(tmp_path / "file"))


def test_pipe_and_file_complain_the_same(pipe: BinaryIO, tmp_path: Path) -> None:
    content = b"a\n" * 6 + b"b\xc3(\n"
    (tmp_path / "file").write_bytes(content)
    pipe.write(content)
    pipe.close()
    messages = []
    for path in ("-", tmp_path / "file"):
        with pytest.raises(DataError, match="line 7: not valid UTF-8") as error:
            list(read_chunks(path))
        messages.append(str(error.value).replace("standard input", str(tmp_path / "file")))
    assert messages[0] == messages[1]


def test_a_long_line_takes_time_in_proportion_to_its_length(pipe: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "regard.runs.streaming.READ", 64
    )  # 60,000 pieces: copying all that is there each time takes long
    content = b"one\n" + b"x" * 4_000_000 + b"\n\nlast" + b"y" * 200
    writer = threading.Thread(target=lambda: (pipe.write(content), pipe.close()))
    began = time.perf_counter()
    writer.start()
    lines = [line for chunk in read_chunks("-", patience=60) for line in chunk]
    writer.join()
    assert lines == content.decode().split("\n")
    assert time.perf_counter() - began < 10


def test_a_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        next(read_chunks("-"))


def test_standard_input_in_memory_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert list(read_chunks("-")) == [["a", "b"]]


def test_answers_come_chunk_by_chunk_with_running_numbers(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    asked: list[int] = []

    def chunks() -> Iterator[list[str]]:
        for start in (0, 3, 6):
            asked.append(start)
            yield tiny_model.sources[start : start + 3]

    answers = translate_chunks(translator, with_wishes(chunks()), Settings())
    first = next(answers)
    assert asked == [0]  # answered before more was asked for
    found = [*first, *(answer for chunk in answers for answer in chunk)]
    assert [answer.line for answer in found] == list(range(1, 10))
    assert [answer.translations[0].text for answer in found] == tiny_model.targets[:9]


@pytest.mark.parametrize("search", [Beam(3, nbest=2), Sampling(1.5, samples=2)])
def test_the_size_of_chunks_changes_nothing(tiny_model, search) -> None:
    settings = Settings(search, seed=4)
    translator = load_translator(tiny_model.directory, device="cpu")
    lines = [*tiny_model.sources, "", "dogs today", "two two two dogs cats one", "x"]
    results = []
    for size in (1, 4, 100):
        chunks = [lines[i : i + size] for i in range(0, len(lines), size)]
        answers = [one for chunk in translate_chunks(translator, with_wishes(chunks), settings) for one in chunk]
        results.append([[found.text for found in one.translations] for one in answers])
    assert results[0] == results[1] == results[2]


def test_scoring_needs_a_target_for_each_source(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    with pytest.raises(ArgumentError, match="2 sources and 1 targets"):
        list(score_pairs(translator, ["a", "b"], ["c"]))


def test_prefixes_and_phrases_come_from_files_line_by_line(tiny_model, tmp_path: Path) -> None:
    prefixes, phrases = tmp_path / "prefixes", tmp_path / "phrases"
    prefixes.write_text("heute\n\nzwei \n")
    phrases.write_text("\nspielen\tzwei\n \t\n")
    chunks = list(with_wishes([["a", "b"], ["c"]], prefixes, phrases))
    assert chunks == [[Line("a", "heute"), Line("b", "", ("spielen", "zwei"))], [Line("c", "zwei ")]]
    assert next(with_wishes([["a", "b", "c"]], None, phrases))[1] == Line("b", "", ("spielen", "zwei"))
    assert next(with_wishes([["a", "b", "c"]], prefixes))[2] == Line("c", "zwei ")
    same = next(with_wishes([["a", "b", "c"]], prefixes, prefixes))[0]
    assert same == Line("a", "heute", ("heute",))
    translator = load_translator(tiny_model.directory, device="cpu")
    answers = next(translate_chunks(translator, [[*chunks[0], *chunks[1]]], Settings(ConstrainedBeam(4))))
    texts = [answer.translations[0].text for answer in answers]
    assert texts[0].startswith("heute") and texts[2].startswith("zwei ")
    assert "spielen" in texts[1] and "zwei" in texts[1]


@pytest.mark.parametrize(("count", "message"), [(2, "has 2 lines; expected one for each"), (4, "more than 3 lines")])
def test_a_file_with_another_number_of_lines_is_refused(tmp_path: Path, count: int, message: str) -> None:
    (tmp_path / "prefixes").write_text("x\n" * count)
    with pytest.raises(DataError, match=f"prefixes: has {message.removeprefix('has ')}"):
        list(with_wishes([["a"], ["b", "c"]], tmp_path / "prefixes"))


def test_a_wish_that_cannot_be_met_is_a_problem_of_its_line(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    lines = [Line("one dog sleeps"), Line("two cats play", "zwei " * 40), Line("one dog plays", "", ("ein " * 40,))]
    first, long, many = next(translate_chunks(translator, [lines], Settings(ConstrainedBeam(3))))
    assert first.translations[0].text == "ein Hund schläft" and first.problem is None
    assert long.problem is not None and "the source: with its prefix, a translation has" in long.problem
    assert many.problem is not None and "with its phrases, a translation has" in many.problem
    assert long.translations == many.translations == ()


def test_phrases_that_rules_do_not_allow_are_a_problem_of_their_line(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    settings = Settings(ConstrainedBeam(3), (NoRepeatNgram(1),))
    lines = [Line("one dog sleeps", "", ("ein",)), Line("two", "", ("zwei", "zwei")), Line("one dog sleeps"), Line("")]
    first, twice, free, empty = next(translate_chunks(translator, [lines], settings))
    assert first.problem is free.problem is empty.problem is None
    assert first.translations and free.translations[0].text == "ein Hund schläft"
    assert twice.translations == ()
    assert twice.problem is not None
    assert twice.problem.startswith("the source: its phrases cannot be said under the rules given")
