"""`regard translate`: order, empty and over-long lines, formats, files, streams, errors."""

import contextlib
import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regard.data import Tokenizer

LONG = "two dogs play " * 30


def test_answers_in_order_from_standard_input(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory, stdin="\n".join(tiny_model.sources).encode())
    assert ran.code == 0
    assert ran.lines == tiny_model.targets
    assert f"{len(tiny_model.targets)} lines in" in ran.err


def test_file_gzip_and_standard_input_give_the_same(regard, tiny_model, tmp_path: Path) -> None:
    text = "".join(f"{line}\n" for line in tiny_model.sources).encode()
    (tmp_path / "in.txt").write_bytes(text)
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(text))
    plain = regard("translate", tiny_model.directory, tmp_path / "in.txt", "--quiet")
    packed = regard("translate", tiny_model.directory, tmp_path / "in.txt.gz", "--quiet")
    typed = regard("translate", tiny_model.directory, "-", "--quiet", stdin=text)
    assert plain.out == packed.out == typed.out
    assert plain.err == packed.err == typed.err == ""


def test_empty_lines_stay_and_crlf_and_byte_order_mark_are_dropped(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory, stdin=b"\xef\xbb\xbfone dog sleeps\r\n\r\n   \r\ntwo cats play\r\n")
    assert ran.lines == ["ein Hund schläft", "", "", "zwei Katzen spielen"]
    assert ran.code == 0


def test_nothing_in_nothing_out(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory)
    assert (ran.code, ran.out) == (0, "")


def test_an_over_long_line_is_named_and_shifts_no_other(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory, stdin=f"one dog sleeps\n{LONG}\ntwo cats play\n".encode())
    assert ran.lines == ["ein Hund schläft", "", "zwei Katzen spielen"]
    assert "standard input, line 2: not translated: the source has" in ran.err
    assert f"positions for {tiny_model.max_tokens}" in ran.err
    assert "1 of 3 lines could not be translated" in ran.err
    assert ran.code == 1


def test_scores_stand_before_a_tab(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory, "--scores", stdin=f"one dog sleeps\n\n{LONG}\n".encode())
    rows = [line.split("\t") for line in ran.lines]
    assert [text for _, text in rows] == ["ein Hund schläft", "", ""]
    assert -0.1 < float(rows[0][0]) < 0
    assert [score for score, _ in rows[1:]] == ["0.000000", "nan"]


def test_nbest_lines_are_numbered_from_zero_and_sorted(regard, tiny_model) -> None:
    ran = regard(
        "translate", tiny_model.directory, "--nbest", 3, stdin=f"one dog sleeps\n\n{LONG}\ntwo cats play".encode()
    )
    rows = [line.split(" ||| ") for line in ran.lines]
    assert [row[0] for row in rows] == ["0", "0", "0", "1", "2", "3", "3", "3"]
    assert rows[0][1] == "ein Hund schläft"
    assert rows[5][1] == "zwei Katzen spielen"
    for first in (0, 5):
        scores = [float(row[2]) for row in rows[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
        assert len({row[1] for row in rows[first : first + 3]}) == 3
    assert [row[1:] for row in rows[3:5]] == [["", "0.000000"], ["", "nan"]]


def test_json_is_one_object_a_line(regard, tiny_model) -> None:
    command = ("translate", tiny_model.directory, "--json", "--nbest", 2, "--penalty", "none")
    ran = regard(*command, stdin=f"one dog sleeps\n\n{LONG}\n".encode())
    first, empty, long = map(json.loads, ran.lines)
    assert (first["line"], empty["line"], long["line"]) == (1, 2, 3)
    assert first["source"] == "one dog sleeps"
    assert first["translations"][0]["text"] == "ein Hund schläft"
    assert len(first["translations"]) == 2
    for one in first["translations"]:
        assert one["score"] == pytest.approx(one["log_prob"])
        assert sum(one["token_log_probs"]) == pytest.approx(one["log_prob"], abs=1e-5)
        assert len(one["token_log_probs"]) == len(one["tokens"]) + one["finished"]
    assert "error" not in first
    assert [one["text"] for one in empty["translations"]] == [""]
    assert long["translations"] == [] and "tokens" in long["error"]


def test_length_penalty_and_limits_are_passed_on(regard, tiny_model) -> None:
    def one(*options: object) -> dict[str, object]:
        ran = regard("translate", tiny_model.directory, "--json", *options, stdin=b"two dogs play\n")
        found: dict[str, object] = json.loads(ran.out)["translations"][0]
        return found

    summed, mean = one("--penalty", "none"), one("--penalty", "average", "--alpha", 1)
    count = len(mean["token_log_probs"])
    assert mean["score"] == pytest.approx(summed["score"] / count)
    assert len(one("--max-length", 2)["tokens"]) == 2
    assert len(one("--min-length", 9)["tokens"]) >= 9
    assert one("--beam", 1)["text"] == "zwei Hunde spielen"
    assert one("--stopping", "certain")["text"] == "zwei Hunde spielen"


def test_a_line_break_that_the_model_makes_does_not_shift_lines(regard, tiny_model, monkeypatch) -> None:
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "a\nb\r\nc")
    ran = regard("translate", tiny_model.directory, stdin=b"two dogs play\none cat sleeps\n")
    assert ran.lines == ["a b  c"] * 2


def test_out_is_written_whole_or_not_at_all(regard, tiny_model, tmp_path: Path) -> None:
    good = regard("translate", tiny_model.directory, "--out", tmp_path / "good.txt", stdin=b"one dog sleeps\n")
    assert (good.code, good.out) == (0, "")
    assert (tmp_path / "good.txt").read_text("utf-8") == "ein Hund schläft\n"
    bad = regard("translate", tiny_model.directory, "--out", tmp_path / "bad.txt", stdin=b"one dog sleeps\n\xff\n")
    assert bad.code == 2
    assert bad.err == ("regard: error: standard input, line 2: not valid UTF-8: byte 0xff at position 1 of the line\n")
    assert [path.name for path in tmp_path.iterdir()] == ["good.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "missing.txt"], "missing.txt: no such file"),
        (["MODEL", "folder"], "folder: is a folder, expected a file"),
        (["MODEL", "damaged.gz"], "damaged.gz: damaged or incomplete gzip data"),
        (["MODEL", "--out", "nowhere/out.txt"], "--out nowhere/out.txt: there is no folder nowhere"),
        (["MODEL", "--out", "folder"], "--out folder: is a folder"),
        (["MODEL", "--nbest", "4"], "--nbest 4 is more than the beam of 3: add --beam 4"),
        (["MODEL", "--min-length", "5", "--max-length", "4"], "--min-length 5 is more than --max-length 4"),
        (["MODEL", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["MODEL", "--ensemble", "nowhere"], "nowhere: no such model directory"),
        (["MODEL", "--prefixes", "missing.txt"], "missing.txt: no such file"),
        (["MODEL", "--prefixes", "two.txt"], "two.txt: has more than 1 lines; expected one for each line"),
        (["MODEL", "--constraints", "none.txt"], "none.txt: has 0 lines; expected one for each line"),
        (["nowhere", "missing.txt"], "missing.txt: no such file"),  # before the model is looked at
        (["nowhere", "--prefixes", "missing.txt"], "missing.txt: no such file"),
        (["MODEL", "--alpha", "inf"], "--alpha inf: expected a number from 0 to 10"),
        (["MODEL", "--alpha", "1000"], "--alpha 1000: expected a number from 0 to 10"),
        (["MODEL", "--max-length", "999"], "max_length is 999; the model has positions for"),
        (["MODEL", "--scores", "--json"], "--scores and --json: the scores are written already"),
        (["MODEL", "--scores", "--nbest", "2"], "--scores and --nbest: the scores are written already"),
        (["MODEL", "--scores", "--sample", "--samples", "2"], "--scores and --samples: the scores are written"),
        (["MODEL", "--prefixes", "-"], "--prefixes -: expected the name of a file"),
        (["MODEL", "--temperature", "0.7", "--seed", "3"], "--temperature, --seed: only with --sample"),
        (["MODEL", "--sample", "--beam", "3"], "--sample and --beam: sampling has no beam"),
        (["MODEL", "--sample", "--constraints", "two.txt"], "--sample and --constraints"),
        (["MODEL", "--sample", "--temperature", "0"], "--temperature 0 would be the most probable token"),
        (["MODEL", "--sample", "--temperature", "-1"], "--temperature -1: expected a number above 0"),
        (["MODEL", "--sample", "--top-p", "0"], "--top-p 0: expected a number above 0"),
        (["MODEL", "--repetition-penalty", "nan"], "--repetition-penalty nan: expected a number above 0"),
        (["MODEL", "--diversity", "0.5"], "--diversity: only with --diverse-groups"),
        (["MODEL", "--diverse-groups", "2"], "--diverse-groups 2 doesn't divide the beam of 3: add --beam 4"),
        (["MODEL", "--diverse-groups", "3", "--constraints", "two.txt"], "--diverse-groups and --constraints"),
        (["nowhere"], "nowhere: no such model directory"),
        (["folder"], "folder: not a model directory, it has no config.json"),
        (["damaged"], "model.safetensors: damaged or not safetensors"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    regard, tiny_model, tmp_path: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "two.txt").write_text("ein\nein\n")
    (tmp_path / "none.txt").write_text("")
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(b"one dog\n" * 99)[:-9])
    (tmp_path / "damaged").mkdir()
    for file in tiny_model.directory.iterdir():
        content = file.read_bytes()
        (tmp_path / "damaged" / file.name).write_bytes(content[:99] if file.suffix == ".safetensors" else content)
    before = sorted(tmp_path.rglob("*"))
    command = [str(tiny_model.directory) if argument == "MODEL" else argument for argument in arguments]
    ran = regard("translate", *command, stdin=b"one dog sleeps\n")
    assert ran.code == 2
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err
    if "two.txt:" not in message:  # what is found at the end only
        assert ran.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_samples_follow_from_the_seed_whatever_stands_around_them(regard, tiny_model) -> None:
    command = ("translate", tiny_model.directory, "--sample", "--temperature", 2, "--seed", 8, "--quiet")
    many = regard(*command, stdin="\n".join([*tiny_model.sources, tiny_model.sources[0]]).encode())
    assert many.err == ""
    assert many.lines[0] == many.lines[-1]
    assert many.lines[:-1] != tiny_model.targets
    for source, line in zip(tiny_model.sources[:3], many.lines, strict=False):
        assert regard(*command, stdin=source.encode()).lines == [line]
        several = regard(*command, "--samples", 3, stdin=source.encode()).lines
        assert several[0].split(" ||| ")[1] == line and len(several) == 3
        assert [row.split(" ||| ")[0] for row in several] == ["0"] * 3
    other = regard(*command[:-2], 9, stdin="\n".join(tiny_model.sources).encode())
    assert other.lines != many.lines[:-1]


@pytest.mark.parametrize(
    "options",
    [
        ["--sample", "--top-k", 1],
        ["--sample", "--top-p", 0.01],
        ["--sample", "--min-p", 1],
        ["--sample", "--temperature", 0.001],
        ["--diverse-groups", 3, "--diversity", 0.1],
        ["--no-repeat-ngram", 2],
        ["--repetition-penalty", 1.1],
    ],
)
def test_a_model_that_is_certain_says_the_same_by_any_search(regard, tiny_model, options) -> None:
    ran = regard("translate", tiny_model.directory, *options, stdin="\n".join(tiny_model.sources).encode())
    assert ran.lines == tiny_model.targets


def test_prefixes_and_constraints_are_in_the_translations(regard, tiny_model, tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_text("heute\n\neine Ka\n")
    (tmp_path / "phrases").write_text("\nHund\tspielt\n\n")
    command = ("translate", tiny_model.directory, "--beam", 5)
    text = b"two cats play\none dog sleeps\none cat plays\n"
    ran = regard(*command, "--prefixes", tmp_path / "prefixes", "--constraints", tmp_path / "phrases", stdin=text)
    assert ran.code == 0
    assert ran.lines[0].startswith("heute ") and ran.lines[2] == "eine Katze spielt"
    assert "Hund" in ran.lines[1] and "spielt" in ran.lines[1]
    (tmp_path / "prefixes").write_text("heute\n" + "zwei " * 40 + "\n\n")
    ran = regard(*command, "--prefixes", tmp_path / "prefixes", stdin=text)
    assert ran.code == 1 and ran.lines[1] == "" and ran.lines[2] == "eine Katze spielt"
    assert "line 2: not translated: the source: with its prefix, a translation has" in ran.err


def test_an_ensemble_of_a_model_and_itself_is_the_model(regard, tiny_model) -> None:
    text = "\n".join(tiny_model.sources).encode()
    both = regard("translate", tiny_model.directory, "--ensemble", tiny_model.directory, "--scores", stdin=text)
    one = regard("translate", tiny_model.directory, "--scores", stdin=text)
    for ours, theirs in zip(both.lines, one.lines, strict=True):
        assert ours.split("\t")[1] == theirs.split("\t")[1]
        assert float(ours.split("\t")[0]) == pytest.approx(float(theirs.split("\t")[0]), abs=1e-5)


def test_an_unknown_option_gets_a_hint(regard, tiny_model) -> None:
    ran = regard("translate", tiny_model.directory, "--beem", 3)
    assert ran.code == 2
    assert "--beem" in ran.err and "--beam" in ran.err
    wrong = regard("translate", tiny_model.directory, "--penalty", "gnm")
    assert wrong.code == 2 and "gnmt" in wrong.err


def test_phrases_that_rules_do_not_allow_are_a_problem(regard, tiny_model, tmp_path: Path) -> None:
    (tmp_path / "phrases").write_text("\nzwei\tzwei\n")
    command = ("translate", tiny_model.directory, "--constraints", tmp_path / "phrases", "--no-repeat-ngram", 1)
    ran = regard(*command, stdin=b"one dog sleeps\ntwo cats play\n")
    assert (ran.code, ran.lines) == (1, ["ein Hund schläft", ""])
    assert "line 2: not translated: the source: its phrases cannot be said under the rules" in ran.err


@pytest.mark.parametrize("command", ["translate", "tokenize", "detokenize"])
def test_a_closed_standard_input_is_one_line(tiny_model, command: str) -> None:
    line = f'exec "$0" -m regard {command} "$1" <&-'
    ran = subprocess.run(["sh", "-c", line, sys.executable, tiny_model.directory], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "regard: error: standard input is closed; give it text, or the name of a file instead\n"


def _start(tiny_model, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "regard", "translate", str(tiny_model.directory), "--threads", "1", *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_line_typed_is_answered_at_once_and_ctrl_c_is_quiet(tiny_model) -> None:
    with _start(tiny_model) as process:
        assert process.stdin and process.stdout and process.stderr
        for source, target in (("one dog sleeps", "ein Hund schläft"), ("two cats play", "zwei Katzen spielen")):
            process.stdin.write(f"{source}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().decode() == f"{target}\n"
        for _ in range(10):  # again if need be: see the like test in test_cli_app.py
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
        assert process.returncode == 128 + signal.SIGINT
        assert process.stderr.read() == b""


def test_a_reader_that_leaves_is_no_error(tiny_model) -> None:
    with _start(tiny_model) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"one dog sleeps\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ein Hund schläft\n".encode()
        process.stdout.close()
        process.stdin.write(b"one dog sleeps\n")
        process.stdin.close()
        assert process.wait(30) in (1, 128 + signal.SIGPIPE)  # not 2: nothing was wrong
        assert process.stderr.read() == b""
