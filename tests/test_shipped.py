"""Recipes and data that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlp_transfer.errors import RecipeError
from nlp_transfer.recipe import load, shipped
from nlp_transfer.recipe.schema import DataSpec


@pytest.fixture
def small_shipment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipment"
    (folder / "recipes" / "benchmarks").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "recipes" / "sentiment.yaml").write_text("# Reviews: books to kitchens\n# more\nname: x\n")
    (folder / "recipes" / "bare.yaml").write_text("name: x\n")
    (folder / "recipes" / "benchmarks" / "one.yaml").write_text("\n#   Spaced\n")
    monkeypatch.setattr(shipped, "_shipped", lambda: folder)
    return folder


def data_spec(folder: str = ".") -> DataSpec:
    return DataSpec.model_validate({"folder": folder, "source": {"train": "a"}})


def test_demo_folder_holds_the_data() -> None:
    assert (shipped.demo_folder() / "sentiment" / "source_train.jsonl").is_file()


def test_every_shipped_recipe_is_valid_and_has_a_title() -> None:
    for name, title, path in shipped.list_recipes():
        recipe, problems = load(path)
        assert problems == [], name
        assert recipe is not None
        assert title, name


def test_list_recipes(small_shipment: Path) -> None:
    assert shipped.list_recipes() == [
        ("bare", "", small_shipment / "recipes" / "bare.yaml"),
        ("benchmarks/one", "Spaced", small_shipment / "recipes" / "benchmarks" / "one.yaml"),
        ("sentiment", "Reviews: books to kitchens", small_shipment / "recipes" / "sentiment.yaml"),
    ]


def test_copy_recipe(small_shipment: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    assert shipped.copy_recipe("sentiment", own) == own
    assert own.read_bytes() == (small_shipment / "recipes" / "sentiment.yaml").read_bytes()
    assert shipped.copy_recipe("benchmarks/one.yaml", tmp_path) == tmp_path / "one.yaml"


def test_copy_recipe_never_overwrites(small_shipment: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("mine")
    with pytest.raises(RecipeError, match="not overwritten"):
        shipped.copy_recipe("sentiment", own)
    assert own.read_text() == "mine"


def test_copy_recipe_explains(small_shipment: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'sentiment'"):
        shipped.copy_recipe("sentimant", tmp_path)
    with pytest.raises(RecipeError, match="no folder"):
        shipped.copy_recipe("sentiment", tmp_path / "absent" / "x.yaml")


def test_resolve_path(tmp_path: Path) -> None:
    demo = shipped.demo_folder()
    absolute = str(tmp_path / "x.csv")
    assert shipped.resolve_path(data_spec("demo:ner"), "a.conll") == str(demo / "ner" / "a.conll")
    assert shipped.resolve_path(data_spec("demo:"), "ner/a.conll") == str(demo / "ner" / "a.conll")
    assert shipped.resolve_path(data_spec("rows"), "demo:ner/a.conll") == str(demo / "ner" / "a.conll")
    assert shipped.resolve_path(data_spec("rows"), "a.csv") == str(Path("rows/a.csv"))
    assert shipped.resolve_path(data_spec(), "a.csv") == "a.csv"
    assert shipped.resolve_path(data_spec("~/rows"), "a.csv") == str(Path.home() / "rows/a.csv")
    assert shipped.resolve_path(data_spec("rows"), "~/a.csv") == str(Path.home() / "a.csv")
    assert shipped.resolve_path(data_spec("~rows"), "~a.csv") == "~rows/~a.csv"
    assert shipped.resolve_path(data_spec("rows"), absolute) == absolute
    assert shipped.resolve_path(data_spec("demo:ner"), "hub:owner/name") == "hub:owner/name"


def test_an_installed_package_finds_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nlp_transfer"
    module = package / "recipe" / "shipped.py"
    monkeypatch.setattr(shipped, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="install"):
        shipped.demo_folder()
    (package / "_shipped" / "data").mkdir(parents=True)
    assert shipped.demo_folder() == package / "_shipped" / "data"
