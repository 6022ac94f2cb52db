"""`regard generate`: text as it comes, samples, stop strings, JSON, prompts from everywhere, errors."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import regard
from models.small_language_models import POSITIONS, save, small_language_model
from regard.cli.generate import SEPARATOR, _unescaped

PROMPT = "The tired dog"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small_language_model(ends=0), tmp_path_factory.mktemp("generate") / "gpt")


@pytest.fixture(scope="module")
def model(directory: Path) -> regard.runs.language_model.LanguageModel:
    return regard.load(directory, device="cpu")


def test_the_text_is_that_of_the_model(regard, directory, model) -> None:
    ran = regard("generate", directory, PROMPT, "--max-tokens", 20)
    (wanted,) = model.generate(PROMPT, max_tokens=20)
    assert ran.code == 0 and ran.out == f"{wanted.text}\n"
    assert "20 tokens in" in ran.err
    quiet = regard("generate", directory, PROMPT, "--max-tokens", 20, "--quiet", "--with-prompt")
    assert (quiet.out, quiet.err) == (f"{PROMPT}{wanted.text}\n", "")


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (["--greedy"], {"beam": 1}),
        (["--beam", 3], {"beam": 3}),
        (["--temperature", 0.7, "--top-k", 20, "--top-p", 0.9, "--min-p", 0.01, "--seed", 4],
         {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "seed": 4}),
        (["--stop", "e", "--stop", "\\n"], {"stop": ["e", "\n"]}),
    ],
)  # fmt: skip
def test_options_are_those_of_the_model(regard, directory, model, options, how) -> None:
    ran = regard("generate", directory, PROMPT, "--max-tokens", 25, "--quiet", *options)
    assert ran.out == "".join(f"{one.text}\n" for one in model.generate(PROMPT, max_tokens=25, **how))


def test_samples_stand_one_after_the_other(regard, directory, model) -> None:
    ran = regard("generate", directory, PROMPT, "--max-tokens", 9, "--samples", 3, "--stop", "e", "--with-prompt")
    wanted = model.generate(PROMPT, max_tokens=9, samples=3, stop=["e"])
    assert ran.out == f"{SEPARATOR}\n".join(f"{PROMPT}{one.text}\n" for one in wanted)


def test_json_has_all_that_was_found(regard, directory, model) -> None:
    ran = regard("generate", directory, PROMPT, "--max-tokens", 9, "--samples", 2, "--json", "--quiet")
    rows = [json.loads(line) for line in ran.lines]
    for number, (row, one) in enumerate(zip(rows, model.generate(PROMPT, max_tokens=9, samples=2), strict=True)):
        assert row == {
            "sample": number + 1,
            "prompt": PROMPT,
            "text": one.text,
            "finished": one.finished,
            "log_prob": one.log_prob,
            "token_log_probs": list(one.token_log_probs),
            "tokens": list(one.tokens),
            "ids": list(one.ids),
            "notes": [],
        }


def test_prompts_come_from_everywhere(regard, directory, tmp_path: Path) -> None:
    """The last line end of a file is none of the prompt's; the others are."""
    prompt = "Two cats\nplay"
    (tmp_path / "prompt.txt").write_bytes(b"\xef\xbb\xbf" + prompt.replace("\n", "\r\n").encode() + b"\n")
    options = ["--max-tokens", 9, "--quiet", "--with-prompt"]
    wanted = regard("generate", directory, prompt, *options)
    assert wanted.out.startswith(prompt)
    assert regard("generate", directory, "--file", tmp_path / "prompt.txt", *options).out == wanted.out
    assert regard("generate", directory, "-", *options, stdin=f"{prompt}\n".encode()).out == wanted.out
    assert regard("generate", directory, "--file", "-", *options, stdin=prompt.encode()).out == wanted.out
    other = regard("generate", directory, "-", *options, stdin=f"{prompt}\n\n".encode())
    assert other.out.startswith(f"{prompt}\n") and other.out != wanted.out


def test_without_a_prompt_a_text_begins(regard, directory, model) -> None:
    ran = regard("generate", directory, "--max-tokens", 9, "--quiet")
    assert ran.out == f"{model.generate('', max_tokens=9)[0].text}\n"


def test_a_file_is_written_whole(regard, directory, tmp_path: Path) -> None:
    printed = regard("generate", directory, PROMPT, "--max-tokens", 9, "--quiet")
    written = regard("generate", directory, PROMPT, "--max-tokens", 9, "--quiet", "--out", tmp_path / "out.txt")
    assert written.out == "" and (tmp_path / "out.txt").read_text("utf-8") == printed.out


def test_a_long_prompt_is_an_error_or_is_cut(regard, directory) -> None:
    long = "The tired dog sleeps " * 20
    ran = regard("generate", directory, long)
    assert ran.code == 2 and ran.out == ""
    assert f"the model has positions for {POSITIONS}: shorten it, or let it be cut from the left (--cut" in ran.err
    cut = regard("generate", directory, long, "--cut", "--max-tokens", 5)
    assert cut.code == 0 and "note: the prompt has" in cut.err and "the model read the last" in cut.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--greedy", "--beam", 2], "--greedy and --beam"),
        (["--greedy", "--top-k", 3, "--seed", 1], "--greedy and --top-k, --seed"),
        (["--beam", 2, "--samples", 2], "--beam and --samples"),
        (["--temperature", 0], "--temperature 0 would be the most probable token each time: --greedy"),
        (["--temperature", -1], "--temperature -1: expected a number above 0"),
        (["--top-p", 0], "--top-p 0: expected above 0 and at most 1"),
        (["--min-p", 1.5], "--min-p 1.5: expected above 0"),
        (["--seed", -1], "--seed"),
        (["--stop", ""], '--stop "": expected a string that is not empty'),
        (["--file", "x.txt"], "give a prompt or --file, not both"),
        (["--out", "no/such/out.txt"], "there is no folder"),
    ],
)
def test_contradictions_are_named_before_any_work(regard, directory, options, message) -> None:
    ran = regard("generate", directory / "missing", PROMPT, *options)
    assert ran.code == 2 and ran.out == "" and message in ran.err


def test_backslashes_in_stop_strings() -> None:
    for given, meant in (("\\n", "\n"), (r"\\nabla", r"\nabla"), (r"\\\n", "\\\n"), (r"\t", r"\t"), ("a\\", "a\\")):
        assert _unescaped(given) == meant


def test_a_model_for_something_else_is_refused(regard, tiny_model) -> None:
    ran = regard("generate", tiny_model.directory, PROMPT)
    assert ran.code == 2 and "a model for translation; regard generate needs a language model" in ran.err


def test_a_missing_file_and_bytes_that_are_no_text(regard, directory, tmp_path: Path) -> None:
    assert "no such file" in regard("generate", directory, "--file", tmp_path / "none.txt").err
    ran = regard("generate", directory, "-", stdin=b"fine\n\xff\n")
    assert ran.code == 2 and "standard input, line 2: not valid UTF-8" in ran.err


def test_text_comes_as_it_is_made_and_ctrl_c_ends_the_line(directory) -> None:
    command = [
        sys.executable,
        "-m",
        "regard",
        "generate",
        directory,
        PROMPT,
        "--max-tokens",
        "10000000",
        "--threads",
        "1",
    ]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    begun = process.stdout.read(30)  # long before it is done
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and err == b""
    assert len(begun) == 30 and out.endswith(b"\n")
    (begun + out).decode("utf-8")  # nothing is divided
