"""`regard record`: a file of what a model's attentions did with a text."""

import json
import os
from pathlib import Path

import pytest
import torch

import regard as package
from regard.runs.load import load_translator


def test_a_sentence_and_the_models_own_translation(regard, tiny_model, tmp_path: Path) -> None:
    file = tmp_path / "dogs.safetensors"
    ran = regard("record", tiny_model.directory, "two dogs play", "--out", file)
    assert (ran.code, ran.err) == (0, f"wrote {file} ({file.stat().st_size / 1000:,.1f} kB)\n")
    recording = package.load_recording(file)
    rows, columns = recording["decoder.layers.0.cross"].shape[2:]
    assert ran.lines == [
        "Transformer: 3 attentions, 1 text",
        f"  self, source → source: 1 × 2 heads, {columns} × {columns} tokens: encoder.layers.0.attention",
        f"  causal, target → target: 1 × 2 heads, {rows} × {rows} tokens: decoder.layers.0.attention",
        f"  cross, target → source: 1 × 2 heads, {rows} × {columns} tokens: decoder.layers.0.cross",
    ]
    queries, keys = recording.tokens("decoder.layers.0.cross")
    assert [word.text for word in queries[0].words] == ["zwei", "Hunde", "spielen"]
    assert [word.text for word in keys[0].words] == ["two", "dogs", "play"]
    with torch.no_grad():
        shown = load_translator(tiny_model.directory).attention("two dogs play", "zwei Hunde spielen").maps
    assert torch.equal(shown["decoder.layers.0.cross"].dense(), recording["decoder.layers.0.cross"].dense())


def test_files_and_choices(regard, tiny_model, tmp_path: Path) -> None:
    source, target, out = tmp_path / "in.en", tmp_path / "in.de", tmp_path / "out"
    source.write_text("".join(f"{line}\n" for line in tiny_model.sources), "utf-8")
    target.write_text("".join(f"{line}\n" for line in tiny_model.targets), "utf-8")
    chosen = ("--where", "*.cross", "--heads", "1", "--out", out)
    ran = regard("record", tiny_model.directory, "--text", source, "--target", target, *chosen, "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)
    recording = package.load_recording(out)
    assert list(recording) == ["decoder.layers.0.cross"]
    assert told["texts"] == len(tiny_model.sources) and told["bytes"] == out.stat().st_size
    (attention,) = told["attentions"]
    assert attention["shape"] == [*recording["decoder.layers.0.cross"].shape]
    assert attention["shape"][:2] == [len(tiny_model.sources), 1]
    _, keys = recording.tokens("decoder.layers.0.cross")
    assert [" ".join(word.text for word in row.words) for row in keys] == tiny_model.sources


def test_standard_input_and_documents(regard, tiny_model, tmp_path: Path) -> None:
    lines = b"one dog sleeps\ntwo cats play\n"
    for option, texts in (((), 2), (("--document",), 1), (("--text", "-"), 2)):
        ran = regard("record", tiny_model.directory, "--out", tmp_path / "out", *option, stdin=lines)
        assert ran.code == 0, ran.err
        assert package.load_recording(tmp_path / "out")["decoder.layers.0.cross"].shape[0] == texts


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("llama")
    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "two", "dogs", "play"])}
    whole = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        path
    )
    config = transformers.LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=20,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_a_hugging_face_model(regard, llama: Path, tmp_path: Path) -> None:
    ran = regard("record", llama, "two dogs play", "--out", tmp_path / "out", "--device", "cpu", "--threads", "1")
    assert ran.lines == [
        "LlamaForCausalLM: 3 attentions, 1 text",
        "  causal, text → text: 3 × 4 heads, 3 × 3 tokens: model.layers.0.self_attn … model.layers.2.self_attn",
    ]
    assert package.load_recording(tmp_path / "out").tokens("model.layers.1.self_attn")[0][0].texts[1] == "dogs"


def test_generation(regard, llama: Path, tmp_path: Path) -> None:
    ran = regard("record", llama, "two dogs", "--generate", "4", "--out", tmp_path / "out", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    table = package.load_recording(tmp_path / "out")["model.layers.2.self_attn"]
    assert table.shape in ((1, 4, 5, 5), (1, 4, 6, 6))  # the last token written need not have been read
    assert table.dense().triu(1).abs().max() == 0


ERRORS: list[tuple[list[str], str]] = [
    (["MODEL", "two dogs"], "give --out FILE.safetensors"),
    (["MODEL", "two dogs", "--out", "nowhere/out"], "--out nowhere/out: there is no folder nowhere"),
    (["MODEL", "two dogs", "--out", "-"], "--out -: expected the name of a file"),
    (["MODEL", "two dogs", "--text", "in", "--out", "out"], "give TEXT or --text, not both"),
    (["MODEL", "two dogs", "--document", "--out", "out"], "--document is for files"),
    (["MODEL", " ", "--out", "out"], "TEXT is blank"),
    (["MODEL", "two dogs", "--heads", "0,x", "--out", "out"], "--heads 0,x: expected numbers from 0"),
    (["MODEL", "two dogs", "--heads", "7", "--out", "out"], "this attention has heads 0 to 1, so no 7"),
    (["MODEL", "two dogs", "--where", "encoder", "--out", "out"], "where='encoder' matches no attention"),
    (["MODEL", "two dogs", "--generate", "3", "--out", "out"], "--generate: a translator writes whole translations"),
    (["MODEL", "two dogs", "--generate", "3", "--target", "in", "--out", "out"], "leave it out with --target"),
    (["MODEL", "--text", "in", "--target", "one", "--out", "out"], "2 texts and 1 line in one"),
    (["MODEL", "--text", "blank", "--out", "out"], "blank, line 2: is blank, expected a text"),
    (["MODEL", "--text", "empty", "--out", "out"], "empty: is empty, expected a text"),
    (["MODEL", "--text", "none", "--out", "out"], "none: no such file"),
    (["MODEL", "two " * 60, "--out", "out"], "the model has positions for 36"),
    (["nowhere", "two dogs", "--out", "out"], "nowhere: no such model directory"),
    (
        ["folder", "two dogs", "--out", "out"],
        "made by `regard train`, or of a Hugging Face model; it has no config.json",
    ),
    (["in", "two dogs", "--out", "out"], "in: no such model directory"),
    (["MODEL", "two dogs", "--out", "MODEL/model.safetensors"], "is in the directory of the model"),
    (["MODEL", "two dogs", "--out", "MODEL/new"], "is in the directory of the model"),
    (["MODEL", "two dogs", "--out", "link"], "--out link: is in the directory of the model"),
    (["MODEL", "--text", "in", "--out", "in"], "--out in: is the same file as --text"),
    (["MODEL", "--text", "one", "--target", "in", "--out", "./in"], "--out in: is the same file as --target"),
    (["MODEL", "two dogs", "--out", "one"], "--out one: exists, and only recordings are replaced (no recording"),
    (["MODEL", "two dogs", "--out", "pipe"], "--out pipe: exists, and only recordings are replaced (is no file)"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_errors_are_one_line(
    regard, tiny_model, tmp_path: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("in", "one dog\ntwo dogs\n"), ("one", "x\n"), ("blank", "x\n \n"), ("empty", "")):
        Path(name).write_text(content)
    Path("link").symlink_to(tiny_model.directory / "model.safetensors")
    os.mkfifo("pipe")
    Path("folder").mkdir()
    before = contents(Path()) | contents(tiny_model.directory)
    ran = regard("record", *[one.replace("MODEL", str(tiny_model.directory)) for one in arguments])
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") <= 2, ran.err
    assert contents(Path()) | contents(tiny_model.directory) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_recordings_and_empty_files_are_replaced(regard, tiny_model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.touch()
    for text, columns in (("two dogs play", 4), ("one", 2)):
        ran = regard("record", tiny_model.directory, text, "--where", "encoder.*", "--out", out)
        assert ran.code == 0, ran.err
        assert len(package.load_recording(out).tokens("encoder.layers.0.attention")[0][0].words) == columns - 1


def test_a_model_of_one_text_has_no_target(regard, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "two").write_text("zwei\ndrei\n")
    ran = regard("record", llama, "two dogs", "--target", tmp_path / "two", "--out", tmp_path / "out")
    assert ran.code == 2 and "--target is for models with a target: LlamaForCausalLM reads one text" in ran.err
