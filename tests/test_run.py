"""Whole runs of a tiny model: what lies in the run folder, that it is true, and that it can be used."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import transformers
from datasets import Dataset
from helpers import Listener, read_json, read_lines
from safetensors.torch import load_file, save_file
from samples import multi_label_rows, ner_rows, recipe_values, sentiment_rows, write_data

from nlp_transfer import evaluate, finding, load_predictor, load_recipe, recipe_from, resolve, run, runfolder, running
from nlp_transfer import inference as inference_module
from nlp_transfer.conclusions import in_one_sentence
from nlp_transfer.errors import RunError
from nlp_transfer.recipe import dump
from nlp_transfer.report.run import report_run
from nlp_transfer.runfolder import claim
from nlp_transfer.screen import show_run


def every_file(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, tiny_bert):
    """A run that adapts (pretraining and a method), with what it said."""
    folder = write_data(tmp_path_factory.mktemp("adapted"), "sentiment")
    values = recipe_values(
        folder,
        tiny_bert,
        methods=["dann"],
        stages=[{"name": "pretrain", "head_steps": 2, "train": {"max_steps": 2}}, "finetune"],
    )
    values["data"]["target"]["dev"] = "target_dev.jsonl"
    values["train"] |= {"evaluate_every": 1, "max_steps": 4}
    recipe = recipe_from(values)
    listener = Listener()
    return folder, recipe, run(recipe, reporter=listener), listener


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_bert):
    """A run that does not adapt."""
    folder = write_data(tmp_path_factory.mktemp("plain"), "sentiment")
    return folder, run(recipe_from(recipe_values(folder, tiny_bert)))


# --- what is there -----------------------------------------------------------------------------------------------


def test_the_folder_holds_what_was_promised_and_nothing_half_written(adapted):
    files = every_file(adapted[2].folder)
    for name in ("recipe.yaml", "environment.json", "metrics.json", "log.jsonl", "README.md", "model/config.json"):
        assert name in files
    for place in ("stages/1-pretrain", "stages/2-finetune", "stages/source-only"):
        assert f"{place}/done.json" in files and f"{place}/model/config.json" in files
    assert {name for name in files if name.startswith("predictions/")} == {
        f"predictions/{role}.{split}.jsonl"
        for role in ("adapted", "source-only")
        for split in ("source.dev", "target.dev", "target.test")
    }
    left = [name for name in files if ".part" in name or "checkpoint-" in name or name.endswith((".bin", ".pt"))]
    assert left == []
    assert not any("_adaptation" in name for name in files if "model/" in name)


def test_the_recipe_in_the_folder_runs_again(adapted):
    _, recipe, result, _ = adapted
    again = load_recipe(result.folder / "recipe.yaml")
    assert dump(resolve(again)) == dump(resolve(recipe)) == (result.folder / "recipe.yaml").read_text(encoding="utf8")
    listener = Listener()
    before = {name: path.stat().st_mtime_ns for name, path in every_file(result.folder).items()}
    assert run(again, reporter=listener).metrics == result.metrics
    assert any("finished" in line for line in listener.said)
    assert {name: path.stat().st_mtime_ns for name, path in every_file(result.folder).items()} == before


def test_the_same_recipe_elsewhere_gives_the_same_model(adapted, tmp_path):
    _, recipe, result, _ = adapted
    other = run(recipe.model_copy(update={"output": str(tmp_path / "other")}))
    assert other.metrics == result.metrics
    for name, path in every_file(result.folder / "model").items():
        assert (other.model / name).read_bytes() == path.read_bytes(), name


def test_environment(adapted):
    environment = read_json(adapted[2].folder / "environment.json")
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["versions"]["transformers"] == transformers.__version__
    assert environment["seed"] == adapted[1].seed
    assert environment["hardware"]["processes"] == 1
    assert set(environment["data"]) == {
        "source.train", "source.dev", "target.unlabelled", "target.dev", "target.test",
    }  # fmt: skip
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in environment["data"].values())
    assert {"total", "pretrain", "finetune", "source-only"} <= set(environment["seconds"])
    assert environment["model"]["id"] == adapted[1].model.id
    json.dumps(environment, allow_nan=False)


def test_the_log_names_stages_and_losses(adapted):
    lines = read_lines(adapted[2].folder / "log.jsonl")
    assert {line["stage"] for line in lines} == {"pretrain head", "pretrain", "finetune", "source-only"}
    finetune = [line for line in lines if line["stage"] == "finetune"]
    assert any({"loss_task", "loss_dann_domain", "dann_domain_accuracy"} <= set(line) for line in finetune)
    assert [line["step"] for line in finetune if "eval_accuracy" in line] == [1, 2, 3, 4]
    assert not any(
        key.startswith(("loss_dann", "dann")) for line in lines for key in line if line["stage"] != "finetune"
    )


def test_the_run_says_what_it_does(adapted):
    said = "\n".join(adapted[3].said)
    for part in ("model: ", "precision: fp32", "fresh one", "source dev accuracy"):
        assert part in said


# --- whether it is true ------------------------------------------------------------------------------------------


def test_the_twin_has_the_same_steps_and_no_adaptation(adapted):
    place = adapted[2].folder / "stages"
    ours, twin = read_json(place / "2-finetune/done.json"), read_json(place / "source-only/done.json")
    assert ours["steps"] == twin["steps"] == 4
    assert ours["fingerprint"] != twin["fingerprint"]


def test_the_twin_is_what_a_run_without_adaptation_gives(adapted, tmp_path, tiny_bert):
    folder, _, result, _ = adapted
    values = recipe_values(folder, tiny_bert, output=str(tmp_path / "run"))
    values["data"]["target"]["dev"] = "target_dev.jsonl"
    values["train"] |= {"evaluate_every": 1, "max_steps": 4}
    alone = run(recipe_from(values))
    assert alone.metrics["scores"]["source-only"] == result.metrics["scores"]["source-only"]
    assert "gain" not in alone.metrics and set(alone.metrics["scores"]) == {"source-only"}


def test_the_gain_is_the_difference_of_the_scores(adapted):
    metrics = adapted[2].metrics
    for split, gain in metrics["gain"].items():
        ours, twin = (metrics["scores"][role][split]["interval"]["value"] for role in ("adapted", "source-only"))
        assert gain["value"] == pytest.approx(ours - twin)
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert set(metrics["gain"]) == {"source.dev", "target.dev", "target.test"}
    assert metrics == read_json(adapted[2].folder / "metrics.json")


def test_predictions_give_the_scores_and_come_from_the_selected_model(adapted):
    folder, _, result, _ = adapted
    for role, stage in (("adapted", "2-finetune"), ("source-only", "source-only")):
        model = result.folder / "stages" / stage / "model"
        rows = read_lines(result.folder / f"predictions/{role}.target.test.jsonl")
        gold = [row["label"] for row in read_lines(folder / "test.jsonl")]
        assert [row["gold"] for row in rows] == gold and [row["row"] for row in rows] == list(range(len(gold)))
        hits = sum(row["gold"] == row["label"] for row in rows) / len(rows)
        assert result.metrics["scores"][role]["target.test"]["accuracy"] == pytest.approx(hits)
        answers = load_predictor(model, precision="fp32")([row["text"] for row in rows])
        assert [answer["label"] for answer in answers] == [row["label"] for row in rows]
        assert [answer["score"] for answer in answers] == pytest.approx([row["score"] for row in rows], abs=1e-5)


def test_the_final_model_is_the_best_checkpoint_not_the_last(tmp_path, tiny_bert):
    swap = {"positive": "negative", "negative": "positive"}
    rows = sentiment_rows(24, 0)
    # What is right in training is wrong in dev: the more the model learns, the worse it gets there.
    data = {
        "source.train": Dataset.from_list(rows),
        "source.dev": Dataset.from_list([row | {"label": swap[row["label"]]} for row in rows]),
    }
    values = recipe_values(tmp_path, tiny_bert)
    values["data"]["target"] = {}
    values["train"] |= {"max_steps": 24, "evaluate_every": 4, "learning_rate": 5e-3, "schedule": "constant"}
    result = run(recipe_from(values), data=data)
    done = read_json(result.folder / "stages/1-finetune/done.json")
    log = [line for line in read_lines(result.folder / "log.jsonl") if "eval_accuracy" in line]
    scores = {line["step"]: line["eval_accuracy"] for line in log}
    best = max(scores.values())
    assert scores[24] < best
    assert scores[done["selected_step"]] == best == done["best_dev"]
    assert result.metrics["scores"]["source-only"]["source.dev"]["accuracy"] == pytest.approx(best)


def test_each_split_is_predicted_once(tmp_path, tiny_bert, monkeypatch):
    folder = write_data(tmp_path, "sentiment")
    seen = []
    original = inference_module.Predictor.logits

    def counted(self, rows, shared=False):
        seen.append(len(rows))
        return original(self, rows, shared)

    monkeypatch.setattr(inference_module.Predictor, "logits", counted)
    run(recipe_from(recipe_values(folder, tiny_bert)))
    assert sorted(seen) == [10, 12]


# --- what must not be there --------------------------------------------------------------------------------------


def test_card_and_metrics_hold_no_private_paths_or_tokens(adapted, monkeypatch, tmp_path, tiny_bert):
    monkeypatch.setenv("HF_TOKEN", "hf_verySecretToken123")
    folder = write_data(tmp_path, "sentiment")
    result = run(recipe_from(recipe_values(folder, tiny_bert)))
    for place in (adapted[2].folder, result.folder):
        for name in ("README.md", "metrics.json"):
            text = (place / name).read_text(encoding="utf8")
            assert str(tmp_path.parent) not in text and str(tiny_bert) not in text and "/tmp" not in text
    for name, path in every_file(result.folder).items():
        assert b"hf_verySecretToken123" not in path.read_bytes(), name


def test_the_card_tells_scores_methods_and_use(adapted):
    card = (adapted[2].folder / "README.md").read_text(encoding="utf8")
    value = adapted[2].metrics["scores"]["adapted"]["target.test"]["interval"]["value"]
    for part in ("# tiny", f"{value:.3f}", "| target.test |", "dann", "arXiv 1505.07818", "arXiv 2004.10964", "gain",
                 "negative, positive", "load_predictor", "bert"):  # fmt: skip
        assert part in card


def test_the_model_loads_without_this_package(adapted, plain):
    for model in (adapted[2].model, plain[1].model):
        loaded = transformers.AutoModelForSequenceClassification.from_pretrained(model)
        assert loaded.config.id2label == {0: "negative", 1: "positive"}
        assert transformers.AutoTokenizer.from_pretrained(model).is_fast
        assert not any("adaptation" in name for name in loaded.state_dict())


# --- kinds of data -----------------------------------------------------------------------------------------------


def in_memory(task):
    make = {"sentiment": sentiment_rows, "multi_label": multi_label_rows, "ner": ner_rows}[task]
    texts = [{"text": row.get("text", " ".join(row.get("words", [])))} for row in make(16, 9)]
    return {
        "source.train": Dataset.from_list(make(24, 0)),
        "source.dev": Dataset.from_list(make(10, 1)),
        "target.test": Dataset.from_list(make(12, 2)),
        "target.unlabelled": Dataset.from_list(texts),
    }


@pytest.mark.parametrize("task", ["sentiment", "multi_label", "ner"])
def test_datasets_in_memory_are_the_same_as_files(task, tmp_path, tiny_bert):
    folder = write_data(tmp_path / "files", task)
    values = recipe_values(folder, tiny_bert, task)
    given = in_memory(task)
    first = run(recipe_from(values | {"output": str(tmp_path / "a")}))
    second = run(recipe_from(values | {"output": str(tmp_path / "b")}), data=given)
    assert first.metrics == second.metrics
    prints = [read_json(result.folder / "environment.json")["data"] for result in (first, second)]
    assert prints[0] == prints[1]
    score = evaluate(load_predictor(second.folder, precision="fp32"), given["target.test"], resamples=100)
    assert score.metrics[score.headline] == second.metrics["scores"]["source-only"]["target.test"][score.headline]


def test_dev_is_held_out_where_none_is_given(tmp_path, tiny_bert):
    folder = write_data(tmp_path, "sentiment", train=40)
    values = recipe_values(folder, tiny_bert)
    values["data"] |= {"source": {"train": "train.jsonl"}, "dev_share": 0.25}
    listener = Listener()
    result = run(recipe_from(values), reporter=listener)
    assert any("10 rows held out" in line for line in listener.said)
    assert len(read_lines(result.folder / "predictions/source-only.source.dev.jsonl")) == 10


def test_without_target_labels_only_source_is_scored(tmp_path, tiny_bert):
    folder = write_data(tmp_path, "sentiment")
    values = recipe_values(folder, tiny_bert, methods=["dann"])
    del values["data"]["target"]["test"]
    metrics = run(recipe_from(values)).metrics
    assert set(metrics["gain"]) == set(metrics["scores"]["adapted"]) == {"source.dev"}


def test_the_twin_can_be_left_out(tmp_path, tiny_bert):
    folder = write_data(tmp_path, "sentiment")
    result = run(recipe_from(recipe_values(folder, tiny_bert, methods=["dann"], source_only=False)))
    assert set(result.metrics["scores"]) == {"adapted"} and "gain" not in result.metrics


def test_long_texts_are_counted(tmp_path, tiny_bert):
    rows = sentiment_rows(20, 0)
    long = [row | {"text": f"{row['text']} " * 20 if number < 5 else row["text"]} for number, row in enumerate(rows)]
    data = {"source.train": Dataset.from_list(long), "source.dev": Dataset.from_list(rows)}
    data |= {"target.test": Dataset.from_list(long)}
    for treatment in ("windows", "truncate"):
        values = recipe_values(tmp_path, tiny_bert, output=str(tmp_path / treatment))
        values["data"] |= {"target": {}, "long_texts": treatment, "max_length": 48}
        listener = Listener()
        result = run(recipe_from(values), data=data, reporter=listener)
        told = {
            "windows": ["finetune: 5 of 20 source texts are longer than 48 tokens: read in overlapping windows."],
            "truncate": [
                f"{split}: 5 texts are longer than 48 tokens; the task does not read the rest of them "
                "(data.long_texts: truncate)."
                for split in ("source.train", "target.test")
            ],
        }
        assert [line for line in listener.said if "longer than" in line] == told[treatment]
        notes = read_json(result.folder / "environment.json")["notes"]
        assert [note for note in notes if "longer than" in note] == (told[treatment] if treatment == "truncate" else [])
        assert read_json(result.folder / "stages/1-finetune/done.json")["long_rows"] == 5
        assert load_predictor(result.folder).limits.truncate == (treatment == "truncate")


def test_stars_become_polarities(tmp_path, tiny_bert):
    draw = sentiment_rows(24, 0)
    stars = [row | {"label": str(1 + number % 5)} for number, row in enumerate(draw)]
    polarity = {"1": "negative", "2": "negative", "3": None, "4": "positive", "5": "positive"}
    values = recipe_values(tmp_path, tiny_bert, {"name": "sentiment", "polarity": polarity})
    values["data"]["target"] = {}
    listener = Listener()
    data = {"source.train": Dataset.from_list(stars), "source.dev": Dataset.from_list(stars)}
    result = run(recipe_from(values), data=data, reporter=listener)
    assert load_predictor(result.folder).task.labels == ["negative", "positive"]
    assert any("5 rows dropped" in line for line in listener.said)
    assert len(read_lines(result.folder / "predictions/source-only.source.dev.jsonl")) == 19


# --- other folders -----------------------------------------------------------------------------------------------


def test_a_deletion_that_is_stopped_leaves_what_can_be_begun_anew(tmp_path, monkeypatch):
    recipe = resolve(recipe_from(recipe_values(write_data(tmp_path, "sentiment"), "tiny")))
    folder = claim(recipe, fresh=False)
    for name in ("1-pretrain", "2-finetune", "3-self_train/round-1"):
        (folder / "stages" / name / "model").mkdir(parents=True)
        (folder / "stages" / name / "done.json").write_text("{}")
    (folder / "metrics.json").write_text("{}")

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runfolder.shutil, "rmtree", stop)
        claim(recipe, fresh=True)
    assert not [*folder.glob("metrics.json"), *folder.rglob("done.json")]
    assert claim(recipe, fresh=True) == folder
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "recipe.yaml"]


def test_a_page_that_could_not_be_written_is_written_the_next_time(plain, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(plain[1].folder, folder)
    page = folder / "report.html"
    page.unlink(missing_ok=True)
    monkeypatch.setattr(running, "report_run", report_run)
    recipe = load_recipe(folder / "recipe.yaml", [f"output={folder}"])
    run(recipe)
    assert "Report of a run" in page.read_text()
    page.write_text("mine")
    run(recipe)
    assert page.read_text() == "mine"


def test_fresh_deletes_the_old_run_only_when_it_is_one(plain, tmp_path, tiny_bert):
    folder = write_data(tmp_path, "sentiment")
    values = recipe_values(folder, tiny_bert)
    first = run(recipe_from(values))
    (first.folder / "note.txt").write_text("mine", encoding="utf8")
    again = run(recipe_from(values), fresh=True)
    assert again.metrics == first.metrics and not (first.folder / "note.txt").exists()
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"x")
    with pytest.raises(RunError, match="holds no run"):
        run(recipe_from(values | {"output": str(other)}), fresh=True)
    assert (other / "photo.jpg").exists()


def test_a_run_can_start_from_a_run(plain, tmp_path, tiny_bert):
    folder = write_data(tmp_path, "sentiment")
    result = run(recipe_from(recipe_values(folder, plain[1].folder)))
    model = read_json(result.folder / "environment.json")["model"]
    assert (model["id"], model["head"]) == (str(plain[1].folder), 2)


def test_saving_an_adapter_never_asks_the_hub(tmp_path, tiny_bert, monkeypatch):
    """PEFT looks for the base model's configuration on the hub unless it is told not to."""
    from peft.utils import save_and_load

    monkeypatch.setattr(
        save_and_load, "check_file_exists_on_hf_hub", lambda *args: pytest.fail(f"asked the hub: {args}")
    )
    data = {role: Dataset.from_list(sentiment_rows(8, 0)) for role in ("source.train", "source.dev")}
    values = recipe_values(tmp_path, tiny_bert, tuning="lora")
    monkeypatch.setattr(finding, "_resolve_bundled", lambda: finding.ResolvedModel(finding.BUNDLED_ID, None, tiny_bert))
    values["data"]["target"] = {}
    run(recipe_from(values | {"model": finding.BUNDLED_ID}), data=data)


def test_other_weights_under_the_same_name_begin_anew(tmp_path, tiny_bert):
    """A stopped run must not mix a twin of the old weights with an adapted model of the new ones."""
    model = shutil.copytree(tiny_bert, tmp_path / "model")
    values = recipe_values(write_data(tmp_path / "data", "sentiment"), model, output=str(tmp_path / "run"))
    run(recipe_from(values))
    (tmp_path / "run/metrics.json").unlink()
    before = read_json(tmp_path / "run/stages/1-finetune/done.json")["fingerprint"]
    weights = load_file(model / "model.safetensors")
    save_file({key: value * 1.01 for key, value in weights.items()}, model / "model.safetensors", {"format": "pt"})
    listener = Listener()
    run(recipe_from(values), reporter=listener)
    assert read_json(tmp_path / "run/stages/1-finetune/done.json")["fingerprint"] != before
    assert len(listener.bars) == 1  # trained again


# --- equal steps -------------------------------------------------------------------------------------------------

NOTHING_KEPT = {
    "name": "self_train",
    "rounds": 2,
    "select": "threshold",
    "threshold": 0.9999,
    "train": {"max_steps": 2},
}


@pytest.mark.parametrize(
    ("changes", "train", "twin"),
    [
        ({"stages": ["finetune", NOTHING_KEPT]}, {}, 7),
        # Other scores stop them.
        ({"selection": "bnm"}, {"early_stopping": 2, "evaluate_every": 1, "max_steps": 20}, None),
    ],
)
def test_unequal_steps_are_told(changes, train, twin, tmp_path, tiny_bert, capsys):
    folder = write_data(tmp_path, "sentiment")
    values = recipe_values(folder, tiny_bert, **changes)
    values["train"] |= train
    recipe = recipe_from(values)
    result = run(recipe)
    done = {name: read_json(result.folder / "stages" / name / "done.json") for name in ("1-finetune", "source-only")}
    ours, theirs = (one["steps"] for one in done.values())
    assert theirs != ours and theirs == (twin or theirs)
    assert result.metrics["steps"] == {"adapted": ours, "source-only": theirs}
    sentence = (
        f"trained for {ours} optimizer steps, its source-only twin for {theirs}, as one of them was stopped early"
    )
    show_run(result, recipe)
    told = (capsys.readouterr().out, (result.folder / "README.md").read_text(), in_one_sentence(result.metrics))
    assert all(text.count(sentence) == 1 for text in told)


def test_equal_steps_are_not_told(adapted):
    metrics = adapted[2].metrics
    assert metrics["steps"] == {"adapted": 4, "source-only": 4}
    assert "Unequal steps" not in in_one_sentence(metrics)
    assert "Unequal steps" not in (adapted[2].folder / "README.md").read_text()
