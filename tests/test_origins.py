"""What a model owes to labels of the target is told of whatever is made of it, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from samples import recipe_values, write_data

from nlp_transfer import compare, distill, evaluate, recipe_from, run
from nlp_transfer.card.facts import facts_of
from nlp_transfer.card.origins import made_of_oracles, notes_of, origin_of, with_origins
from nlp_transfer.card.text import card_text
from nlp_transfer.conclusions import conclusions
from nlp_transfer.errors import RecipeError
from nlp_transfer.report.record import read_record
from nlp_transfer.screen import show_distilled, show_run, show_score

BACK = "ORACLE: the adapted model goes back to 'tiny', whose checkpoint was selected with the labels of target.dev."
MADE = " (made of a model that was selected with target labels)"
ONLY = "target labels were used for the final scores only"
SHORT = ["train.max_steps=1", "train.learning_rate=1e-9"]


def short(folder: Path, model: Path, name: str, **changes: Any) -> dict[str, Any]:
    values = recipe_values(folder, model, output=str(folder / name), name=name, source_only=False, **changes)
    values["train"] |= {"max_steps": 1}
    return values


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """The folder of a run whose checkpoint labels of the target have selected."""
    folder = write_data(tmp_path_factory.mktemp("oracle"))
    values = short(folder, tiny_bert, "run", selection="oracle") | {"name": "tiny"}
    values["data"]["target"]["dev"] = "target_dev.jsonl"
    return run(recipe_from(values)).folder


@pytest.fixture(scope="module")
def student(oracle: Path) -> Any:
    return distill(oracle, 1, overrides=SHORT)


def test_a_student_of_an_oracle_says_so(student: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = (student.run.folder / "README.md").read_text(encoding="utf8")
    assert BACK in text and ONLY not in text
    results = ModelCard(text).data.eval_results
    assert results and all(one.metric_name.endswith(MADE) for one in results)
    show_distilled(student)
    assert BACK in capsys.readouterr().out
    show_run(student.run, read_record(student.run.folder).recipe)
    assert BACK in capsys.readouterr().out


@pytest.mark.parametrize("made", ["model", "soup", "teacher", "student"])
def test_what_is_made_of_an_oracle_says_so(
    made: str, oracle: Path, student: Any, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the way, and over a run in between."""
    changes: dict[str, dict[str, Any]] = {
        "model": {"model": str(oracle), "methods": ["l2sp"]},
        "soup": {"stages": ["finetune", {"name": "soup", "models": [str(oracle / "stages/1-finetune/model")]}]},
        "teacher": {"methods": [{"name": "anchor", "teacher": [str(oracle / "model")]}]},
        "student": {"model": str(student.run.folder), "methods": ["l2sp"]},
    }
    folder = oracle.parent
    recipe = recipe_from(short(folder, tiny_bert, made) | changes[made])
    result = run(recipe)
    text = (result.folder / "README.md").read_text(encoding="utf8")
    assert BACK in text and MADE in text and ONLY not in text
    show_run(result, recipe)
    assert BACK in capsys.readouterr().out


def test_scores_of_other_rows_are_shown_with_it(oracle: Path, student: Any, capsys: pytest.CaptureFixture[str]) -> None:
    score = evaluate(oracle, oracle.parent / "test.jsonl", resamples=100)
    (note,) = notes_of(oracle)
    assert note.startswith("ORACLE: the adapted model's checkpoint is selected")
    show_score(score, notes=notes_of(oracle))
    assert note in capsys.readouterr().out
    show_score(score, as_json=True, notes=notes_of(student.run.folder))
    assert json.loads(capsys.readouterr().out)["notes"][0].startswith(BACK)
    show_score(score, as_json=True)
    assert "notes" not in json.loads(capsys.readouterr().out)


def test_only_models_that_the_oracle_selected_are_followed(oracle: Path, tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(oracle, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
    (folder / "metrics.json").write_text(json.dumps(metrics | {"kept": "source-only"}), encoding="utf8")
    (folder / "stages" / "source-only" / "model").mkdir(parents=True)
    (folder / "stages" / "1-pretrain").mkdir()
    (folder / "elsewhere").mkdir()
    assert notes_of(folder) == notes_of(folder / "model") == notes_of(folder / "stages/source-only/model") == []
    assert len(notes_of(folder / "stages/1-finetune/model")) == 1
    assert origin_of(folder / "stages/1-pretrain") is origin_of(folder / "elsewhere") is None
    assert origin_of("some/hub-id") is origin_of(tiny_bert) is None
    # The twin begins with the base model, but learns from no teacher.
    taught = recipe_from(short(tmp_path, tiny_bert, "x", methods=[{"name": "anchor", "teacher": str(oracle)}]))
    assert made_of_oracles(taught) == {"oracles": {"adapted": ["tiny"]}}
    other = str(tmp_path / "other")
    for mixed, role in (
        ({"models": [str(oracle)], "twins": [other]}, "adapted"),
        ({"models": [other], "twins": [str(oracle)]}, "source-only"),
    ):
        values = short(tmp_path, tiny_bert, "x", stages=["finetune", {"name": "soup"} | mixed])
        soup = recipe_from(values | {"source_only": True})
        assert made_of_oracles(soup) == {"oracles": {role: ["tiny"]}}
    begun = recipe_from(short(tmp_path, oracle, "x"))
    both = {"adapted": ["tiny"], "source-only": ["tiny"]}
    assert made_of_oracles(begun) == {"oracles": both}
    text = " ".join(conclusions({"scores": {}, "oracles": both}))
    assert "the adapted and the source-only models go back to 'tiny', whose" in text


def test_the_only_model_of_a_run_is_followed_from_its_stage(oracle: Path) -> None:
    values = short(oracle.parent, oracle, "plain", methods=[]) | {"name": "plain"}
    folder = run(recipe_from(values)).folder
    assert json.loads((folder / "metrics.json").read_text(encoding="utf8"))["oracles"] == {"source-only": ["tiny"]}
    for place in (folder, folder / "model", folder / "stages/1-finetune/model"):
        assert any("ORACLE" in note for note in notes_of(place)), place


def test_what_a_run_has_noted_outlives_what_it_is_made_of(student: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(student.run.folder, tmp_path / "student")
    metrics = with_origins(student.run.metrics, folder)
    assert metrics["oracles"] == {"adapted": ["tiny"]}
    text = (folder / "recipe.yaml").read_text(encoding="utf8")
    (folder / "recipe.yaml").write_text(text.replace("/oracle", "/gone"), encoding="utf8")
    unnoted = {key: value for key, value in metrics.items() if key != "oracles"}
    (folder / "metrics.json").write_text(json.dumps(unnoted), encoding="utf8")
    assert notes_of(folder) == []
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf8")
    assert notes_of(folder)[0].startswith(BACK)
    record = read_record(folder)
    assert BACK in card_text(record, facts_of(record))


def test_damage_further_back_stops_no_run(student: Any, oracle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(oracle, tmp_path / "run")
    (folder / "recipe.yaml").write_text("name: [", encoding="utf8")
    assert len(notes_of(folder)) == 1
    (folder / "metrics.json").write_text("{", encoding="utf8")
    assert notes_of(folder) == []


@pytest.mark.parametrize("way", ["selected", "taught"])
def test_no_strategy_of_a_comparison_is_selected_with_target_labels(way: str, oracle: Path, tiny_bert: Path) -> None:
    values = short(oracle.parent, tiny_bert, "blind", methods=[{"name": "anchor", "teacher": [str(oracle / "model")]}])
    settings = ["selection=oracle", "data.target.dev=target_dev.jsonl"]
    strategy, told = {
        "selected": ({"name": "mcc", "set": settings}, "its selection is 'oracle'"),
        "taught": ({"name": "anchor"}, "it is made of runs that they have selected: tiny"),
    }[way]
    recipe = recipe_from(values | {"compare": {"strategies": ["source_only", strategy], "seeds": [1]}})
    with pytest.raises(RecipeError, match=f"without target labels, but {told}"):
        compare(recipe)
    assert not (oracle.parent / "blind-comparison" / "runs").exists()
