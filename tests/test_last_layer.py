"""The last layer of a text classifier ends with the first token: the same logits and gradients, less work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from conftest import SMALL, build_model, tiny_config
from peft import LoraConfig, get_peft_model

from nlp_transfer.last_layer import AFTER_ATTENTION, read_first_token
from nlp_transfer.models import encoder_layers

IDS_NT = torch.tensor([[2, 50, 51, 52, 3], [2, 60, 3, 0, 0]])
MASK_NT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
SIZES = {"vocab_size": 100, "max_position_embeddings": 66}


def config(kind: str, **changes: Any) -> Any:
    relatives = {"camembert": transformers.CamembertConfig, "xlm-roberta": transformers.XLMRobertaConfig}
    made = relatives[kind](**SIZES, **SMALL) if kind in relatives else tiny_config(kind, SIZES["vocab_size"])
    made.update({"num_labels": 3, "initializer_range": 0.2} | changes)
    return made


def classifier(kind: str, head: str = "AutoModelForSequenceClassification", **changes: Any) -> Any:
    torch.manual_seed(1)
    return getattr(transformers, head).from_config(config(kind, **changes)).eval()


def answer(model: Any) -> Any:
    return model(input_ids=IDS_NT, attention_mask=MASK_NT, output_hidden_states=True)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    answer(model).logits[:, 1].sum().backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kind", sorted(AFTER_ATTENTION))
def test_logits_and_gradients_are_those_of_the_whole_model(kind):
    whole = classifier(kind)
    narrow = copy.deepcopy(whole)
    read_first_token(narrow)
    expected, found = answer(whole), answer(narrow)
    assert found.hidden_states[-1].shape == (2, 1, 32) and expected.hidden_states[-1].shape == (2, 5, 32)
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    assert not torch.allclose(found.logits[0], found.logits[1], atol=1e-3)  # they say something of the texts
    assert torch.allclose(found.hidden_states[-1][:, 0], expected.hidden_states[-1][:, 0], atol=1e-5)
    slopes, others = gradients(narrow), gradients(whole)
    assert slopes.keys() == others.keys()
    assert all(torch.allclose(slopes[name], others[name], atol=1e-4) for name in slopes)


@pytest.mark.parametrize("kind", sorted(AFTER_ATTENTION))
def test_the_last_feed_forward_block_sees_one_token(kind):
    model = classifier(kind)
    read_first_token(model)
    seen: list[int] = []
    for layer in encoder_layers(model):
        block = layer.ffn if kind == "distilbert" else layer.intermediate
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    answer(model)
    assert seen == [5, 1]


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("albert", "AutoModelForSequenceClassification"),  # its layers are one
        ("modernbert", "AutoModelForSequenceClassification"),  # another order of sums
        ("bert", "AutoModelForTokenClassification"),
        ("bert", "AutoModelForMaskedLM"),
        ("bert", "AutoModel"),
    ],
)
def test_what_needs_all_tokens_keeps_them(kind, head):
    model = classifier(kind, head)
    read_first_token(model)
    assert answer(model).hidden_states[-1].shape[1] == 5


def test_a_convolution_after_the_only_layer_keeps_all_tokens():
    model = classifier("deberta-v2", num_hidden_layers=1, conv_kernel_size=3, conv_act="gelu")
    read_first_token(model)
    assert answer(model).hidden_states[-1].shape[1] == 5


def test_a_convolution_after_the_first_of_two_layers_sees_all_tokens():
    whole = classifier("deberta-v2", conv_kernel_size=3, conv_act="gelu")
    narrow = copy.deepcopy(whole)
    read_first_token(narrow)
    assert answer(narrow).hidden_states[-1].shape[1] == 1
    assert torch.allclose(answer(narrow).logits, answer(whole).logits, atol=1e-5)


def test_chunks_of_the_feed_forward_block_keep_all_tokens():
    model = classifier("bert", chunk_size_feed_forward=5)
    read_first_token(model)
    assert answer(model).hidden_states[-1].shape[1] == 5


def test_under_checkpointing_and_in_a_copy():
    whole = classifier("bert")
    narrow = copy.deepcopy(whole)
    read_first_token(narrow)
    narrow = copy.deepcopy(narrow).train()
    for module in narrow.modules():
        module.p = 0.0  # dropout would differ
    narrow.gradient_checkpointing_enable({"use_reentrant": False})
    slopes, others = gradients(narrow), gradients(whole)
    assert slopes.keys() == others.keys()
    assert all(torch.allclose(slopes[name], others[name], atol=1e-4) for name in slopes)


def test_under_lora_and_after_merging():
    settings = LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(2)
    whole = get_peft_model(classifier("bert"), settings).eval()
    narrow = copy.deepcopy(whole)
    read_first_token(narrow)
    assert torch.allclose(answer(narrow).logits, answer(whole).logits, atol=1e-5)
    assert all(torch.allclose(mine, gradients(whole)[name], atol=1e-4) for name, mine in gradients(narrow).items())
    expected, merged = answer(whole).logits, narrow.merge_and_unload()
    assert torch.allclose(answer(merged).logits, expected, atol=1e-5)
    assert answer(merged).hidden_states[-1].shape[1] == 1


def test_nothing_of_it_is_saved(tmp_path):
    folder = build_model(tmp_path / "base", head="AutoModelForSequenceClassification")
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    model = load(folder)
    read_first_token(model)
    read_first_token(model)  # twice is as once
    assert answer(model).hidden_states[-1].shape[1] == 1
    model.save_pretrained(tmp_path / "again")
    assert answer(load(tmp_path / "again")).hidden_states[-1].shape[1] == 5
    assert (tmp_path / "again/config.json").read_bytes() == (folder / "config.json").read_bytes()
