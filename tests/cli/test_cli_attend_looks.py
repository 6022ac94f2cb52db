"""`regard attend` beyond alignments of regard models: other looks, Hugging Face models, recordings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from regard.cli.attend import attend
from regard.cli.attend_choices import BELONGS, Show, possible_shows
from regard.cli.grouped_help import GroupedCommand
from regard.errors import ArgumentError
from regard.runs.load import load_translator
from regard.runs.recordings import TranslatorSubject, open_subject

SOURCE, TARGET = "today two cats play", "heute spielen zwei Katzen"
TEXT = "two dogs play and one cat sleeps"
WORDS = (*SOURCE.split(), "dogs", "and", "one", "cat", "sleeps", "zwei", "Hunde", "spielen", "ein", "Hund")
PARTS = {"layers": 2, "attention_heads": 2, "ffn_dim": 16}


@pytest.fixture(scope="module")
def hugging(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A decoder, and an encoder–decoder, with weights that mean nothing."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    import torch

    special = ["<pad>", "</s>", "<unk>", "<s>"]
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    names = dict(zip(("pad_token", "eos_token", "unk_token", "bos_token"), special, strict=True))
    size: dict[str, Any] = {"vocab_size": len(ids), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3}
    width: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    makers = {
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**size, **width, num_attention_heads=2, max_position_embeddings=64)
        ),
        "bart": lambda: transformers.BartForConditionalGeneration(
            transformers.BartConfig(
                **size,
                d_model=16,
                **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in PARTS.items()},
                max_position_embeddings=64,
                decoder_start_token_id=0,
                forced_eos_token_id=None,
            )
        ),
    }
    found = {}
    for name, make in makers.items():
        found[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            make().save_pretrained(found[name])
        if name == "bart":  # a target is read up to its last word only where something follows that
            raw.post_processor = tokenizers.processors.TemplateProcessing(
                single="$A </s>", special_tokens=[("</s>", ids["</s>"])]
            )
        transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(found[name])
    return found


@pytest.fixture(scope="module")
def recording(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    subject = TranslatorSubject(load_translator(tiny_model.directory, device="cpu"))
    path = tmp_path_factory.mktemp("recording") / "two.safetensors"
    subject.record(["one dog", SOURCE], ["ein Hund", TARGET]).save(path)
    return path


@pytest.mark.parametrize("show", ["text", "rollout", "summary", "map"])
def test_every_look_in_every_form(regard, tiny_model, tmp_path: Path, show: str) -> None:
    files = [tmp_path / f"a.{ending}" for ending in ("png", "svg", "html", "json")]
    options = [
        part
        for name, file in zip(("png", "svg", "html", "json-file"), files, strict=True)
        for part in (f"--{name}", file)
    ]
    ran = regard("attend", tiny_model.directory, SOURCE, TARGET, "--show", show, *options)
    assert ran.code == 0 and ran.out.strip() and "\x1b" not in ran.out
    assert all(f"wrote {file}" in ran.err for file in files)
    assert files[0].read_bytes().startswith(b"\x89PNG") and "<svg" in files[1].read_text("utf-8")
    page = files[2].read_text("utf-8")
    assert SOURCE in page and not re.search(r'(src|href)="(http|//)', page)
    content = json.loads(files[3].read_text("utf-8"))
    assert content["model"] == str(tiny_model.directory)
    printed = regard("attend", tiny_model.directory, SOURCE, TARGET, "--show", show, "--json", "--quiet")
    assert json.loads(printed.out) == content and printed.err == ""


def test_a_decoders_text_is_shown_by_itself(regard, hugging: dict[str, Path]) -> None:
    pytest.importorskip("transformers")
    ran = regard("attend", hugging["llama"], TEXT, "--token", "cat", "--layer", "1", "--head", "0", "--json")
    one = json.loads(ran.out)["highlights"][0]
    assert (one["direction"], one["chosen"], one["view"]) == ("looked at", "cat", "model.layers.1.self_attn · head 0")
    table = open_subject(hugging["llama"], device="cpu").record([TEXT])["model.layers.1.self_attn"]
    at = TEXT.split().index("cat")
    assert one["shares"] == pytest.approx(table[0, 0, at].tolist(), abs=1e-6)
    plain = regard("attend", hugging["llama"], TEXT)
    assert plain.code == 0 and plain.lines[0].startswith("what sleeps (text 6) looked at")
    longer = regard("attend", hugging["llama"], TEXT, "--generate", "3", "--show", "map", "--json")
    assert json.loads(longer.out)["rows"][-1] > len(TEXT.split())


def test_an_encoder_decoder_aligns_by_itself(regard, hugging: dict[str, Path], tmp_path: Path) -> None:
    given = ("attend", hugging["bart"], "two dogs play", "zwei Hunde spielen")
    found = json.loads(regard(*given, "--json").out)
    assert found["source_words"] == ["two", "dogs", "play"] and found["target_words"] == ["zwei", "Hunde", "spielen"]
    heads = [name for name in found["views"] if " · head " in name]
    assert len(heads) == 4 and found["view"] == "mean of 2 layers (cross) · mean of heads"
    ran = regard(*given, "--pharaoh", "--heads", tmp_path / "heads.png", "--gold", "0-0")
    assert len(ran.lines) == 1 and (tmp_path / "heads.png").exists()
    source, target, gold = tmp_path / "s", tmp_path / "t", tmp_path / "g"
    source.write_text("two dogs play\n\none cat\n")
    target.write_text("zwei Hunde spielen\n\nein Hund\n")
    gold.write_text("0-0 1-1 2-2\n\n0-0\n")
    lines = regard("attend", hugging["bart"], "--source", source, "--target", target).lines
    assert lines[0] == ran.lines[0] and lines[1] == "" and len(lines) == 3
    own = [json.loads(line) for line in regard("attend", hugging["bart"], "--source", source, "--json").lines]
    alone = json.loads(regard("attend", hugging["bart"], "two dogs play", "--json").out)
    assert own[0]["target"] == " ".join(alone["target_words"]) and own[0]["links"] == alone["links"]
    assert own[0]["target"] and own[1] == {"line": 2, "source": "", "target": "", "links": []}
    ranked = regard("attend", hugging["bart"], "--source", source, "--target", target, "--gold-file", gold, "--json")
    content = json.loads(ranked.out)
    assert content["pairs"] == 2 and len(content["heads"]) == 6
    rates = [one["error_rate"] for one in content["heads"]]
    assert rates == sorted(rates)


def test_a_recording_needs_no_model(regard, recording: Path, tiny_model) -> None:
    ran = regard("attend", recording, "--element", "1", "--json")
    wanted = load_translator(tiny_model.directory, device="cpu").attention(SOURCE, TARGET).alignment(layer=0, head=None)
    found = json.loads(ran.out)
    assert found["source_words"] == SOURCE.split() and found["target_words"] == TARGET.split()
    for row, other in zip(found["weights"], wanted.weights.tolist(), strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    first = regard("attend", recording, "--token", "dog", "--kind", "self", "--direction", "both")
    assert "what dog (source" in first.out and "what looked at dog (source" in first.out
    assert "two.safetensors" in json.loads(regard("attend", recording, "--show", "map", "--json").out)["model"]


def test_a_text_comes_from_a_file(regard, tiny_model, tmp_path: Path) -> None:
    (tmp_path / "s").write_text(f"{SOURCE}\n")
    (tmp_path / "t").write_text(f"{TARGET}\n")
    ran = regard("attend", tiny_model.directory, "--text", tmp_path / "s", "--target", tmp_path / "t", "--show", "map")
    same = regard("attend", tiny_model.directory, SOURCE, TARGET, "--show", "map")
    assert ran.code == 0 and ran.out == same.out
    piped = regard("attend", tiny_model.directory, "--text", "-", "--pharaoh", stdin=f"{SOURCE}\n".encode())
    assert piped.lines == regard("attend", tiny_model.directory, SOURCE, "--pharaoh").lines


def test_best_heads_of_a_regard_model(regard, tiny_model, tmp_path: Path) -> None:
    source, target, gold = tmp_path / "s", tmp_path / "t", tmp_path / "g"
    source.write_text(f"{SOURCE}\n{'two dogs play ' * 30}\n")
    target.write_text(f"{TARGET}\nx\n")
    gold.write_text("0-0 1-2 2-3 3-1\n\n")
    given = ("attend", tiny_model.directory, "--source", source, "--target", target, "--gold-file", gold)
    ran = regard(*given, "--png", tmp_path / "a.png", "--html", tmp_path / "a.html")
    assert ran.code == 1 and f"{source} and {target}, line 2: left out: the source has" in ran.err
    assert "decoder.layers.0.cross" in ran.out and (tmp_path / "a.png").exists() and (tmp_path / "a.html").exists()
    gold.write_text("0-0 9-2\n\n")
    assert "line 1: " in regard(*given).err


RECORDED = [
    (["text"], "SOURCE: {} is a recording, its text is in it; leave out SOURCE"),
    (["--generate", "3"], "leave out --generate"),
    (["--element", "2"], "element is 2"),
    (["--show", "text", "--token", "xyz"], "there is no token 'xyz'"),
    (["--device", "cuda:7"], "--device cuda:7: {} is a recording"),
    (["--show", "map", "--layer", "7"], "layer 7: there are cross attentions 0 to 0"),
]


@pytest.mark.parametrize(("arguments", "message"), RECORDED)
def test_what_a_recording_has_not(regard, recording: Path, arguments: list[str], message: str) -> None:
    ran = regard("attend", recording, *arguments)
    assert ran.code == 2 and message.format(recording) in ran.err and ran.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [SOURCE, "--show", "text", "--gold", "0-0"],
            "--gold is for --show alignment, and doesn't go with --show text",
        ),
        (
            [SOURCE, "--gold", "0-0", "--token", "x"],
            "--token is for --show text or rollout, and doesn't go with --gold",
        ),
        ([SOURCE, "--show", "rollout", "--head", "1"], "--head is for --show alignment, text or map"),
        ([SOURCE, "--show", "map", "--head", "-1"], "--head -1: expected a number from 0, or mean"),
        ([SOURCE, "--element", "1"], "--element is for recordings"),
        ([SOURCE, "--show", "map", "--generate", "2"], "--generate: a translator writes whole translations"),
        ([SOURCE, "--text", "s"], "--text is instead of SOURCE"),
        ([SOURCE, "--gold-file", "g"], "--gold-file is for a text"),
        (["--source", "s", "--gold-file", "g"], "--gold-file needs the translations"),
        (["--source", "s", "--target", "t", "--gold-file", "g", "--head", "1"], "leave out --head"),
        (["--source", "s", "--show", "map"], "--source is for --show alignment"),
        ([SOURCE, "--show", "summary", "--png", "no/x.png"], "--png no/x.png: there is no folder no"),
        ([SOURCE, "--show", "nothing"], "'nothing' is not one of"),
    ],
)
def test_what_makes_no_sense(regard, tiny_model, arguments: list[str], message: str) -> None:
    ran = regard("attend", tiny_model.directory, *arguments)
    assert ran.code == 2 and message in ran.err and ran.out == ""


def test_what_a_decoder_has_not(regard, hugging: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "s").write_text("two dogs\n")
    for arguments, message in (
        ([TEXT, "--show", "alignment"], "there is no cross-attention here"),
        ([TEXT, "zwei Hunde"], "targets are for encoder"),
        ([TEXT, "--beam", "2"], "--beam is for translators made by `regard train`, not for a LlamaForCausalLM"),
        ([TEXT, "--show", "rollout", "--kind", "cross"], "kind cross: there is no such attention here, only: causal"),
        (["--source", tmp_path / "s"], "alignments are of a source and a target: LlamaForCausalLM reads one text"),
    ):
        ran = regard("attend", hugging["llama"], *arguments)
        assert ran.code == 2 and message in ran.err and ran.out == "", arguments


def test_a_direction_that_a_token_lacks_is_named(regard, hugging: dict[str, Path]) -> None:
    given = ("attend", hugging["bart"], "two dogs", "zwei Hunde", "--show", "text", "--direction", "both")
    ran = regard(*given, "--token", "Hunde", "--token", "two", "--json", "--quiet")
    assert ran.code == 0 and len(json.loads(ran.out)["highlights"]) == 2
    first, second = ran.err.splitlines()
    assert first.startswith("--direction both: left out what looked at Hunde: there is no token 'Hunde'")
    assert second.startswith("--direction both: left out what two looked at: there is no token 'two'")
    assert regard(*given, "--kind", "self", "--token", "two").err == ""


def test_missing_paths_are_named(regard, tmp_path: Path) -> None:
    assert f"{tmp_path / 'a.safetensors'}: no such recording" in regard("attend", tmp_path / "a.safetensors").err
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    assert "b.safetensors" in regard("attend", tmp_path / "b.safetensors").err


def test_options_say_what_may_be_shown() -> None:
    nothing: dict[str, Any] = dict.fromkeys(BELONGS)
    assert possible_shows(None, nothing) == list(Show)
    assert possible_shows(None, nothing | {"--token": ["x"]}) == [Show.text, Show.rollout]
    assert possible_shows(None, nothing | {"--head": "0", "--kind": "self"}) == [Show.text, Show.map]
    assert possible_shows(Show.map, nothing | {"--layer": "0", "--token": []}) == [Show.map]
    with pytest.raises(ArgumentError, match="--pharaoh"):
        possible_shows(Show.summary, nothing | {"--pharaoh": True})


def test_help_stands_in_groups() -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.command(cls=GroupedCommand)(attend)
    shown = CliRunner().invoke(app, ["--help"]).output
    order = ["Arguments:", "What is shown:", "  --show <", "Text:", "  --text <", "Word alignments:", "  --gold <"]
    places = [shown.index(f"\n{one}") for one in [*order, "Files:", "  --png <", "Options:", "  --device <"]]
    assert places == sorted(places)
