"""Heads for other labels: rows of shared labels stay bit for bit, others are fresh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import build_model
from helpers import Listener, data_of, make_recipe, saved_weights
from transformers import AutoModelForSequenceClassification

from nlp_transfer import finding, load_predictor, models, parts
from nlp_transfer.data.windows import Limits
from nlp_transfer.hardware import Precision
from nlp_transfer.heads import head_change, renew_head, with_labels
from nlp_transfer.models import Loaded
from nlp_transfer.preparing.splits import Splits
from nlp_transfer.running import run
from nlp_transfer.stages.model import task_model
from nlp_transfer.tasks.classification import Classification
from nlp_transfer.tasks.ner import Ner, tag_set
from nlp_transfer.workspace import Workspace

OUTPUT = {
    "bert": "classifier",
    "roberta": "classifier.out_proj",
    "distilbert": "classifier",
    "modernbert": "classifier",
}
"""Where text classifiers have their output layer."""


def trained(folder: Path, kind: str, head: str, labels: list[str]) -> Path:
    """Write a model with a trained head, as any library would leave it."""
    import transformers

    build_model(folder, kind, head)
    config = transformers.AutoConfig.from_pretrained(folder, id2label=dict(enumerate(labels)))
    torch.manual_seed(4)
    model = getattr(transformers, head).from_config(config)
    for name, value in model.named_parameters():
        if "classifier" in name:
            torch.nn.init.normal_(value)
    model.save_pretrained(folder)
    return folder


def built(folder: Path, tmp_path: Path, task: Any, tuning: str = "full", seed: int = 1) -> tuple[Any, list[str]]:
    """Build the model that a stage would train; return it with what the run says."""
    base = finding.resolve(str(folder))
    listener = Listener()
    recipe = make_recipe(tmp_path, folder, "ner" if isinstance(task, Ner) else "classification", tuning)
    none: Any = Splits.__new__(Splits)
    space = Workspace(
        recipe, none, task, base, models.load_tokenizer(base), Limits(32), Precision(False, ""), listener,  # type: ignore[arg-type]
        tmp_path / "log",
    )  # fmt: skip
    torch.manual_seed(seed)
    return task_model(space, recipe.train, None, "finetune"), listener.said


def head_of(model: Any, name: str) -> Any:
    """The output layer that is trained: under PEFT a copy."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    wrapper = inner.get_submodule(name.split(".")[0])
    layer = getattr(wrapper, "modules_to_save", {"default": wrapper})["default"]
    return layer.get_submodule(".".join(name.split(".")[1:]))


@pytest.mark.parametrize("tuning", ["full", "lora", "frozen"])
@pytest.mark.parametrize("kind", OUTPUT)
def test_rows_of_shared_labels_are_found_by_name(kind: str, tuning: str, tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", kind, "AutoModelForSequenceClassification", ["c", "a", "x", "b"])
    old = saved_weights(folder)
    model, said = built(folder, tmp_path, Classification(["a", "b", "c", "d"]), tuning)
    layer = head_of(model, OUTPUT[kind])
    for row, number in ((0, 1), (1, 3), (2, 0)):
        assert torch.equal(layer.weight[row], old[f"{OUTPUT[kind]}.weight"][number])
        assert layer.bias[row] == old[f"{OUTPUT[kind]}.bias"][number]
    assert layer.bias[3] == 0
    assert 0 < layer.weight[3].abs().max() < 0.1
    assert layer.weight.requires_grad
    assert model.config.id2label == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert said == [
        "finetune: the model's head keeps its rows of a, b, c; those of d are fresh; those of x are left out."
    ]
    # What lies before the output layer is what its rows read.
    named = {name.removeprefix("base_model.model."): value for name, value in model.named_parameters()}
    before = [key for key in old if key not in (f"{OUTPUT[kind]}.weight", f"{OUTPUT[kind]}.bias")]
    assert before
    assert all(torch.equal(named[key], old[key]) for key in before if key in named)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_tags_of_shared_entity_types_are_kept(tuning: str, tmp_path: Path) -> None:
    tags = tag_set(["LOC", "PER"])
    folder = trained(tmp_path / "model", "bert", "AutoModelForTokenClassification", tags)
    old = saved_weights(folder)["classifier.weight"]
    model, said = built(folder, tmp_path, Ner(tag_set(["EVENT", "PER"])), tuning)
    weight = head_of(model, "classifier").weight
    for row, tag in enumerate(tag_set(["EVENT", "PER"])):
        assert (tag in tags) == any(torch.equal(weight[row], old[number]) for number in range(len(tags)))
        assert tag not in tags or torch.equal(weight[row], old[tags.index(tag)])
    assert "keeps its rows of O, B-PER, I-PER; those of B-EVENT, I-EVENT are fresh" in said[0]


def test_labels_in_another_order_lose_nothing(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", "bert", "AutoModelForSequenceClassification", ["b", "a"])
    model, _ = built(folder, tmp_path, Classification(["a", "b"]))
    assert torch.equal(model.classifier.weight, saved_weights(folder)["classifier.weight"].flip(0))


@pytest.mark.parametrize(
    ("head", "labels"),
    [
        ("AutoModelForSequenceClassification", ["x", "y", "z"]),  # no label in common
        ("AutoModelForSequenceClassification", ["LABEL_0", "LABEL_1"]),  # names of the library, not of a task
        ("AutoModelForTokenClassification", ["a", "b"]),  # another kind of task
    ],
)
def test_other_heads_start_anew(head: str, labels: list[str], tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", "bert", head, labels)
    model, said = built(folder, tmp_path, Classification(["a", "b"]))
    assert said == ["finetune: the model's head is for other labels; it starts anew."]
    assert model.classifier.weight.abs().max() < 0.1
    assert not model.classifier.bias.any()


def test_the_same_labels_say_nothing(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", "bert", "AutoModelForSequenceClassification", ["a", "b"])
    model, said = built(folder, tmp_path, Classification(["a", "b"]))
    assert said == []
    assert torch.equal(model.classifier.weight, saved_weights(folder)["classifier.weight"])


def test_what_becomes_of_labels() -> None:
    change = head_change(["a", "b"], ["b", "c"])
    assert (change.kept, change.new, change.gone) == (["b"], ["c"], ["a"])
    many = head_change(["a"], ["a", *[f"n{number}" for number in range(12)]])
    assert str(many).endswith("n8, n9 and 2 more are fresh.")


def test_an_adapter_on_a_head_for_other_labels_loads_as_its_card_says(tiny_bert: Path, tmp_path: Path) -> None:
    import peft

    folder = trained(tmp_path / "model", "bert", "AutoModelForSequenceClassification", ["bad", "good", "odd", "poor"])
    result = run(make_recipe(tmp_path / "run", folder, "classification", "lora"), data=data_of("classification"))
    card = (result.folder / "README.md").read_text(encoding="utf8")
    (call,) = re.findall(r'by `AutoPeft(\w+)\.from_pretrained\("path/to/this/run/model", (.*)\)`', card)
    assert call == ("ModelForSequenceClassification", "num_labels=3, ignore_mismatched_sizes=True")
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        result.model, num_labels=3, ignore_mismatched_sizes=True
    )
    predictor = load_predictor(result.folder, precision="fp32")
    batch = predictor.tokenizer("the film was bad", return_tensors="pt", return_token_type_ids=False)
    assert torch.allclose(model.eval()(**batch).logits, predictor.model(**batch).logits, atol=1e-5)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_an_earlier_run_with_other_labels_lends_its_rows(tuning: str, tiny_bert: Path, tmp_path: Path) -> None:
    """A run on top of a run: at a rate of almost nothing, the rows come out as they went in."""
    first = run(make_recipe(tmp_path / "first", tiny_bert, "ner", tuning, learning_rate=0.05), data=data_of("ner"))
    renamed = {"PER": "PERSON"}
    changed = {
        role: rows.map(lambda row: {"tags": [tag[:2] + renamed.get(tag[2:], tag[2:]) for tag in row["tags"]]})
        if "tags" in rows.column_names and role != "target.unlabelled"
        else rows
        for role, rows in data_of("ner").items()
    }
    listener = Listener()
    still = make_recipe(tmp_path / "second", first.folder, "ner", "full", learning_rate=1e-9)
    second = run(still, data=changed, reporter=listener)  # type: ignore[arg-type]
    assert any("keeps its rows of O, B-LOC" in line and "B-PERSON, I-PERSON are fresh" in line
               for line in listener.said)  # fmt: skip
    merged = first.model if tuning == "full" else next((tmp_path / "second" / "stages").glob("base-*"))
    old, new = (saved_weights(folder)["classifier.weight"] for folder in (merged, second.model))
    tags = parts.label_names(still.task, ["LOC", "ORG", "PER"])
    assert torch.allclose(new[: len(tags) - 2], old[: len(tags) - 2], atol=1e-6)
    assert not torch.allclose(new[-2:], old[-2:], atol=1e-2)


def test_new_tokens_stay_known_where_a_head_changes(tmp_path: Path) -> None:
    folder = trained(tmp_path / "model", "bert", "AutoModelForSequenceClassification", ["a", "b"])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    loaded = Loaded(model, frozenset(), (5, 6))
    assert with_labels(loaded, ["a", "b"], ["a", "c"]).new_rows == renew_head(loaded).new_rows == (5, 6)
