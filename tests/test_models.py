"""Loading models: fp32, safetensors, encoders, fast tokenizers; and clear refusals."""

from __future__ import annotations

import shutil

import peft
import pytest
import tokenizers
import torch
import transformers
from conftest import build_model, tiny_config, wordpiece_tokenizer
from helpers import edit_json
from safetensors.torch import load_file, save_file

from nlp_transfer.data.windows import Limits, windows_of_texts
from nlp_transfer.errors import ModelError
from nlp_transfer.finding import resolve
from nlp_transfer.models import load_model, load_tokenizer, longest_input, read_config, save_tokenizer
from nlp_transfer.recipe.schema import TrainSpec
from nlp_transfer.stages.model import dropouts

TEXT_HEAD = "AutoModelForSequenceClassification"


def load(folder, head=TEXT_HEAD, **changes):
    source = resolve(str(folder))
    return load_model(head, source, read_config(source, **changes))


def test_weights_are_fp32_whatever_the_checkpoint_holds(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "half")
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", dtype="float16")
    model = load(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(model.state_dict()[name], weights[name.removeprefix("bert.")].float())


def test_fresh_parameters_are_named(tiny_bert):
    loaded = load(tiny_bert, num_labels=3)
    assert loaded.fresh == {"classifier.weight", "classifier.bias"}
    assert any(name.startswith("cls.") for name in load(tiny_bert, "AutoModelForMaskedLM").fresh)


def test_pickled_adapters_are_refused(tiny_bert, tmp_path):
    folder = tmp_path / "adapter"
    peft.get_peft_model(load(tiny_bert).model, peft.LoraConfig(r=2, task_type="SEQ_CLS")).save_pretrained(folder)
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(tiny_bert))
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        load(folder)


def test_pickled_weights_are_refused(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "pickle")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors files only"):
        load(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_damaged_weights_are_refused(tiny_bert, tmp_path, damage):
    folder = shutil.copytree(tiny_bert, tmp_path / "damaged")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"\xff" * 100}[damage])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_damaged_configuration_is_refused(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "damaged")
    (folder / "config.json").write_text("{", encoding="utf8")
    with pytest.raises(ModelError, match="configuration cannot be used"):
        read_config(resolve(str(folder)))


def test_remote_code_is_never_run(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "remote")
    marker = tmp_path / "was_run"
    code = f"import pathlib\npathlib.Path({str(marker)!r}).write_text('x')\nclass C: pass\n"
    (folder / "own.py").write_text(code, encoding="utf8")
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForSequenceClassification"), "own.C")
    edit_json(folder / "config.json", auto_map=auto, model_type="own-type", architectures=["C"])
    with pytest.raises(ModelError, match="configuration cannot be used"):
        read_config(resolve(str(folder)))
    assert not marker.exists()


def test_remote_code_beside_a_known_type_is_ignored(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "remote")
    marker = tmp_path / "was_run"
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).write_text('x')\n", encoding="utf8")
    edit_json(folder / "config.json", auto_map={"AutoConfig": "own.C", "AutoModel": "own.M"})
    try:
        assert type(load(folder).model).__name__ == "BertForSequenceClassification"
    except ModelError as error:
        assert "configuration cannot be used" in str(error)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["gpt2", "t5", "bert-decoder"])
def test_a_model_that_is_no_encoder_is_refused(tmp_path, kind):
    config = {
        "gpt2": lambda: transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=20),
        "t5": lambda: transformers.T5Config(d_model=8, num_layers=1, num_heads=1, vocab_size=20, d_ff=8, d_kv=8),
        "bert-decoder": lambda: tiny_config("bert", 20),
    }[kind]()
    config.is_decoder = kind == "bert-decoder"
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not an encoder"):
        read_config(resolve(str(tmp_path)))


def test_a_tokenizer_that_exists_only_slow_is_refused(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "slow")
    (folder / "tokenizer.json").unlink()
    # Never given a fast version.
    edit_json(folder / "tokenizer_config.json", tokenizer_class="CanineTokenizer")
    with pytest.raises(ModelError, match="no fast version"):
        load_tokenizer(resolve(str(folder)))


def test_missing_tokenizer_and_missing_padding(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="no vocabulary"):
        load_tokenizer(resolve(str(folder)))
    tokenizer = wordpiece_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="no padding token"):
        load_tokenizer(resolve(str(folder)))


@pytest.mark.parametrize(("kind", "longest"), [("bert", 66), ("roberta", 64), ("mpnet", 64)])
def test_the_longest_input_is_what_the_model_can_read(tmp_path, kind, longest):
    build_model(tmp_path, kind)
    source = resolve(str(tmp_path))
    config, tokenizer = read_config(source), load_tokenizer(source)
    assert longest_input(config, tokenizer) == 64  # the tokenizer's own limit
    tokenizer.model_max_length = 10**30
    assert longest_input(config, tokenizer) == longest
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    ids = torch.full((1, longest), 5)
    with torch.inference_mode():
        assert model(ids).last_hidden_state.shape[1] == longest
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), 5))


@pytest.mark.parametrize("head", [TEXT_HEAD, "AutoModelForTokenClassification"])
@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet"]
)
def test_dropout_is_that_of_the_whole_model(kind, head):
    """Some architectures have a rate of their own for the head, or for what pools."""
    config = tiny_config(kind, 100)
    for rate in (0.0, 0.3):
        changes = dropouts(TrainSpec(dropout=rate, attention_dropout=rate), config)
        model = getattr(transformers, head).from_config(type(config)(**config.to_dict() | changes))
        found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
        assert found <= {rate}, found


def test_a_saved_tokenizer_cuts_nothing(tiny_bert, tmp_path):
    tokenizer = load_tokenizer(resolve(str(tiny_bert)))
    text = "the film was bad " * 30
    windows_of_texts(tokenizer, [text], Limits(16, 4))
    save_tokenizer(tokenizer, tmp_path)
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(plain.encode(text).ids) > 100
