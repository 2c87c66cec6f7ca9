"""The model card claims what the run did, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import recipe_data
from huggingface_hub import ModelCard

from nlp_transfer.card.facts import Facts, told_of
from nlp_transfer.card.text import card_text
from nlp_transfer.chosen import told
from nlp_transfer.parts import METHODS, recipe_from
from nlp_transfer.recipe import resolve
from nlp_transfer.recipe.publishing import CardSpec
from nlp_transfer.recipe.schema import Part
from nlp_transfer.report.record import Record

ADAPTED, FAR = "adapted to a target domain", "trained without any text of a target domain"
ENVIRONMENT: dict[str, Any] = {
    "started": "2026-11-21T11:24:58+00:00",
    "hardware": {"processor": "x", "cores": 2, "gpus": [], "processes": 1},
    "versions": {},
    "commit": None,
    "data": {},
    "model": {"id": "some/model", "revision": None, "commit": None, "local": False, "head": None},
}
ROWS = [{"text": "good " * length, "gold": "good", "label": "good"} for length in range(1, 4)]
INTERVAL = {"interval": {"value": 0.5, "low": 0.4, "high": 0.6}}


def card(*args: Any, **changes: Any) -> str:
    """The card of a run that was never made, on one line."""
    return " ".join(whole_card(*args, **changes).split())


def whole_card(kept: str = "adapted", splits: tuple[str, ...] = ("source.dev", "target.test"), **changes: Any) -> str:
    """The card of a run that was never made."""
    more, answers = changes.pop("facts", {}), changes.pop("answers", {})
    scores = INTERVAL | changes.pop("scores", {})
    model, base = changes.pop("model", "some/model"), changes.pop("base", "some/model")
    dev, domains, prints = changes.pop("dev", "memory"), changes.pop("domains", None), changes.pop("prints", {})
    test = changes.pop("test", "memory")
    values = recipe_data(Path("run"), Path("x"), source_only=True, **changes) | {"model": model}
    values["data"]["target"]["train"] = "memory"
    values["data"]["source"]["dev"] = dev
    values["data"]["target"]["test"] = test
    recipe = resolve(recipe_from(values))
    metrics = {
        "headline": "accuracy",
        "confidence": 0.95,
        "selection": told(recipe.selection.name),
        "kept": kept,
        "scores": {role: dict.fromkeys(splits, scores) for role in ("adapted", "source-only")},
    }
    environment = ENVIRONMENT | {"data": prints}
    record = Record(Path("run"), recipe, metrics, environment, [], [], domains)
    # What it would read from the run's folder.
    vars(record)["answers"] = dict.fromkeys(metrics["scores"], ROWS) | answers
    local = Path(base).is_dir()
    facts = Facts(
        labels=["bad", "good"],
        auto_class="AutoModelForSequenceClassification",
        relation="adapter" if recipe.tuning.name == "lora" else "finetune",
        base=None if local else base,
        base_name=Path(base).name if local else base,
        methods=told_of(METHODS, [Part(name=name) for name in METHODS]),
    )
    return card_text(record, replace(facts, **more))


def pretrain(**settings: Any) -> list[Any]:
    return [{"name": "pretrain", **settings}, "finetune"]


CORPUS = {"path": "more.txt"}
MODEL = {"id": "some/model", "extend_vocabulary": {"tokens": 5}}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        (FAR, {"methods": ("l2sp",)}),
        (FAR, {"stages": pretrain(text="source")}),
        (FAR, {"stages": pretrain(corpus=CORPUS)}),
        (FAR, {"stages": pretrain(corpus=CORPUS | {"choose": {"share": 0.5, "like": "source"}})}),
        (ADAPTED, {"stages": pretrain(corpus=CORPUS | {"choose": {"share": 0.5}})}),
        (ADAPTED, {"stages": pretrain()}),
        (ADAPTED, {"stages": pretrain(text="both")}),
        (ADAPTED, {"stages": pretrain(text="both"), "model": MODEL}),
        (ADAPTED, {"stages": ["finetune", "self_train"]}),
        (ADAPTED, {"methods": ("l2sp", "anchor")}),
        (ADAPTED, {"methods": ("l2sp",), "selection": "bnm"}),
        (ADAPTED, {"methods": ("l2sp",), "stages": [{"name": "finetune", "on": "both"}]}),
    ],
)
def test_only_what_read_target_text_is_called_adapted(claim: str, changes: dict[str, Any]) -> None:
    text = card(**changes)
    assert claim in text
    assert ({ADAPTED, FAR} - {claim}).pop() not in text


def test_a_twin_that_was_kept_is_not_given_the_making_of_the_other_model() -> None:
    text = card("source-only", methods=("dann",))
    assert "trained on the source domain only; the adapted model was not kept" in text
    assert "`model/` was fine-tuned on labelled rows alone." in text
    assert "fine-tuned on labelled rows alone" not in card(methods=("dann",))


def test_checkpoints_are_told_apart_where_different_scores_chose_them() -> None:
    assert "The checkpoint was selected on source dev; target labels were used for the final" in card(methods=("dann",))
    assert (
        "The adapted model's checkpoint was selected on bnm of unlabelled target text, the source-only model's on "
        "source dev; target labels"
    ) in card(methods=("dann",), selection="bnm")


def test_target_labels_are_mentioned_only_where_there_were_any() -> None:
    text = card(splits=("source.dev",), methods=("dann",))
    assert "selected on source dev; no target labels were used." in text


def test_an_adapter_of_a_local_model_says_what_it_needs() -> None:
    assert "num_labels=2)`." in card(tuning="lora")
    local = card(tuning="lora", base=str(Path(__file__).parent))
    assert "num_labels=2)`, with its base model at the path that `adapter_config.json` names." in local
    assert "base model at" not in card(base=str(Path(__file__).parent))


def test_self_training_without_class_balance_is_not_called_class_balanced() -> None:
    plain = {"name": "self_train", "class_balanced": False}
    assert "self-training: without class balance; after Zou et al." in card(stages=["finetune", plain])
    assert "self-training: Zou et al." in card(stages=["finetune", "self_train"])


# Metadata, as the hub's own library reads it

CLASSES = {
    "accuracy": 0.5,
    "macro_f1": 0.25,
    "per_class": {
        "bad": {"precision": 0.5, "recall": 1.0, "f1": 0.75, "support": 40},
        "good": {"precision": 0.0, "recall": 0.0, "f1": 0.125, "support": 3},
    },
}
TOLD = CardSpec(license="mit", language=["en", "nb"], tags=["reviews"], datasets=["me/reviews"])


def test_metadata_says_what_is_known() -> None:
    data = ModelCard(whole_card(methods=("dann",), scores=CLASSES, facts={"spec": TOLD})).data
    assert (data.license, data.language, data.library_name) == ("mit", ["en", "nb"], "transformers")
    assert (data.base_model, data.base_model_relation) == ("some/model", "finetune")
    assert (data.datasets, data.pipeline_tag) == (["me/reviews"], "text-classification")
    assert {"domain-adaptation", "dann", "reviews"} <= set(data.tags)
    found = {(one.dataset_name, one.metric_type): one.metric_value for one in data.eval_results}
    assert found == {
        ("small: source.dev", "accuracy"): 0.5,
        ("small: source.dev", "f1"): 0.25,
        ("small: target.test", "accuracy"): 0.5,
        ("small: target.test", "f1"): 0.25,
    }


def test_scores_are_of_the_split_that_the_hub_knows() -> None:
    dev = {"path": "hub:a/b", "split": "validation"}
    found = ModelCard(whole_card(scores={"accuracy": 0.5}, dev=dev)).data.eval_results
    assert [(one.dataset_type, one.dataset_split) for one in found] == [("a/b", "validation"), ("target.test", "test")]


def test_equal_metrics_of_two_domains_stay_two_results() -> None:
    """One configuration a domain, the usual layout; and rows that only a label map tells apart."""
    here = {"path": "hub:a/b", "split": "test", "config": "books", "revision": "v1"}
    for there, place in (({"config": "kitchen"}, ("a/b", "kitchen")), ({}, ("target.test", None))):
        found = ModelCard(whole_card(scores={"accuracy": 0.5}, dev=here, test=here | there)).data.eval_results
        assert [(one.dataset_name, one.dataset_type, one.dataset_config) for one in found] == [
            ("small: source.dev", "a/b", "books"),
            ("small: target.test", *place),
        ]


def test_what_the_twin_did_not_read_is_not_said_of_it() -> None:
    for kept, more in (("adapted", ["a/corpus"]), ("source-only", [])):
        stages = pretrain(corpus={"path": "hub:a/corpus"})
        text = whole_card(kept, methods=("dann",), stages=stages, dev={"path": "hub:a/dev"})
        data = ModelCard(text).data.to_dict()
        assert ({"domain-adaptation", "dann"} <= set(data["tags"])) == (kept == "adapted")
        assert data.get("datasets", []) == more


def test_metadata_invents_nothing() -> None:
    data = ModelCard(whole_card(methods=("dann",), base=str(Path(__file__).parent))).data.to_dict()
    assert not {"license", "language", "base_model", "base_model_relation", "datasets"} & set(data)


@pytest.mark.parametrize(("relation", "library"), [("adapter", "peft"), ("merge", "transformers")])
def test_relation_to_the_base(relation: str, library: str) -> None:
    data = ModelCard(whole_card(tuning="lora", facts={"relation": relation})).data
    assert (data.base_model_relation, data.library_name) == (relation, library)


def test_a_published_model_is_shown_under_its_name() -> None:
    text = card(tuning="lora", facts={"place": "me/mine", "folder": "me/mine"})
    assert 'load_predictor("me/mine")' in text
    assert (
        'id2label=AutoConfig.from_pretrained("me/mine").id2label), tokenizer="me/mine")`; from the name alone it would'
        in text
    )
    text = card(facts={"place": "me/mine", "folder": "me/mine"})
    assert 'or `pipeline("text-classification", model="me/mine")`.' in text


def test_weak_classes_and_limits_are_told() -> None:
    text = card(methods=("dann",), scores=CLASSES)
    assert text.index("| good | 0.000") < text.index("| bad | 0.500"), "weakest first"
    assert "Fewer than 30 examples of good were scored on target.test" in text
    assert "nobody has measured" in card(splits=("source.dev",), methods=("dann",))


def test_what_adaptation_broke_and_how_far_the_words_are_is_told() -> None:
    def answers(labels: list[str]) -> list[dict[str, str]]:
        return [{"text": "some text", "gold": "good", "label": label} for label in labels]

    rows = {"source-only": answers(["good", "good", "bad", "bad"]), "adapted": answers(["bad", "good", "good", "good"])}
    words = {"views": [], "words": {"source.dev": 0.1, "target.test": 0.25}}
    text = card(methods=("dann",), answers=rows, domains=words)
    assert "It errs more than the source-only model on 1 of 4 rows of target.test (and less on 2)." in text
    assert "25.0% of the running words of target.test do not occur in the source's training text" in text
    assert "It errs more" not in card("source-only", methods=("dann",), answers=rows)


@pytest.mark.parametrize(
    ("changes", "paper"),
    [
        ({"tuning": {"name": "lora"}}, "Hu et al. 2022"),
        ({"tuning": {"name": "lora", "variant": "dora"}}, "Liu et al. 2024"),
        ({"average": "ema"}, "Polyak and Juditsky 1992"),
        ({"average": {"name": "swa"}}, "Izmailov et al. 2018"),
        ({"stages": pretrain(), "model": MODEL}, "up to 5 new tokens"),
    ],
)
def test_every_part_is_told_with_its_paper(changes: dict[str, Any], paper: str) -> None:
    assert paper in card(methods=("dann",), **changes)
    assert paper not in card(methods=("dann",))


def test_data_are_named_without_their_folders() -> None:
    assert "- source.dev: `dev.jsonl`, sha256" in card(dev="/home/me/secret/dev.jsonl", prints={"source.dev": "0" * 64})
    hub = {"path": "hub:me/reviews", "split": "dev"}
    assert "- source.dev: `hub:me/reviews`, sha256" in card(dev=hub, prints={"source.dev": "0" * 64})


def test_scores_by_length_are_those_of_the_kept_model() -> None:
    rows = [
        {"text": "word " * length, "gold": "good", "label": "good" if length <= right else "bad"}
        for right, length in zip(([20] * 20 + [25] * 20 + [0] * 20), range(1, 61), strict=True)
    ]
    text = whole_card("source-only", methods=("dann",), answers={"source-only": rows})
    table = text.split("On target.test, by length, with 95% intervals:\n\n")[1].split("\n\n")[0]
    assert [line.split(" [")[0] for line in table.splitlines()] == [
        "| texts of | rows | accuracy |",
        "|---|---|---|",
        "| 1 to 20 words | 20 | 1.000",
        "| 21 to 40 words | 20 | 0.250",
        "| 41 to 60 words | 20 | 0.000",
    ]
    assert "too few, or too alike in length, for scores by length" in card(methods=("dann",), answers={})
