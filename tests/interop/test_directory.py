"""Local Hugging Face directories: opened offline from safetensors, or refused with the reason; and what is recorded."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from regard.errors import ArgumentError, CheckpointError, MissingExtraError, UnsupportedError
from regard.interop.huggingface.directory import open_directory
from regard.recording import record
from regard.recording.file import load_recording
from regard.runs.recordings import HuggingFaceSubject, TranslatorSubject, is_recording, open_subject, read_texts

transformers = pytest.importorskip("transformers")

WORDS = ["one", "two", "dogs", "dog", "cat", "cats", "play", "plays", "sleep", "today"]
STACK = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 32}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", {**SMALL, **IDS, "num_key_value_heads": 2}),
    "BertForMaskedLM": ("BertConfig", {**SMALL, "max_position_embeddings": 32}),
    "BartForConditionalGeneration": (
        "BartConfig",
        {
            **STACK,
            **IDS,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "decoder_start_token_id": 0,
            "forced_eos_token_id": 2,
        },
    ),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 1, **IDS},
    ),
    "ViTModel": ("ViTConfig", {**SMALL, "image_size": 8, "patch_size": 4}),
}


def _tokenizer(**more: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    whole = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])
    named = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **{**named, **more})


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (config, settings) in MODELS.items():
        path = tmp_path_factory.mktemp(name)
        more = {} if name == "ViTModel" else {"vocab_size": 20}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = getattr(transformers, name)(getattr(transformers, config)(**settings, **more))
        model.save_pretrained(path)
        _tokenizer(model_max_length=20).save_pretrained(path)
        made[name] = path
    return made


@pytest.fixture
def copy(directories: dict[str, Path], tmp_path: Path) -> Path:
    """A directory of a Llama that may be damaged."""
    path = tmp_path / "model"
    path.mkdir()
    for file in directories["LlamaForCausalLM"].iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("name", MODELS)
def test_models_open_as_they_were_saved(name: str, directories: dict[str, Path], capfd) -> None:
    model, tokenizer = open_directory(directories[name])
    assert type(model).__name__ == name and not model.training and model.device.type == "cpu"
    saved = getattr(transformers, name).from_pretrained(directories[name])
    capfd.readouterr()
    for key, x in saved.state_dict().items():
        assert torch.equal(x, model.state_dict()[key]), key
    assert tokenizer("two dogs play")["input_ids"] == [5, 6, 10, 2]
    open_directory(str(directories[name]))
    assert capfd.readouterr() == ("", "")


def test_weights_keep_their_dtype_and_the_library_its_settings(copy: Path) -> None:
    transformers.LlamaForCausalLM.from_pretrained(copy).to(torch.bfloat16).save_pretrained(copy)
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    model, _ = open_directory(copy, torch.device("cpu"))
    assert model.dtype == torch.bfloat16
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_directory_without_a_tokenizer(copy: Path) -> None:
    for file in copy.glob("*token*"):
        file.unlink()
    assert open_directory(copy)[1] is None
    with pytest.raises(CheckpointError, match="has no files of a tokenizer"):
        open_subject(copy)


def _config(path: Path, **changes: Any) -> None:
    content = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: x for key, x in content.items() if x is not ...}))


def _pickle(path: Path) -> None:
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(b"never read")


def _shrink(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    weights.pop("model.layers.1.self_attn.q_proj.weight")
    save_file(weights, path / "model.safetensors", {"format": "pt"})


DAMAGES: dict[str, tuple[Any, str]] = {
    "no such class": (lambda p: _config(p, architectures=["MineForCausalLM"]), "has no model MineForCausalLM"),
    "a class that is no model": (lambda p: _config(p, architectures=["LlamaConfig"]), "has no model LlamaConfig"),
    "a function": (lambda p: _config(p, architectures=["pipeline"]), "has no model pipeline"),
    "no class": (lambda p: _config(p, architectures=...), r"architectures\[0\], not None"),
    "an odd class": (lambda p: _config(p, architectures=["os.system"]), r"not \['os.system'\]"),
    "no JSON": (lambda p: (p / "config.json").write_text("{"), "config.json: damaged or not readable"),
    "an odd number": (lambda p: _config(p, hidden_size=17), "transformers can't open its model"),
    "pickled": (
        _pickle,
        r"only in pytorch_model.bin.*model = LlamaForCausalLM.from_pretrained.*safe_serialization=True",
    ),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), "there are no weights, expected model.safetensors"),
    "damaged weights": (
        lambda p: (p / "model.safetensors").write_bytes(b"x" * 99),
        "can't open its model: SafetensorE",
    ),
    "missing weights": (
        _shrink,
        r"the weights lack model.layers.1.self_attn.q_proj.weight, which LlamaForCausalLM has",
    ),
    "a damaged tokenizer": (lambda p: (p / "tokenizer.json").write_text("{"), "can't open its tokenizer"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_directories(name: str, copy: Path) -> None:
    damage, message = DAMAGES[name]
    damage(copy)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_directory(copy)
    assert str(caught.value).startswith(str(copy)) and "\n" not in str(caught.value)


def test_code_of_the_directory_is_never_run(copy: Path) -> None:
    (copy / "mine.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Mine: pass\n")
    _config(copy, auto_map={"AutoModelForCausalLM": "mine.Mine", "AutoConfig": "mine.Mine"})
    open_directory(copy)
    assert not (copy / "ran").exists()


def test_without_the_library(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"need transformers: pip install 'regard\[huggingface\]'"):
        open_subject(copy)


def test_the_conversion_that_the_message_tells_of(copy: Path) -> None:
    model = transformers.LlamaForCausalLM.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, safe_serialization=True)
    assert open_directory(copy)[0].dtype == torch.float32


# What such a model reads


@pytest.fixture(scope="module")
def subjects(directories: dict[str, Path]) -> dict[str, HuggingFaceSubject]:
    return {name: open_subject(path, device="cpu") for name, path in directories.items()}


def test_kinds(subjects: dict[str, HuggingFaceSubject], tiny_model) -> None:
    kinds = {name: subject.kind for name, subject in subjects.items()}
    assert kinds == {
        "LlamaForCausalLM": "decoder",
        "BertForMaskedLM": "encoder",
        "BartForConditionalGeneration": "encoder-decoder",
        "T5ForConditionalGeneration": "encoder-decoder",
        "ViTModel": "encoder",
    }
    own = open_subject(tiny_model.directory, device="cpu", threads=1)
    assert isinstance(own, TranslatorSubject) and (own.kind, own.name) == ("translator", "Transformer")


OLD = int(transformers.__version__.partition(".")[0]) < 5
IN_NEW = [pytest.mark.skipif(OLD, reason="this version computes their attention in code of their own")]
BERT, T5 = (pytest.param(f"{name}", marks=IN_NEW) for name in ("BertForMaskedLM", "T5ForConditionalGeneration"))
LLAMA, BART = "LlamaForCausalLM", "BartForConditionalGeneration"
TEXTS = ["two dogs play", "one cat sleep today"]


@pytest.mark.parametrize("name", [LLAMA, BERT])
def test_one_stack(name: str, subjects: dict[str, HuggingFaceSubject]) -> None:
    subject = subjects[name]
    recording = subject.record(TEXTS, heads=[2, 0], where="*0*")
    (table,) = recording.values()
    assert recording.model == name and table.shape == (2, 2, 5, 5)
    queries, keys = recording.tokens(next(iter(recording)))
    assert queries == keys and queries[0].texts == ("two", "dogs", "play", "</s>", "<pad>")
    assert [word.text for word in keys[1].words] == ["one", "cat", "sleep", "today"]
    # as the whole model does by itself
    inputs = subject.tokenizer(TEXTS, padding=True, return_tensors="pt")
    taken = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad(), record(subject.model, "*0*", heads=[2, 0]) as whole:
        subject.model(**taken)
    assert torch.equal(next(iter(whole.values())).dense(), table.dense())


@pytest.mark.parametrize("name", [BART, T5])
def test_a_pair_of_stacks_is_fed_the_targets(name: str, subjects: dict[str, HuggingFaceSubject]) -> None:
    recording = subjects[name].record(TEXTS, ["one dog", "two cats play today"])
    (cross, *_) = [one for one, role in recording.roles.items() if role.kind == "cross"]
    assert recording[cross].shape[2:] == (5, 5)
    queries, keys = recording.tokens(cross)
    start = "<s>" if name.startswith("Bart") else "<pad>"
    assert [one.texts[0] for one in queries] == [start, start]
    # the last row reads the last word, and says the end
    assert queries[1].texts[1:] == ("two", "cats", "play", "today") and queries[0].special == (
        True,
        False,
        False,
        True,
        True,
    )
    assert keys[0].texts == ("two", "dogs", "play", "</s>", "<pad>")


@pytest.mark.parametrize("name", [BART, T5])
def test_a_pair_of_stacks_is_fed_its_own_output(name: str, subjects: dict[str, HuggingFaceSubject]) -> None:
    subject = subjects[name]
    recording = subject.record(TEXTS)
    (cross, *_) = [one for one, role in recording.roles.items() if role.kind == "cross"]
    queries, _ = recording.tokens(cross)
    inputs = subject.tokenizer(TEXTS, padding=True, return_tensors="pt")
    for number, row in enumerate(queries):
        own = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        said = subject.model.generate(**own, do_sample=False, max_new_tokens=20)[number].tolist()
        fed = [one for one, special in zip(row.ids, row.special, strict=True) if not special]
        assert fed == [one for one in said if one > 2][: len(fed)]


@pytest.mark.parametrize("name", [LLAMA, BART])
def test_generation(name: str, subjects: dict[str, HuggingFaceSubject]) -> None:
    recording = subjects[name].record(TEXTS, generate=3, where="*layers.1*")
    decoder = [one for one, role in recording.roles.items() if role.kind == "causal"]
    table = recording[decoder[0]]
    assert table.shape[0] == 2 and table.shape[2] == table.shape[3]
    most = 5 + 3 if name.startswith("Llama") else 1 + 3
    assert 1 < table.shape[2] <= most
    assert len(recording.tokens(decoder[0])[0]) == 2


@pytest.mark.parametrize("generate", [None, 3])
@pytest.mark.parametrize("name", [LLAMA, BERT, BART, T5])
def test_a_saved_recording_is_the_same(
    name: str, generate: int | None, subjects: dict[str, HuggingFaceSubject], tmp_path: Path
) -> None:
    if generate is not None and subjects[name].kind == "encoder":
        return
    recording = subjects[name].record(TEXTS, generate=generate)
    recording.save(tmp_path / "file")
    opened = load_recording(tmp_path / "file")
    assert list(opened) == list(recording) and len(opened) >= 2
    for path, table in recording.items():
        assert torch.equal(opened[path].dense(), table.dense())
        assert opened.tokens(path) == recording.tokens(path)


def test_a_tokenizer_without_padding(copy: Path) -> None:
    model, _ = open_directory(copy)
    subject = HuggingFaceSubject(model, _tokenizer(pad_token=None))
    recording = subject.record(TEXTS)
    assert recording["model.layers.0.self_attn"].shape == (2, 4, 5, 5)
    bare = HuggingFaceSubject(model, _tokenizer(pad_token=None, eos_token=None))
    with pytest.raises(ArgumentError, match="no token for padding"):
        bare.record(TEXTS)
    assert bare.record(TEXTS[:1])["model.layers.0.self_attn"].shape == (1, 4, 4, 4)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (LLAMA, {"texts": []}, "there is no text"),
    (LLAMA, {"texts": ["one", " "]}, "text 2 is blank"),
    (LLAMA, {"texts": ["one"], "targets": ["two"]}, "LlamaForCausalLM reads one text"),
    (LLAMA, {"texts": ["one"], "where": "nothing"}, "where='nothing' matches no attention"),
    (LLAMA, {"texts": ["one"], "heads": [4]}, "so no 4"),
    (LLAMA, {"texts": ["one"], "generate": 0}, "generate is 0"),
    (LLAMA, {"texts": ["one", "one " * 30]}, "text 2: the text has 31 tokens; the model has positions for 20"),
    ("BertForMaskedLM", {"texts": ["one"], "generate": 3}, "BertForMaskedLM can't generate, it only reads"),
    (BART, {"texts": ["one"], "targets": []}, "1 texts and 0 targets"),
    (BART, {"texts": ["one"], "targets": [""]}, "target 1 is blank"),
    (BART, {"texts": ["one"], "targets": ["two"], "generate": 3}, "give targets, or let the model generate"),
    (BART, {"texts": ["one"], "targets": ["one " * 30]}, "the target has 31 tokens"),
]


@pytest.mark.parametrize(("name", "asked", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_is_refused(
    name: str, asked: dict[str, Any], message: str, subjects: dict[str, HuggingFaceSubject]
) -> None:
    with pytest.raises(ArgumentError, match=message):
        subjects[name].record(**asked)


def test_models_that_read_no_text_or_no_more(
    subjects: dict[str, HuggingFaceSubject], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedError, match="ViTModel reads no text"):
        subjects["ViTModel"].record(["one"])
    subject = HuggingFaceSubject(subjects[LLAMA].model, _tokenizer(model_max_length=30))
    monkeypatch.setattr(subject.model.config, "max_position_embeddings", 9)
    with pytest.raises(ArgumentError, match="the text has 11 tokens; the model has positions for 9"):
        subject.record(["one " * 10])


def test_what_a_model_says_of_what_it_reads(subjects: dict[str, HuggingFaceSubject]) -> None:
    subject = HuggingFaceSubject(subjects[LLAMA].model, _tokenizer())
    subject.tokenizer.add_tokens([f"word{i}" for i in range(30)])  # beyond the embeddings
    with pytest.raises(UnsupportedError, match=r"can't read these texts \(2 tokens in the longest\): IndexError"):
        subject.record(["word29"])


def test_directories_of_neither_kind(tmp_path: Path, tiny_model) -> None:
    with pytest.raises(CheckpointError, match="no such model directory"):
        open_subject(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"made by `regard train`, or of a Hugging Face model; it has no config"):
        open_subject(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(CheckpointError, match="training has not finished"):
        open_subject(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="this version reads format 1"):
        open_subject(tmp_path)
    assert not is_recording(tmp_path) and is_recording(tmp_path / "config.json")


def test_a_translators_recording(tiny_model) -> None:
    subject = open_subject(tiny_model.directory, device="cpu")
    given = subject.record(tiny_model.sources[:3], tiny_model.targets[:3])
    own = subject.record(tiny_model.sources[:3])  # it has learned them by heart
    assert list(given) == list(own) and own.tokens("decoder.layers.0.cross")[0][0].texts[0] == "<bos>"
    for name, table in given.items():
        assert torch.equal(table.dense(), own[name].dense())
    with pytest.raises(ArgumentError, match=r"text 2: the source has \d+ tokens; the model has positions for 36"):
        subject.record(["one dog", "one " * 50])
    with pytest.raises(ArgumentError, match="generate: a translator"):
        subject.record(["one dog"], generate=3)


def test_reading_texts(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_bytes("one dog\r\nzwei Hünde \n".encode())
    assert read_texts(file, False) == ["one dog", "zwei Hünde "]
    assert read_texts(file, True) == ["one dog\nzwei Hünde "]
    file.write_text("one\n\ntwo\n")
    assert read_texts(file, True) == ["one\n\ntwo"]
