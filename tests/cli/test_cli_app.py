"""The command as a whole: help, errors, processes, completion, how it ends."""

import contextlib
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from regard.cli import app, main

NAMES = [*get_group(app).commands]


def test_without_arguments_there_is_help(regard) -> None:
    ran = regard()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == regard("--help").out
    assert {"train", "translate", "check-data", "detokenize", "average", "serve"} <= set(NAMES)
    assert all(f"\n  {name}" in ran.out for name in NAMES)
    assert "--install-completion" in ran.out.split("Commands:")[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_quiet_and_speaks_json_if_asked(regard, name: str) -> None:
    options = {option: one for one in get_group(app).commands[name].params for option in one.opts}
    assert options["--quiet"].is_flag and options["--json"].is_flag
    assert regard(name, "--help").code == 0


RUNNING = {
    "example": ["new"],
    "check-data": ["--source", "in.en", "--target", "in.de"],
    "train": ["--source", "in.en", "--target", "in.de", "--out", "run", "--dry-run"],
    "translate": ["MODEL", "in.en"],
    "evaluate": ["MODEL", "--source", "in.en", "--target", "in.de"],
    "score": ["MODEL", "--source", "in.en", "--target", "in.de"],
    "attend": ["MODEL", "one dog", "ein Hund", "--json-file", "a.json"],
    "record": ["MODEL", "--text", "in.en", "--target", "in.de", "--out", "a.safetensors"],
    "tokenize": ["MODEL", "in.en"],
    "detokenize": ["MODEL", "in.tokens"],
    "average": ["MODEL", "MODEL", "--out", "mean"],
    "export": ["MODEL", "--to", "huggingface", "--out", "exported"],
    "info": ["MODEL"],
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_on_standard_error_if_quiet(regard, tiny_model, tmp_path: Path, monkeypatch, name: str) -> None:
    if name in ("serve", "compare", "generate", "fill", "label"):
        return  # a service, several trainings, other kinds of models: quiet in tests of their own
    monkeypatch.chdir(tmp_path)
    for index, file in enumerate(("in.en", "in.de")):
        pairs = zip(tiny_model.sources, tiny_model.targets, strict=True)
        Path(file).write_text("".join(f"{pair[index]}\n" for pair in pairs), "utf-8")
    Path("in.tokens").write_text("▁one\n", "utf-8")
    arguments = [str(tiny_model.directory) if part == "MODEL" else part for part in RUNNING[name]]
    if name == "train":
        more = ["data.held_out_pairs=2", "tokenizer.kind=char", "tokenizer.vocabulary=200", "training.device=cpu"]
        arguments += [part for one in more for part in ("--set", one)]
    ran = regard(name, *arguments, "--quiet", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.lines[0] if name in LINE_BY_LINE else ran.out)


LINE_BY_LINE = ("translate", "score", "tokenize", "detokenize")


@pytest.mark.parametrize(
    ("encoding", "name"), [("latin-1", "attend"), ("latin-1", "check-data"), ("ascii", "check-data")]
)
def test_a_terminal_that_is_not_utf_8(regard, tiny_model, tmp_path, monkeypatch, encoding: str, name: str) -> None:
    (tmp_path / "in").write_text("同じ文\n", "utf-8")
    arguments = [tiny_model.directory, "one dog → 同", "ein Hund"]
    if name == "check-data":
        arguments = ["--source", tmp_path / "in", "--target", tmp_path / "in"]
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert regard(name, *arguments).code in (0, 1)
    terminal.flush()
    assert b"?" in terminal.buffer.getvalue()  # for what it lacks


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "regard -h"),
        (["--bad"], "No such option: --bad", "regard -h"),
        (["info"], "Missing argument 'MODEL'.", "regard info -h"),
        (["info", "a", "b"], "Got unexpected extra argument(s) (b)", "regard info -h"),
        (["evaluate", "a", "--jsn"], "No such option: --jsn", "regard evaluate -h"),
        (["evaluate", "a", "--limit", "x"], "Invalid value for '--limit': Input should be a valid integer", None),
        (["tokenize", "a", "--side", "left"], "Invalid value for '--side': 'left' is not one of 'source'", None),
        (["average", "a"], "Missing option '--out'.", "regard average -h"),
    ],
)
def test_a_command_line_that_is_not_understood(regard, arguments: list[str], message: str, hint: str | None) -> None:
    ran = regard(*arguments)
    first, second = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert first.startswith(f"regard: error: {message}")
    assert second == f"help: {hint or f'regard {arguments[0]} -h'}"


def test_other_processes_than_the_first_say_which_they_are(regard, monkeypatch) -> None:
    errors = []
    for rank in ("0", "3"):
        monkeypatch.setenv("RANK", rank)
        errors.append(regard("info", "nowhere").err)
    assert errors == [
        "regard: error: nowhere: no such model directory\n",
        "regard: error (process 3): nowhere: no such model directory\n",
    ]


def test_example_says_what_is_next_unless_quiet(regard, tmp_path: Path) -> None:
    ran = regard("example", tmp_path / "data")
    assert (ran.code, ran.out) == (0, "") and f"regard train {tmp_path / 'data' / 'recipe.toml'}" in ran.err
    ran = regard("example", tmp_path / "data", "--quiet", "--json")
    assert ran.err == "" and f'"recipe": "{tmp_path / "data" / "recipe.toml"}"' in ran.out


def complete(regard, monkeypatch, *words: str) -> list[str]:
    monkeypatch.setenv("_REGARD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(("regard", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    ran = regard()
    assert (ran.code, ran.err) == (0, "")
    return ran.out.split()


def test_completion_of_commands_options_and_choices(regard, monkeypatch) -> None:
    assert complete(regard, monkeypatch, "tr") == ["train", "translate"]
    assert {"--source", "--json", "--json-file"} <= set(complete(regard, monkeypatch, "evaluate", "x", "--"))
    assert complete(regard, monkeypatch, "tokenize", "x", "--side", "") == ["source", "target"]
    assert complete(regard, monkeypatch, "info", "x", "--js") == ["--json"]


@pytest.mark.parametrize(
    "words", [("info", ""), ("train", "rec"), ("evaluate", "x", "--source", ""), ("average", "a", "--out", "ru")]
)
def test_files_and_folders_are_left_to_the_shell(regard, monkeypatch, words: tuple[str, ...]) -> None:
    assert complete(regard, monkeypatch, *words) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_completes_in_bash(tmp_path: Path) -> None:
    bash = str(shutil.which("bash"))
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    source = subprocess.run(["regard"], capture_output=True, text=True, env=path | {"_REGARD_COMPLETE": "source_bash"})
    (tmp_path / "script").write_text(source.stdout)
    code = 'source ./script; COMP_WORDS=(regard det); COMP_CWORD=1; _regard_completion regard; echo "${COMPREPLY[@]}"'
    code += "; complete -p regard"
    done = subprocess.run([bash, "--norc", "-c", code], capture_output=True, text=True, env=path, cwd=tmp_path)
    assert done.stderr == ""
    found, how = done.stdout.splitlines()
    assert found == "detokenize"
    assert "-o default" in how  # bash completes files where the script has nothing to say


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "regard", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_reader_that_leaves_and_ctrl_c_are_no_errors(tiny_model) -> None:
    with start("tokenize", tiny_model.directory) as leaving, start("tokenize", tiny_model.directory) as stopped:
        for process in (leaving, stopped):
            assert process.stdin and process.stdout
            process.stdin.write(b"one dog\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")
        assert leaving.stdin and leaving.stdout and leaving.stderr and stopped.stderr
        leaving.stdout.close()
        leaving.stdin.write(b"one dog\n")
        leaving.stdin.close()
        assert leaving.wait(30) == 1
        for _ in range(10):
            # again, as a user would: a signal in the instant before Python begins to wait for input is seen after it
            stopped.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                stopped.wait(5)
                break
        assert stopped.returncode == 128 + signal.SIGINT
        assert leaving.stderr.read() == stopped.stderr.read() == b""


def test_importing_the_main_module_runs_nothing() -> None:
    # what multiprocessing does in a process that it starts; the command line, run, would raise SystemExit
    assert runpy.run_module("regard.__main__", run_name="__mp_main__")["main"] is main
