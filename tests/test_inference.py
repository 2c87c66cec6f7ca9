"""Prediction: the same answers as plain transformers, for texts of any length, order, number and oddity."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
import transformers
from conftest import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from datasets import Dataset
from samples import ODD, PLAIN, TAGS, TEXT_HEAD, TOKEN_HEAD, plain_classifier, random_texts, recipe_values, write_data

from nlp_transfer import evaluate, finding, load_predictor, recipe_from, run, watch
from nlp_transfer.bulk.writing import answer_schema
from nlp_transfer.data.windows import Limits
from nlp_transfer.errors import DataError, ModelError
from nlp_transfer.inference import Predictor
from nlp_transfer.serving.schema import EntitiesAnswer
from nlp_transfer.settings import SETTINGS, write_settings
from nlp_transfer.tasks.classification import Classification, MultiLabel

TOKENIZERS = {
    "wordpiece": wordpiece_tokenizer,
    "byte-level": byte_level_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return plain_classifier(tmp_path_factory.mktemp("text"), wordpiece_tokenizer(), TEXT_HEAD, ["bad", "good", "so-so"])


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tagger(request, tmp_path_factory):
    return plain_classifier(tmp_path_factory.mktemp("tags"), TOKENIZERS[request.param](), TOKEN_HEAD, TAGS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    """A finished run of every kind: full fine-tuning, adapter, multi-label and tags."""
    results = {}
    for name, task, tuning in [
        ("full", "sentiment", "full"),
        ("lora", "sentiment", "lora"),
        ("multi_label", "multi_label", "full"),
        ("ner", "ner", "full"),
    ]:
        folder = write_data(tmp_path_factory.mktemp(name), task)
        results[name] = (folder, run(recipe_from(recipe_values(folder, tiny_bert, task, tuning=tuning))))
    return results


def plain_logits(folder, head, texts):
    """Logits as stock transformers gives them, one text at a time, whole texts only."""
    model = getattr(transformers, head).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]


# --- beside plain transformers -----------------------------------------------------------------------------------


def test_text_answers_are_those_of_plain_transformers(classifier):
    texts = random_texts(40, 0, longest=20)
    predictor = load_predictor(classifier, precision="fp32", batch_tokens=200)
    expected = plain_logits(classifier, TEXT_HEAD, texts)
    ours = predictor.logits(Dataset.from_dict({"text": texts}))
    assert np.allclose(ours, expected, atol=1e-5)
    for text, answer, row in zip(texts, predictor(texts), expected, strict=True):
        probabilities = np.exp(row) / np.exp(row).sum()
        assert answer["text"] == text
        assert answer["label"] == ["bad", "good", "so-so"][row.argmax()]
        assert answer["score"] == pytest.approx(probabilities.max(), abs=1e-5)
        assert list(answer["probabilities"]) == ["bad", "good", "so-so"]
        assert list(answer["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)
    assert len({answer["label"] for answer in predictor(texts)}) > 1  # else the test would show little


def test_long_texts_are_the_mean_over_windows(classifier):
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    [text] = [" ".join(random.Random(1).choices(PLAIN, k=300))]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    body = 62
    step = body - 31  # a stride of 32 is cut down to half of the window's own tokens
    rows = []
    with torch.inference_mode():
        for begin in range(0, len(ids), step):
            window = [tokenizer.cls_token_id, *ids[begin : begin + body], tokenizer.sep_token_id]
            rows.append(model(torch.tensor([window])).logits[0].numpy())
            if begin + body >= len(ids):
                break
    assert len(rows) > 5
    predictor = load_predictor(classifier, precision="fp32")
    [ours] = predictor.logits(Dataset.from_dict({"text": [text]}))
    assert np.allclose(ours, np.mean(rows, 0), atol=1e-5)


def test_order_is_kept_whatever_the_batches(classifier):
    texts = random_texts(30, 2)
    alone = [load_predictor(classifier, precision="fp32")(text)[0] for text in texts[:5]]
    reference = load_predictor(classifier, precision="fp32")(texts)
    for tokens in (64, 300, 100_000):
        answers = load_predictor(classifier, precision="fp32", batch_tokens=tokens)(texts)
        assert [answer["text"] for answer in answers] == texts
        for one, other in zip(answers, reference, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert [answer["label"] for answer in alone] == [answer["label"] for answer in reference[:5]]


def test_a_stream_answers_chunk_by_chunk(classifier):
    texts = random_texts(23, 3)
    predictor = load_predictor(classifier, precision="fp32")
    drawn = []

    def source():
        for text in texts:
            drawn.append(text)
            yield text

    stream = predictor.stream(source(), chunk=5)
    first = next(stream)
    assert len(drawn) == 5  # no more than a chunk is in memory
    answers = [first, *stream]
    for one, other in zip(answers, predictor(texts), strict=True):
        assert one["text"] == other["text"] and one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


# --- odd input ---------------------------------------------------------------------------------------------------


def test_odd_texts_are_answered(classifier):
    answers = load_predictor(classifier)(ODD)
    assert [answer["text"] for answer in answers] == [text.replace("\ud800", "\ufffd") for text in ODD]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert answer.get("empty", False) == (not answer["text"].strip())
        json.dumps(answer, ensure_ascii=False).encode("utf8")


def test_odd_texts_are_tagged(tagger):
    answers = load_predictor(tagger)(ODD)
    assert [answer["text"] for answer in answers] == [text.replace("\ud800", "\ufffd") for text in ODD]
    for answer in answers:
        check_offsets(answer)
        assert answer.get("empty", False) == (not answer["text"].strip())
    assert answers[0]["words"] == [] and answers[0]["entities"] == []


def test_no_texts_have_no_answers(classifier):
    assert load_predictor(classifier)([]) == []


def test_one_text_may_stand_alone(classifier):
    predictor = load_predictor(classifier)
    assert predictor("good film") == predictor(["good film"])


@pytest.mark.parametrize("value", [None, 3, b"good", ["good"]])
def test_what_is_no_text_is_refused(classifier, value):
    with pytest.raises(TypeError, match="text 1 is a"):
        load_predictor(classifier)(["good", value])


def test_what_is_no_text_is_numbered_within_all_texts(classifier):
    with pytest.raises(TypeError, match="text 3 is a"):
        list(load_predictor(classifier).stream(["good", "bad", "good", 3], chunk=2))


def test_a_very_long_text(classifier, tmp_path):
    text = " ".join(random.Random(4).choices(PLAIN, k=20_000))
    [answer] = load_predictor(classifier)([text])
    assert answer["label"] in ("bad", "good", "so-so")
    tagger = plain_classifier(tmp_path, wordpiece_tokenizer(), TOKEN_HEAD, TAGS)
    [answer] = load_predictor(tagger)([text])
    assert len(answer["words"]) == 20_000
    check_offsets(answer)


@pytest.mark.parametrize("name", ["config.json", SETTINGS])
@pytest.mark.parametrize("content", ["{", "[]", "\xff", ""])
def test_damaged_files_beside_a_model_are_named(classifier, tmp_path, name, content):
    folder = shutil.copytree(classifier, tmp_path / "damaged")
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=name):
        load_predictor(folder)


def test_damaged_adapters_and_settings_are_named(classifier, tmp_path):
    for name, content in (("adapter_config.json", "{"), ("adapter_config.json", "{}"), (SETTINGS, "{}")):
        folder = shutil.copytree(classifier, tmp_path / f"{name}-{content}")
        (folder / name).write_text(content)
        with pytest.raises(ModelError, match=name):
            load_predictor(folder)


def test_windows_that_hold_hardly_a_token_are_refused(classifier):
    for wanted in (-1, 0, 1, 7):
        with pytest.raises(ModelError, match=f"max_length {wanted} is too small.*8 to 64"):
            load_predictor(classifier, max_length=wanted)
    assert load_predictor(classifier, max_length=8)(["good film " * 20])[0]["label"]


# --- words and entities ------------------------------------------------------------------------------------------


def check_offsets(answer):
    text, before = answer["text"], 0
    for word in answer["words"]:
        assert text[word["start"] : word["end"]] == word["word"]
        assert word["start"] >= before and (word["score"] is None or 0 <= word["score"] <= 1)
        before = word["end"]
    by_start = {word["start"]: word for word in answer["words"]}
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert by_start[entity["start"]]["tag"] == f"B-{entity['label']}"
        inside = [word for word in answer["words"] if entity["start"] <= word["start"] < entity["end"]]
        assert entity["end"] == inside[-1]["end"]
        assert [word["tag"] for word in inside[1:]] == [f"I-{entity['label']}"] * (len(inside) - 1)
        assert entity["score"] == min(word["score"] for word in inside if word["score"] is not None)
    tagged = [word for word in answer["words"] if word["tag"] != "O"]
    covered = [w for w in tagged if any(e["start"] <= w["start"] < e["end"] for e in answer["entities"])]
    assert tagged == covered


def test_words_and_spans_fit_the_text(tagger):
    texts = [f"{text}, Anna Berg's  film (Oslo): 1,200.5!" for text in random_texts(8, 5, longest=60)]
    answers = load_predictor(tagger)([*texts, "Zürich—cafe\u0301 don't\tU.S. state-of-the-art"])
    assert any(answer["entities"] for answer in answers)
    for answer in answers:
        check_offsets(answer)
    assert [word["word"] for word in answers[-1]["words"]] == [
        "Zürich", "—", "cafe\u0301", "don't", "U.S.", "state-of-the-art",
    ]  # fmt: skip


def test_words_that_are_not_read_have_no_score(tmp_path):
    folder = plain_classifier(tmp_path, wordpiece_tokenizer(), TOKEN_HEAD, TAGS)
    [answer] = load_predictor(folder)(["good \ufe0f\u0301 film"])
    read = {word["word"]: word["score"] is not None for word in answer["words"]}
    assert read == {"good": True, "\ufe0f\u0301": False, "film": True}
    cut = load_predictor(folder, max_length=12)
    cut.limits = Limits(12, 0, truncate=True)
    [answer] = cut(["good film " * 20])
    scores = [word["score"] for word in answer["words"]]
    assert scores[0] is not None and len(scores) == 40
    first = scores.index(None)
    assert first <= 10 and scores[first:] == [None] * (40 - first)
    assert {word["tag"] for word in answer["words"][first:]} == {"O"}
    parquet = answer_schema(answer).field("words").type.value_type.field("score")
    assert parquet.nullable and EntitiesAnswer.model_validate(answer).words[-1].score is None


def test_word_scores_are_those_of_plain_transformers(tagger):
    texts = random_texts(10, 6, longest=12)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tagger)
    predictor = load_predictor(tagger, precision="fp32")
    for text, answer, logits in zip(texts, predictor(texts), plain_logits(tagger, TOKEN_HEAD, texts), strict=True):
        encoded = tokenizer(text)
        for word in answer["words"]:
            row = logits[encoded.char_to_token(word["start"])]
            probabilities = np.exp(row) / np.exp(row).sum()
            assert word["score"] == pytest.approx(probabilities[TAGS.index(word["tag"])], abs=1e-5)


# --- where models come from --------------------------------------------------------------------------------------


def test_run_folder_and_model_folder_are_the_same(finished):
    texts = random_texts(6, 7, longest=20)
    for name in ("full", "lora", "multi_label", "ner"):
        folder = finished[name][1].folder
        answers = load_predictor(folder)(texts)
        assert load_predictor(str(folder / "model"))(texts) == answers


def test_adapter_folder_is_answered_as_peft_answers(finished):
    from peft import AutoPeftModelForSequenceClassification

    model_folder = finished["lora"][1].model
    assert (model_folder / "adapter_config.json").is_file()
    texts = random_texts(6, 8, longest=20)
    model = AutoPeftModelForSequenceClassification.from_pretrained(model_folder, num_labels=2).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    predictor = load_predictor(model_folder, precision="fp32")
    ours = predictor.logits(Dataset.from_dict({"text": texts}))
    with torch.inference_mode():
        plain = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    assert np.allclose(ours, plain, atol=1e-5)
    assert predictor.task.labels == ["negative", "positive"]


def test_a_moved_model_folder_still_answers(finished, tmp_path):
    folder = shutil.copytree(finished["full"][1].model, tmp_path / "elsewhere")
    texts = random_texts(3, 9)
    assert load_predictor(folder)(texts) == load_predictor(finished["full"][1].folder)(texts)


@pytest.fixture
def asked(classifier, monkeypatch):
    """What the hub is asked for; it holds the classifier under any name."""
    asked = []

    def resolve(model_id, revision=None):
        asked.append((model_id, revision))
        return finding.ResolvedModel(model_id, revision, classifier, commit=f"commit of {revision}")

    monkeypatch.setattr(finding, "resolve", resolve)
    return asked


def test_a_revision_stands_behind_a_hub_id(asked, tmp_path, monkeypatch):
    predictor = load_predictor("user/model@v2")
    assert asked == [("user/model", "v2")] and predictor.commit == "commit of v2"
    assert load_predictor("user/model", revision="v3").commit == "commit of v3"
    load_predictor("user/model@refs/pr/1")
    assert asked[-1] == ("user/model", "refs/pr/1")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    for place in ("user/model", "user@home/model", "s3://key@bucket/model", "./run@v2"):
        load_predictor(place)
        assert asked[-1] == (place, None)
    (tmp_path / "run@2").mkdir()
    load_predictor(tmp_path / "run@2")
    assert asked[-1] == (str(tmp_path / "run@2"), None)


def test_the_commit_is_told_where_a_model_of_the_hub_has_answered(asked, classifier, tmp_path):
    rows = Dataset.from_dict({"text": ["good film", "bad film"], "label": ["so-so", "bad"]})
    assert evaluate("user/model@v2", rows).metrics["commit"] == "commit of v2"
    events = []
    watch("user/model@v2", ["good film"], events.append, reference="first")
    assert events[0]["event"] == "begin" and events[0]["commit"] == "commit of v2"


def test_no_commit_is_told_of_a_folder(classifier):
    rows = Dataset.from_dict({"text": ["good film", "bad film"], "label": ["so-so", "bad"]})
    assert "commit" not in evaluate(classifier, rows).metrics
    events = []
    watch(classifier, ["good film"], events.append, reference="first")
    assert "commit" not in events[0]


def test_thresholds_of_the_run_decide(finished):
    folder = finished["multi_label"][1].model
    predictor = load_predictor(folder)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf8"))
    assert predictor.task.thresholds_C.tolist() == list(settings["thresholds"].values())
    for answer in predictor(random_texts(20, 10)):
        given = [label for label, p in answer["probabilities"].items() if p > settings["thresholds"][label]]
        assert answer["labels"] == given
    low = Predictor(
        predictor.model, predictor.tokenizer, MultiLabel(predictor.task.labels, [0.0] * 3), predictor.limits
    )
    assert low("film")[0]["labels"] == predictor.task.labels


def test_settings_of_windows_are_kept(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "short")
    write_settings(folder, Classification(["bad", "good", "so-so"]), Limits(20, 3, truncate=True))
    assert load_predictor(folder).limits == Limits(20, 3, truncate=True)
    assert load_predictor(folder, max_length=30).limits == Limits(30, 3, truncate=True)


def test_more_than_the_model_can_read_is_refused(classifier):
    with pytest.raises(ModelError, match="64"):
        load_predictor(classifier, max_length=5000)


def test_a_multi_label_classifier_of_others(tmp_path):
    folder = plain_classifier(
        tmp_path, wordpiece_tokenizer(), TEXT_HEAD, ["a", "b"], problem_type="multi_label_classification"
    )
    [answer] = load_predictor(folder, precision="fp32")(["good film"])
    [logits] = plain_logits(folder, TEXT_HEAD, ["good film"])
    assert list(answer["probabilities"].values()) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
    assert answer["labels"] == [label for label, value in zip("ab", logits, strict=True) if value > 0]


def test_label_names_that_are_left_at_their_default(tmp_path):
    folder = plain_classifier(tmp_path, wordpiece_tokenizer(), TEXT_HEAD, ["LABEL_0", "LABEL_1"])
    assert "id2label" not in json.loads((folder / "config.json").read_text(encoding="utf8"))
    assert load_predictor(folder)("good")[0]["label"] in ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("labels", [["NOUN", "VERB", "DET"], ["O", "I-PER", "I-LOC"], ["O", "B-PER", "S-PER"]])
def test_token_labels_that_are_no_iob2_tags_are_refused(tmp_path, labels):
    folder = plain_classifier(tmp_path, wordpiece_tokenizer(), TOKEN_HEAD, labels)
    with pytest.raises(ModelError, match="IOB2"):
        load_predictor(folder)


def test_an_encoder_without_a_head_is_refused(tiny_bert):
    with pytest.raises(ModelError, match="Fine-tune it with a recipe"):
        load_predictor(tiny_bert)


def test_a_head_that_the_checkpoint_lacks_is_refused(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "claims")
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")
    with pytest.raises(ModelError, match="no trained task head"):
        load_predictor(folder)


def test_an_unfinished_run_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\n", encoding="utf8")
    with pytest.raises(ModelError, match="not finished"):
        load_predictor(tmp_path)


# --- evaluation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["full", "lora", "multi_label", "ner"])
def test_evaluate_gives_the_numbers_of_the_run(finished, name):
    folder, result = finished[name]
    [role] = result.metrics["scores"]
    for split, file in (("target.test", "test.jsonl"), ("source.dev", "dev.jsonl")):
        score = evaluate(load_predictor(result.folder, precision="fp32"), folder / file, resamples=100)
        expected = dict(result.metrics["scores"][role][split])
        assert score.interval.to_dict() == expected.pop("interval")
        assert score.metrics == expected


def test_evaluate_takes_a_dataset(finished):
    folder, result = finished["full"]
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf8").splitlines()]
    from_file = evaluate(result.folder, folder / "test.jsonl", resamples=100)
    assert evaluate(result.folder, Dataset.from_list(rows), resamples=100).metrics == from_file.metrics


def test_labels_that_the_model_does_not_know_are_named(finished):
    with pytest.raises(DataError, match="'mixed'"):
        evaluate(finished["full"][1].folder, Dataset.from_dict({"text": ["a"], "label": ["mixed"]}))
    unknown = Dataset.from_dict({"words": [["Anna"]], "tags": [["B-MISC"]]})
    with pytest.raises(DataError, match="'MISC'"):
        evaluate(finished["ner"][1].folder, unknown)
