"""Push and pull through the real hub client, against a stand-in server on loopback that can be told to fail."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import hub_client
import numpy as np
import pytest
import torch
from conftest import build_model
from fsspec import AbstractFileSystem, register_implementation
from helpers import Listener, data_of, recipe_data, rows_of
from safetensors.torch import load_file, save_file
from stand_in_hub import TOKEN, Answer, Fault, Handler, Hub, Repo, serving
from typer.testing import CliRunner

from nlp_transfer import finding, load_predictor, push, recipe_from, run
from nlp_transfer.cli import app
from nlp_transfer.data.load import load_split
from nlp_transfer.errors import HubError, ModelError, RecipeError, RunError
from nlp_transfer.hashing import file_sha256
from nlp_transfer.hub import calls
from nlp_transfer.hub import push as pushing
from nlp_transfer.hub.package import public_recipe
from nlp_transfer.recipe.schema import Recipe
from nlp_transfer.recipe.shape import tidy
from nlp_transfer.reloading.check import check_reload
from nlp_transfer.serving.server import prepare

CARD: dict[str, Any] = {"license": "apache-2.0", "language": "en"}
KINDS = {
    "full": ("classification", "full"),
    "lora": ("classification", {"name": "lora", "rank": 4}),
    "ner": ("ner", "full"),
    "lora-ner": ("ner", {"name": "lora", "rank": 4}),
}


RELOADED: list[Any] = []
"""What pushes would have reloaded in a fresh process: folder, examples, base."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that holds a base model, with the client pointed at it; nothing waits long, and no process is started."""
    base = build_model(tmp_path_factory.mktemp("base") / "tiny")
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        hub_client.use(server.url, patch, tmp_path_factory.mktemp("cache"))
        hub_client.put(server, "someone/tiny", base)
        patch.setattr(calls, "WAITS", (0.01, 0.01, 0.01))
        patch.setattr(pushing, "check_reload", lambda *args: RELOADED.append(args))
        yield server


@pytest.fixture(autouse=True)
def sound(hub: Hub) -> Iterator[None]:
    yield
    hub.faults.clear()


@pytest.fixture(params=["lfs", "xet"])
def store(request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where large files go: to an empty store of the one kind, then of the other."""
    hub.objects.clear()
    if request.param == "xet":
        hub_client.by_xet(hub, monkeypatch, tmp_path / "xet")
    return request.param


@pytest.fixture(scope="module")
def runs(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs on a base of the hub."""
    made = {}
    for name, (kind, tuning) in KINDS.items():
        folder = tmp_path_factory.mktemp("runs") / name
        recipe = recipe_from(recipe_data(folder, Path("someone/tiny"), kind, tuning, learning_rate=0.01))
        made[name] = run(recipe, data=data_of(kind)).folder
    return made


def send(folder: Path, repo: str, **settings: Any) -> pushing.PushResult:
    return push(folder, repo, **({"card": CARD, "report": False} | settings))


def logits(model: str | Path, kind: str) -> np.ndarray:
    predictor = load_predictor(model, precision="fp32")
    rows = load_split(rows_of(kind, 6, 8), name="data", kind=predictor.task.row_kind).rows
    return np.concatenate([np.atleast_2d(row) for row in predictor.logits(rows)])


# The round trip


WAYS = {
    "lfs": ("PUT /lfs/", "GET /{repo}/resolve/.*safetensors"),
    "xet": ("GET /api/models/{repo}/xet-write-token/", "GET /api/models/{repo}/xet-read-token/"),
}
"""What is asked for when weights go to the hub, and when they come back."""


@pytest.mark.parametrize("form", ["as it is", "merged"])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_pulled_gives_the_logits_of_the_run(
    name: str, form: Any, store: str, runs: dict[str, Path], hub: Hub
) -> None:
    if form == "merged" and not name.startswith("lora"):
        pytest.skip("whole weights are merged already")
    kind, repo, begun = KINDS[name][0], f"user/{name}-{form.replace(' ', '-')}-{store}", len(hub.log)
    result = send(runs[name], repo, form=form)
    assert result.url == f"{hub.url}/{repo}/commit/{hub.repos[repo].head}"
    assert hub.repos[repo].private
    assert len(hub.repos[repo].commits) == 2, "the hub's own first commit, and one with everything"
    expected, found = logits(runs[name], kind), logits(repo, kind)
    for way, requests in WAYS.items():
        for request in requests:
            asked = any(re.search(request.format(repo=repo), line) for line in hub.log[begun:])
            assert asked is (way == store), request
    if form == "merged":
        assert np.abs(found - expected).max() < 1e-5
        assert "adapter_config.json" not in hub.repos[repo].files
    else:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(("name", "form"), [("full", "as it is"), ("lora", "as it is"), ("lora", "merged")])
def test_what_is_pushed_is_reloaded_first(name: str, form: Any, runs: dict[str, Path], hub: Hub) -> None:
    send(runs[name], f"user/reloaded-{name}-{form.replace(' ', '')}", form=form)
    folder, examples, base = RELOADED[-1]
    assert not folder.is_relative_to(runs[name]), "what is pushed, not what the run holds"
    assert examples == json.loads((runs[name] / "reload.json").read_text())
    adapter = name == "lora" and form == "as it is"
    assert (base is not None) == adapter and (base is None or (base / "config.json").is_file())


def test_a_model_that_does_not_reload_is_not_pushed(
    runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "check_reload", Mock(side_effect=RunError("other logits")))
    with pytest.raises(RunError, match="other logits"):
        send(runs["full"], "user/unsound")
    assert "user/unsound" not in hub.repos


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("full", "as it is"), ("lora", "merged"), ("lora", "as it is")])
def test_a_fresh_process_reloads_what_is_pushed(
    name: str, form: Any, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    differences: list[float] = []

    def check(*args: Any) -> None:
        differences.append(check_reload(*args))

    monkeypatch.setattr(pushing, "check_reload", check)
    send(runs[name], f"user/fresh-{name}-{form.replace(' ', '')}", form=form)
    assert len(differences) == 1 and differences[0] < 1e-5
    # Weights that were changed since.
    folder = shutil.copytree(runs[name], tmp_path / "run")
    weights = next((folder / "model").glob("*.safetensors"))
    save_file({key: value + 0.1 for key, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    with pytest.raises(RunError, match="is not the model that was trained"):
        send(folder, "user/unsound", form=form)
    assert "user/unsound" not in hub.repos


def test_adapter_names_its_base_by_id_and_commit(runs: dict[str, Path], hub: Hub) -> None:
    send(runs["lora"], "user/named", form="adapter")
    config = json.loads(hub.repos["user/named"].files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "someone/tiny"
    assert config["revision"] == hub.repos["someone/tiny"].head
    assert list(json.loads(hub.repos["user/named"].files["config.json"])["label2id"]) == ["bad", "good", "poor"]


def test_pulled_adapter_loads_with_plain_peft_and_in_a_pipeline(runs: dict[str, Path], hub: Hub) -> None:
    import peft
    import transformers

    send(runs["lora"], "user/plain")
    predictor = load_predictor("user/plain", precision="fp32")
    batch = predictor.tokenizer("the film was bad", return_tensors="pt", return_token_type_ids=False)
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained("user/plain", num_labels=3)
    assert torch.allclose(model.eval()(**batch).logits, predictor.model(**batch).logits, atol=1e-5)
    # As the card says: the names of the labels would be the base's otherwise.
    names = transformers.AutoConfig.from_pretrained("user/plain").id2label
    named = peft.AutoPeftModelForSequenceClassification.from_pretrained("user/plain", num_labels=3, id2label=names)
    pipe = transformers.pipeline("text-classification", model=named, tokenizer="user/plain")
    (plain,) = pipe(["the film was bad"])
    (own,) = predictor(["the film was bad"])
    assert (plain["label"], plain["score"]) == (own["label"], pytest.approx(own["score"], abs=1e-5))
    # From the name alone, pipelines build the head of the base, whatever lies beside the adapter.
    with pytest.raises(ValueError, match="Could not load model user/plain"):
        transformers.pipeline("text-classification", model="user/plain")


def test_pulled_adapter_of_a_tagger_loads_in_a_pipeline(runs: dict[str, Path], hub: Hub) -> None:
    import peft
    import transformers

    send(runs["lora-ner"], "user/plain-tagger")
    predictor = load_predictor("user/plain-tagger", precision="fp32")
    labels = predictor.task.labels
    names = transformers.AutoConfig.from_pretrained("user/plain-tagger").id2label
    model = peft.AutoPeftModelForTokenClassification.from_pretrained(
        "user/plain-tagger", num_labels=len(labels), id2label=names
    )
    pipe = transformers.pipeline("token-classification", model=model, tokenizer="user/plain-tagger", ignore_labels=[])
    tokens = pipe("anna went to oslo")
    batch = predictor.tokenizer("anna went to oslo", return_tensors="pt", return_token_type_ids=False)
    own = predictor.model(**batch).logits[0, 1:-1].softmax(-1)
    assert [token["entity"] for token in tokens] == [labels[index] for index in own.argmax(-1).tolist()]
    assert [token["score"] for token in tokens] == pytest.approx(own.max(-1).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_pulled_model_is_the_model_of_a_recipe(name: str, runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    repo = f"user/base-{name}"
    send(runs[name], repo)
    recipe = recipe_from(recipe_data(tmp_path / "run", Path(repo), learning_rate=1e-12))
    result = run(recipe, data=data_of("classification"))
    record = json.loads((result.folder / "environment.json").read_text())["model"]
    found = record if name == "full" else record["merged"]
    assert (found["id"], found["commit"]) == (repo, hub.repos[repo].head)
    assert np.allclose(logits(result.folder, "classification"), logits(runs[name], "classification"), atol=1e-4), (
        "the head goes on as it was"
    )
    card = send(result.folder, f"{repo}-again", dry_run=True).card
    assert f"base_model: {repo}\n" in card and f"`{repo}` at revision `{hub.repos[repo].head}`" in card


@pytest.mark.parametrize("name", ["full", "lora"])
def test_commands_take_hub_ids(name: str, runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    repo = f"user/asked-{name}"
    send(runs[name], repo)
    rows = [
        json.dumps({"text": row["text"], "label": row["label"]}) for row in data_of("classification")["target.test"]
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    given = ["--input", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    begun = len(hub.log)
    done = CliRunner().invoke(app, ["predict", repo, *given])
    assert done.exit_code == 0, done.output
    assert f"answered by commit {hub.repos[repo].head}" in done.stderr
    asked = [line for line in hub.log[begun:] if line == f"GET /api/models/{repo}"]
    assert len(asked) == 1, "asked twice, it may be two models"
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = load_predictor(runs[name])([json.loads(row)["text"] for row in rows])
    assert [one["label"] for one in answers] == [one["label"] for one in expected]
    scored = CliRunner().invoke(app, ["evaluate", repo, "--data", str(tmp_path / "rows.jsonl"), "--json"])
    right = np.mean([one["label"] == json.loads(row)["label"] for one, row in zip(answers, rows, strict=True)])
    assert json.loads(scored.stdout)["accuracy"] == pytest.approx(right)


def test_without_network_the_cache_answers_and_an_unknown_id_is_told(
    runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(runs["full"], "user/cached")
    expected = logits("user/cached", "classification")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert np.array_equal(logits("user/cached", "classification"), expected)
    begun = time.monotonic()
    with pytest.raises(ModelError, match="cannot be reached"):
        load_predictor("user/never-seen")
    assert time.monotonic() - begun < 10


def test_a_hub_id_is_served(runs: dict[str, Path], hub: Hub) -> None:
    send(runs["lora"], "user/served")
    service = prepare("user/served")
    assert (service.name, service.twin) == ("served", None), "the twin stays with its run"
    [answer] = service.predict(["the film was bad"])
    [expected] = load_predictor(runs["lora"])(["the film was bad"])
    assert answer["label"] == expected["label"] and answer["score"] == pytest.approx(expected["score"], abs=1e-3)
    assert service.explain is not None


def test_an_adapter_whose_base_is_gone_says_so(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["lora"], folder)
    path = folder / "model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "someone/gone"}))
    with pytest.raises(ModelError, match=r"its base is missing: model 'someone/gone@.*not found"):
        send(folder, "user/orphan")
    assert "user/orphan" not in hub.repos


# What is pushed


def test_files_are_exactly_those_that_a_dry_run_lists(runs: dict[str, Path], hub: Hub) -> None:
    (runs["full"] / "model" / "training_args.bin").write_bytes(b"pickle")
    before = len(hub.log)
    planned = send(runs["full"], "user/listed", dry_run=True)
    assert len(hub.log) == before, "a dry run asks nobody"
    assert planned.url is None
    assert "user/listed" not in hub.repos
    send(runs["full"], "user/listed")
    held = hub.repos["user/listed"].files
    assert set(planned.files) == set(held) - {".gitattributes"}
    assert set(planned.files) == {
        *("README.md", "config.json", "metrics.json", "model.safetensors", "nlp_transfer.json", "recipe.yaml"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert held["README.md"].decode() == planned.card
    for name, content in held.items():
        assert TOKEN.encode() not in content, name
        assert str(runs["full"].parent).encode() not in content, name


def test_a_dry_run_of_an_adapter_asks_nobody(runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(hub.log)
    monkeypatch.setattr(finding, "resolve", None)
    planned = send(runs["lora"], "user/planned", dry_run=True)
    assert len(hub.log) == before
    assert "adapter_config.json" in planned.files and "someone/tiny" in planned.card


def test_report_is_pushed_unless_it_is_left_out(runs: dict[str, Path], hub: Hub) -> None:
    for wanted in (True, False):
        repo = f"user/reported-{wanted}"
        planned = send(runs["full"], repo, dry_run=True, report=wanted)
        send(runs["full"], repo, report=wanted)
        files = hub.repos[repo].files
        assert (
            {"report.html"} & files.keys()
            == {"report.html"} & planned.files.keys()
            == ({"report.html"} if wanted else set())
        )
    assert b"<html" in hub.repos["user/reported-True"].files["report.html"]
    assert str(runs["full"]).encode() not in hub.repos["user/reported-True"].files["report.html"]


def test_a_file_with_the_token_stops_the_push(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["full"], folder)
    metrics = folder / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"note": TOKEN}))
    with pytest.raises(HubError, match=r"'metrics\.json' holds your hub token") as caught:
        send(folder, "user/leak")
    assert TOKEN not in str(caught.value)
    assert "user/leak" not in hub.repos


def test_a_token_that_is_set_but_not_used_is_looked_for_too(
    runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, other = tmp_path / "run", "hf_anotherTokenOfTheTests"
    shutil.copytree(runs["full"], folder)
    metrics = folder / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"note": other}))
    monkeypatch.setenv("HF_TOKEN", other)
    with pytest.raises(HubError, match=r"'metrics\.json' holds your hub token"):
        send(folder, "user/leak", token=TOKEN)


def test_a_file_with_a_path_of_this_machine_stops_the_push(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["full"], folder)
    metrics = folder / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"note": f"in {folder}"}))
    with pytest.raises(HubError, match=r"'metrics\.json' names the path .* of this machine"):
        send(folder, "user/leak")


def test_the_command_prints_files_card_and_url(runs: dict[str, Path], hub: Hub) -> None:
    told = ["push", str(runs["full"]), "user/by-command", "--license", "mit", "--language", "en", "--tag", "mine"]
    shown = CliRunner().invoke(app, [*told, "--no-report", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "model.safetensors" in shown.stdout
    assert "license: mit" in shown.stdout
    assert "- mine" in shown.stdout
    done = CliRunner().invoke(app, [*told, "--no-report"])
    assert f"{hub.url}/user/by-command/commit/" in done.stdout
    assert TOKEN not in shown.output + done.output
    both = CliRunner().invoke(app, [*told, "--adapter", "--merged"])
    assert both.exit_code == 2 and "exclude each other" in both.output


def test_a_recipe_pushes_at_the_end_and_the_same_again_changes_nothing(hub: Hub, tmp_path: Path) -> None:
    values = recipe_data(tmp_path / "run", Path("someone/tiny"))
    data = data_of("classification")
    run(recipe_from(values), data=data)
    values |= {"card": CARD, "hub": {"repo": "user/by-recipe", "report": False}}
    run(recipe_from(values), data=data)  # trains nothing: what is published is no matter of training
    run(recipe_from(values), data=data)
    assert len(hub.repos["user/by-recipe"].commits) == 2
    assert "hub:" not in hub.repos["user/by-recipe"].files["recipe.yaml"].decode().replace("hub: null", "")


def test_a_run_whose_push_fails_is_told_how_to_push_it(hub: Hub, tmp_path: Path) -> None:
    values = recipe_data(tmp_path / "a run", Path("someone/tiny"), tuning={"name": "lora", "rank": 2})
    values |= {"card": CARD, "hub": {"repo": "user/late", "report": False, "merged": True, "public": True}}
    recipe, data = recipe_from(values), data_of("classification")
    hub.faults.append(Fault("POST /api/repos/create", "403"))
    with pytest.raises(HubError) as caught:
        run(recipe, data=data)
    told = str(caught.value)
    assert told.startswith(
        f"The run in '{tmp_path / 'a run'}' is finished, but was not pushed: your token may not write"
    )
    assert told.endswith(
        "run the same recipe again (without --fresh): a finished run is pushed, and nothing is trained again."
    )
    assert "nlp-transfer push" not in told, "which knows nothing of the recipe's section `hub`"
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "a run").rglob("*.safetensors")}
    listener = Listener()
    run(recipe, data=data, reporter=listener)
    assert listener.said[-1] == f"pushed: {hub.url}/user/late/commit/{hub.repos['user/late'].head}"
    assert weights == {path: path.stat().st_mtime_ns for path in (tmp_path / "a run").rglob("*.safetensors")}
    held = hub.repos["user/late"]
    assert "report.html" not in held.files and "adapter_config.json" not in held.files and not held.private


class OwnError(Exception):
    """As file systems have: ftplib's, say, are no OSError."""


@pytest.mark.parametrize("kind", [OSError, OwnError])
@pytest.mark.parametrize("url", ["ftp://me:secretword@127.0.0.1:9/m", "failing://me:secretword@host/m"])
def test_a_push_that_fails_tells_no_password(url: str, kind: type[Exception], runs: dict[str, Path], hub: Hub) -> None:
    class Failing(AbstractFileSystem):
        protocol = "failing"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path

        def ls(self, path: str, detail: bool = True, **settings: Any) -> Any:
            raise kind(f"no route to {path}")

        exists = info = ls

    register_implementation("failing", Failing, clobber=True)
    with pytest.raises(HubError, match=r"^'\w+://(127|host).*cannot be") as caught:
        send(runs["full"], url)
    assert "secretword" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ModelError, match="cannot be fetched") as unread:
        load_predictor(url)
    assert "secretword" not in "".join(traceback.format_exception(unread.value))


def test_a_file_system_that_refuses_to_open_is_told(runs: dict[str, Path], hub: Hub) -> None:
    class Refusing(AbstractFileSystem):
        protocol = "refusing"

        def __init__(self, *args: Any, **settings: Any) -> None:
            raise OwnError("530 login incorrect")

    register_implementation("refusing", Refusing, clobber=True)
    with pytest.raises(HubError, match=r"'refusing://place' cannot be opened: 530 login incorrect"):
        send(runs["full"], "refusing://place")


# The commit of a base that was found without one


@pytest.fixture
def bundled(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package that brings a model of the hub, which has it there, too."""
    package = tmp_path / "fake_hub_bundle"
    build_model(package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(finding, "BUNDLED_PACKAGE", package.name)
    monkeypatch.setattr(finding, "BUNDLED_SHA256", file_sha256(package / "model" / "model.safetensors"))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    hub_client.put(hub, finding.BUNDLED_ID, package / "model")
    return package / "model"


@pytest.fixture
def on_bundled(bundled: Path, tmp_path: Path) -> Path:
    """A run that has trained an adapter on it."""
    recipe = recipe_from(recipe_data(tmp_path / "run", Path(finding.BUNDLED_ID), tuning={"name": "lora", "rank": 2}))
    folder = run(recipe, data=data_of("classification")).folder
    assert json.loads((folder / "environment.json").read_text())["model"]["commit"] is None
    return folder


def named_base(files: dict[str, bytes]) -> tuple[str, str | None]:
    config = json.loads(files["adapter_config.json"])
    return config["base_model_name_or_path"], config["revision"]


def test_the_commit_of_a_bundled_base_is_asked_for(
    on_bundled: Path, hub: Hub, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    base = hub.repos[finding.BUNDLED_ID]
    begun = len(hub.log)
    assert send(on_bundled, "user/pinned", dry_run=True).url is None
    assert len(hub.log) == begun, "a dry run asks nobody"
    send(on_bundled, "user/pinned")
    files = hub.repos["user/pinned"].files
    assert named_base(files) == (finding.BUNDLED_ID, base.head)
    assert f"`{finding.BUNDLED_ID}` at revision `{base.head}`" in files["README.md"].decode()
    assert not caplog.records
    assert np.array_equal(logits("user/pinned", "classification"), logits(on_bundled, "classification"))
    send(on_bundled, (tmp_path / "shelf").as_uri())
    assert json.loads((tmp_path / "shelf" / "adapter_config.json").read_text())["revision"] == base.head


def test_a_base_that_has_moved_on_is_pinned_to_its_newest_commit_with_these_weights(on_bundled: Path, hub: Hub) -> None:
    base = hub.repos[finding.BUNDLED_ID]
    wanted = base.commit(base.files | {"README.md": b"better told"})
    for content in (b"trained on", b"and on"):
        base.commit(base.files | {"model.safetensors": content})
    send(on_bundled, "user/moved-on")
    assert named_base(hub.repos["user/moved-on"].files) == (finding.BUNDLED_ID, wanted)


@pytest.mark.parametrize("fault", [None, "503", "404"])
def test_an_adapter_on_other_weights_than_the_hub_has_is_pushed_merged_only(
    fault: str | None, on_bundled: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub_client.make(hub, finding.BUNDLED_ID, {"model.safetensors": b"others"}, public=True)
    if fault is not None:
        hub.faults.append(Fault("/commits/main", fault, times=99))
    repo, why = (
        f"user/other-{fault}",
        {"503": "does not answer", "404": r"refuses to tell \(404\)", None: "would not fit"},
    )
    told = rf"^the base '{finding.BUNDLED_ID}' is another one on the hub .* {why[fault]}.* merged \(--merged\)"
    with pytest.raises(HubError, match=told):
        send(on_bundled, repo)
    assert repo not in hub.repos
    hub.faults.clear()
    send(on_bundled, repo, form="merged")
    assert "adapter_config.json" not in hub.repos[repo].files


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("mute", r"the hub at http\S+ does not answer \(look at .*no answer within"),
        ("503", r"the hub at http\S+ does not answer \(look at .*the server answers 503"),
        ("400", r"the hub at http\S+ refuses to tell \(400\)"),
        ("unknown", r"the hub at http\S+ has no model of this name"),
        ("no safetensors", r"there is no model\.safetensors on the hub to compare"),
        ("offline", "HF_HUB_OFFLINE is set"),
    ],
)
def test_where_the_commit_of_a_base_cannot_be_had_that_is_said(
    why: str, reason: str, on_bundled: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if why in ("mute", "503", "400"):
        hub.faults.append(Fault(f"GET /api/models/{finding.BUNDLED_ID}", why, times=99))
        monkeypatch.setattr(calls, "DEADLINE", 0.5)
    elif why == "unknown":
        del hub.repos[finding.BUNDLED_ID]
    elif why == "no safetensors":
        hub_client.make(hub, finding.BUNDLED_ID, {"pytorch_model.bin": b"pickle"}, public=True)
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place = tmp_path / "shelf"
    send(on_bundled, place.as_uri())
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("nlp_transfer")]
    assert re.match(rf"Warning: the adapter names its base '{finding.BUNDLED_ID}' without a commit, as {reason}", said)
    assert len(said.splitlines()) == 1
    assert named_base({"adapter_config.json": (place / "adapter_config.json").read_bytes()}) == (
        finding.BUNDLED_ID,
        None,
    )


# Faults

STEPS = {
    "whoami": "GET /api/whoami",
    "look": "GET /api/models/user/x-",
    "create": "POST /api/repos/create",
    "card": "POST /api/validate-yaml",
    "preupload": "/preupload/",
    "batch": "/objects/batch",
    "upload": "PUT /lfs/",
    "pass": "/xet-write-token/",
    "commit": "/commit/main",
    "tree": "/tree/",
}


STORES = [
    *(("lfs", step) for step in STEPS if step != "pass"),
    # A store of Xet lies on disk here, and is not asked over the network.
    *(("xet", step) for step in STEPS if step not in ("batch", "upload")),
]


@pytest.mark.parametrize("kind", [pytest.param("503", marks=pytest.mark.slow), "page", "lost"])
@pytest.mark.parametrize(("store", "step"), STORES, indirect=["store"])
def test_a_fault_at_any_step_is_survived(
    step: str, kind: str, store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    repo = f"user/x-{step}-{kind}-{store}"
    hub.faults.append(Fault(STEPS[step], kind))
    send(runs["full"], repo)
    assert not any(fault.times for fault in hub.faults), "the fault never happened"
    assert len(hub.repos[repo].commits) == 2, "pushed once, whatever was lost"


@pytest.mark.parametrize(("status", "asked"), [("408", 2), ("429", 2), ("500", 2), ("400", 1), ("404", 1)])
def test_only_what_may_pass_is_asked_again(
    status: str, asked: int, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    repo, begun = f"user/status-{status}", len(hub.log)
    hub.faults.append(Fault("/commit/main", status))
    if asked == 1:
        with pytest.raises(HubError, match=rf"refuses the push to '{repo}' \({status}"):
            send(runs["full"], repo)
    else:
        send(runs["full"], repo)
    assert sum("/commit/main" in line for line in hub.log[begun:]) == asked


@pytest.mark.parametrize("store", ["lfs"], indirect=True)
@pytest.mark.parametrize("step", ["PUT /lfs/", "POST /lfs/verify"])
@pytest.mark.parametrize("status", ["408", "429", "500"])
def test_an_upload_that_may_pass_is_asked_for_again(
    status: str, step: str, store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    repo, begun = f"user/upload-{status}-{step[:3]}", len(hub.log)
    hub.faults.append(Fault(step, status))
    send(runs["full"], repo)
    assert max(Counter(line for line in hub.log[begun:] if step in line).values()) >= 2
    assert len(hub.repos[repo].commits) == 2


@pytest.mark.parametrize("store", ["lfs"], indirect=True)
@pytest.mark.parametrize("step", ["PUT /lfs/", "POST /lfs/verify"])
@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("400", "received something else than was announced"),
        ("403", "permission that the hub gave for this file has run out"),
        ("404", "Not Found"),
        ("413", "too large"),
    ],
)
def test_a_refused_upload_is_told_at_once(
    status: str, meaning: str, step: str, store: str, runs: dict[str, Path], hub: Hub
) -> None:
    repo, begun = f"user/refused-{status}-{step[:3]}", len(hub.log)
    hub.faults.append(Fault(step, status, times=99))
    told = (
        rf"^the store of large files refuses an upload for '{repo}' \({status}: .*{meaning}.*'\w+\.(safetensors|json)' "
    )
    with pytest.raises(HubError, match=told) as caught:
        send(runs["full"], repo)
    assert "The store says: as the test wants it." in str(caught.value)
    assert "/lfs/" not in str(caught.value), "the URL of an upload is a permission to write"
    assert sum(step in line for line in hub.log[begun:]) == 1
    assert len(hub.repos[repo].commits) == 1


def test_a_store_that_answers_in_xml_is_quoted(
    runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Handler, path: str) -> None:
        body = b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        raise Answer(403, body, Content_Type="application/xml")

    hub.objects.clear()
    monkeypatch.setattr(Handler, "_large", refuse)
    with pytest.raises(HubError, match=r"\(403: the permission .*The store says: Request has expired\. Nothing"):
        send(runs["full"], "user/expired")


def test_a_file_that_cannot_be_read_is_no_fault_of_the_hub(
    runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**settings: Any) -> None:
        raise PermissionError(13, "Permission denied", "model.safetensors")

    hub.objects.clear()
    monkeypatch.setattr("huggingface_hub._commit_api.lfs_upload", gone)
    begun = len(hub.log)
    with pytest.raises(HubError, match=r"cannot be sent to 'user/unreadable': .*Permission denied"):
        send(runs["full"], "user/unreadable")
    assert sum("/objects/batch" in line for line in hub.log[begun:]) == 1


def test_a_card_that_the_hub_refuses_is_told(runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [{"message": '"license" must be one of […]'}, {"message": '"language" must be one of […]'}]
    monkeypatch.setattr(Handler, "_judged", lambda self, card: (400, {"errors": errors, "warnings": []}))
    begun = len(hub.log)
    with pytest.raises(HubError) as caught:
        send(runs["full"], "user/judged")
    assert str(caught.value) == (
        "the hub refuses the push to 'user/judged': Invalid metadata in README.md. "
        '- "license" must be one of […] - "language" must be one of […]'
    )
    assert sum("validate-yaml" in line for line in hub.log[begun:]) == 1
    assert len(hub.repos["user/judged"].commits) == 1


def test_other_bytes_than_were_sent_are_found(
    store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Repo.commit

    def damage(repo: Repo, files: dict[str, bytes]) -> str:
        return commit(repo, {name: content[:-1] + b"?" for name, content in files.items()})

    monkeypatch.setattr(Repo, "commit", damage)
    with pytest.raises(HubError, match=r"was pushed to, but holds other bytes of .* than were sent\. Push again"):
        send(runs["full"], f"user/damaged-{store}")


def test_a_hub_that_stays_broken_is_told_and_the_push_can_be_repeated(
    store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = f"user/broken-{store}"
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = {path: path.stat().st_mtime_ns for path in runs["full"].rglob("*")}
    hub.faults.append(Fault("/commit/main", "503", times=50))
    with pytest.raises(HubError, match=r"does not answer \(upload and commit: the server answers 503\)"):
        send(runs["full"], repo)
    assert {path: path.stat().st_mtime_ns for path in runs["full"].rglob("*")} == before
    hub.faults.clear()
    send(runs["full"], repo)
    assert len(hub.repos[repo].commits) == 2


def test_a_mute_server_does_not_hold_the_push(runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "DEADLINE", 0.2)
    hub.faults.append(Fault("POST /api/repos/create", "mute", times=9))
    begun = time.monotonic()
    with pytest.raises(HubError, match="does not answer"):
        send(runs["full"], "user/mute")
    assert time.monotonic() - begun < 20


@pytest.mark.slow
@pytest.mark.parametrize(("store", "step"), STORES, indirect=["store"])
def test_a_server_that_is_mute_at_any_step_is_told_and_the_push_can_be_repeated(
    step: str, store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = f"user/x-mute-{step}-{store}"
    with monkeypatch.context() as patch:
        patch.setattr(calls, "DEADLINE", 1.5)
        patch.setattr(calls, "SLOWEST", 10**9)
        patch.setattr(calls, "WAITS", ())
        hub.faults.append(Fault(STEPS[step], "mute", times=9))
        begun = time.monotonic()
        with pytest.raises(HubError, match=rf"^the hub at {hub.url} does not answer \(.*push again later"):
            send(runs["full"], repo)
        assert time.monotonic() - begun < 20
    assert hub.faults[0].times < 9, "that step was never reached"
    assert repo not in hub.repos or len(hub.repos[repo].commits) == 1, "nothing is pushed"
    hub.faults.clear()
    send(runs["full"], repo)
    assert len(hub.repos[repo].commits) == 2


def test_a_commit_of_someone_else_is_not_written_over(
    store: str, runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = f"user/busy-{store}"
    hub_client.meanwhile(hub, monkeypatch, repo)
    with pytest.raises(HubError, match="someone else has pushed"):
        send(runs["full"], repo)
    assert set(hub.repos[repo].files) == {".gitattributes", "other.txt"}


@pytest.mark.parametrize(
    ("public", "wish", "message"),
    [
        (True, {}, "is public, but a private one was asked for"),
        (False, {"public": True}, "is private, but a public one was asked for"),
        (False, {}, r"holds 2 files \(notes.txt, pytorch_model.safetensors\)"),
    ],
)
def test_an_existing_repository_is_refused(
    public: bool, wish: dict[str, Any], message: str, runs: dict[str, Path], hub: Hub
) -> None:
    files = {".gitattributes": b"", "notes.txt": b"mine", "pytorch_model.safetensors": b"old"}
    hub_client.make(hub, "user/there", files, public)
    with pytest.raises(HubError, match=f"^'user/there' exists and {message}"):
        send(runs["full"], "user/there", **wish)
    assert hub.repos["user/there"].files == files


def test_a_new_repository_may_be_public(runs: dict[str, Path], hub: Hub) -> None:
    send(runs["full"], "user/for-all", public=True)
    assert not hub.repos["user/for-all"].private


def test_replacing_removes_the_old_model_and_nothing_else(runs: dict[str, Path], hub: Hub) -> None:
    inner = "checkpoint-1/model.safetensors"
    files = {".gitattributes": b"", "notes.txt": b"mine", inner: b"mine", "pytorch_model.safetensors": b"old"}
    hub_client.make(hub, "user/renewed", files, public=True)
    send(runs["full"], "user/renewed", replace=True, public=True)
    held = hub.repos["user/renewed"].files
    assert {"notes.txt", inner, "model.safetensors"} <= set(held)
    assert "pytorch_model.safetensors" not in held


# Bad input


@pytest.mark.parametrize(
    ("repo", "settings", "message"),
    [
        ("model", {}, "the owner is missing"),
        ("user/a b", {}, "is no hub id"),
        ("user/x", {"card": {"language": "en"}}, "the licence of the model: --license"),
        ("user/x", {"card": {"license": "mit"}}, "the language of its texts: --language"),
        ("user/x", {"card": CARD | {"license": "MIT Licence"}}, "license: .*identifier of a licence"),
        ("user/x", {"form": "merged"}, "holds whole weights"),
        ("stranger/x", {}, "may not write to 'stranger'"),
        ("nowhere://x", {}, "cannot be opened"),
    ],
)
def test_bad_wishes_are_refused(
    repo: str, settings: dict[str, Any], message: str, runs: dict[str, Path], hub: Hub
) -> None:
    with pytest.raises(HubError, match=message):
        send(runs["full"], repo, **settings)


def test_tokens(runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"does not accept your token \(401\)") as caught:
        send(runs["full"], "user/x", token="hf_wrongTokenOfTheTests")
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="there is no hub token"):
        send(runs["full"], "user/x")
    values = recipe_data(tmp_path / "run", Path("someone/tiny")) | {"card": CARD, "hub": "user/x"}
    with pytest.raises(HubError, match="there is no hub token"):
        run(recipe_from(values), data=data_of("classification"))
    assert not (tmp_path / "run").exists(), "told before anything was trained"


@pytest.mark.parametrize(
    ("repo", "told"),
    [
        ("user/a--b", "is no hub id"),
        ("user/x.git", "is no hub id"),
        (f"user/{'x' * 100}", "is no hub id"),
        ("nowhere://x", "cannot be opened: Protocol not known: nowhere"),
        ("file://{run}/model", "lies in the run itself"),
    ],
)
def test_a_place_that_takes_no_push_is_told_before_training(repo: str, told: str, hub: Hub, tmp_path: Path) -> None:
    values = recipe_data(tmp_path / "run", Path("someone/tiny")) | {"card": CARD}
    recipe = recipe_from(values | {"hub": repo.format(run=tmp_path / "run")})
    with pytest.raises(HubError, match=told):
        run(recipe, data=data_of("classification"))
    assert not (tmp_path / "run").exists()


def test_no_network(runs: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"at http://127.0.0.1:9 does not answer"):
        send(runs["full"], "user/x")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        send(runs["full"], "user/x")


def test_folders_that_hold_no_finished_run(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no folder"):
        send(tmp_path / "none", "user/x")
    with pytest.raises(RunError, match="holds no run"):
        send(tmp_path, "user/x")
    shutil.copytree(runs["full"], tmp_path / "half")
    (tmp_path / "half" / "metrics.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        send(tmp_path / "half", "user/x")


def test_an_adapter_on_a_local_base_needs_an_id_for_it(hub: Hub, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = recipe_from(recipe_data(tmp_path / "run", tiny_bert, tuning={"name": "lora", "rank": 2}))
    folder = run(recipe, data=data_of("classification")).folder
    with pytest.raises(HubError, match=r"stands on the local folder 'bert'.*--merged.*--base"):
        send(folder, "user/local")
    values = recipe_data(tmp_path / "other", tiny_bert, tuning={"name": "lora", "rank": 2}) | {"card": CARD}
    with pytest.raises(HubError, match=r"about to be trained stands on the local folder.*hub\.merged.*hub\.base"):
        run(recipe_from(values | {"hub": "user/local"}), data=data_of("classification"))
    assert not (tmp_path / "other/stages").exists(), "told before anything was trained"
    planned = send(folder, "user/local", base="someone/tiny", dry_run=True)
    assert "base_model: someone/tiny" in planned.card
    assert "base_model:" not in send(folder, "user/local", form="merged", dry_run=True).card


def test_an_adapter_on_a_run_with_an_adapter_needs_a_name_for_what_that_gives(
    runs: dict[str, Path], hub: Hub, tmp_path: Path
) -> None:
    """The adapter below is merged into its base, which then is a folder of this machine."""
    values = recipe_data(tmp_path / "run", runs["lora"], tuning={"name": "lora", "rank": 2}) | {"card": CARD}
    with pytest.raises(HubError, match="about to be trained stands on the local folder"):
        run(recipe_from(values | {"hub": "user/x"}), data=data_of("classification"))
    named = recipe_from(values | {"hub": {"repo": "user/second", "base": "someone/merged", "report": False}})
    with pytest.raises(HubError, match="is finished, but was not pushed: model 'someone/merged' was not found"):
        run(named, data=data_of("classification"))


def test_a_name_for_a_base_that_has_one_is_refused(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="the base of this adapter is 'someone/tiny'"):
        send(runs["lora"], "user/x", base="other/base")
    for name, form in (("full", "as it is"), ("lora", "merged")):
        with pytest.raises(HubError, match=r"--base .*but no adapter is pushed\. Leave it out"):
            send(runs[name], "user/x", base="other/base", form=form)
    values = recipe_data(tmp_path / "run", Path("someone/tiny"), tuning={"name": "lora", "rank": 2}) | {"card": CARD}
    with pytest.raises(HubError, match="the base of this adapter is 'someone/tiny'"):
        run(recipe_from(values | {"hub": {"repo": "user/x", "base": "other/base"}}), data=data_of("classification"))


def test_recipes_hold_no_passwords() -> None:
    values = recipe_data(Path("run"), Path("x")) | {"model": "ftp://me:secretword@host/base"}
    values["methods"] = [{"name": "anchor", "teacher": ["ftp://me:secretword@host/other"]}]
    values["compare"] = {"strategies": [{"name": "dann", "set": ["model.id=simplecache::ftp://me:secretword@host/a"]}]}
    with pytest.raises(RecipeError) as caught:
        recipe_from(values)
    told = str(caught.value)
    assert "model" in told and "methods.0.teacher.0: the URL 'ftp://host/other' is given with a password" in told
    assert "compare.strategies.0.set.0: the URL" in told
    assert "secretword" not in told


def test_a_recipe_that_pushes_is_asked_for_what_no_run_knows() -> None:
    values = recipe_data(Path("run"), Path("x")) | {"hub": {"repo": "user/x", "merged": True}}
    with pytest.raises(RecipeError) as caught:
        recipe_from(values)
    for text in ("card.license", "card.language", "hub.merged: only tuning 'lora'"):
        assert text in str(caught.value)


# What a recipe tells of this machine


@pytest.mark.parametrize(
    ("given", "public"),
    [
        ("data.folder=/mnt/x", 'data.folder="x"'),
        ("data.source.train = ~/secret/train.jsonl", 'data.source.train ={"path": "train.jsonl"}'),
        ("data.source.0.train.path=/mnt/x/y.csv", 'data.source.0.train.path="y.csv"'),
        ("data.target={unlabelled: /mnt/u.txt}", 'data.target={"unlabelled": {"path": "u.txt"}}'),
        ("model=/mnt/base", 'model={"id": "base"}'),
        ("model.id=file:///mnt/base", 'model.id="base"'),
        ("methods.0.teacher=[/mnt/a, owner/b]", 'methods.0.teacher=["a", "owner/b"]'),
        ("anchor.teacher='/mnt/ä'", 'anchor.teacher="ä"'),
        ("soup.models=[../runs/a]", 'soup.models=["a"]'),
        ("stages.1.twins=[../runs/a, owner/b]", 'stages.1.twins=["a", "owner/b"]'),
        ("data.folder=/mnt/x: [", 'data.folder="x: ["'),
        *(
            (text, text)
            for text in ("train.learning_rate=1e-4", "data.folder=demo:sentiment", "task.labels=[/, ~]", "odd")
        ),
    ],
)
def test_overrides_of_a_published_comparison_name_no_place_of_this_machine(given: str, public: str) -> None:
    compare = {"strategies": ["source_only", {"name": "dann", "set": [given, "seed=2"]}]}
    recipe = Recipe.model_validate(tidy(recipe_data(Path("run"), Path("owner/base")) | {"compare": compare}))
    published = public_recipe(recipe).compare
    assert published is not None
    assert published.strategies[1].set == [public, "seed=2"]


# Other places


def test_files_and_memory_take_a_push(runs: dict[str, Path], hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "shelf" / "mine"
    for url in (place.as_uri(), "memory://shelf/mine"):
        assert send(runs["full"], url).url == url
        assert send(runs["full"], url).url == url  # the same again
        with pytest.raises(HubError, match="holds something else"):
            send(runs["lora"], url)
        send(runs["lora"], url, replace=True)
        assert np.array_equal(logits(url, "classification"), logits(runs["lora"], "classification"))
    assert not list(place.parent.glob("*.part")) + list(place.parent.glob("*.old"))
    with pytest.raises(ModelError, match="cannot be fetched"):
        load_predictor("memory://nothing/here")


def test_a_place_below_the_home_folder_is_not_told(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = send(runs["full"], (tmp_path / "models/mine").as_uri())
    assert 'load_predictor("path/to/mine")' in result.card and str(tmp_path) not in result.card
    assert (tmp_path / "models/mine/README.md").read_text() == result.card
    stored = send(runs["full"], "memory://shelf/shown", dry_run=True).card
    assert 'load_predictor("memory://shelf/shown")' in stored
    assert "a copy of its folder on the own machine also loads without nlp_transfer, by `AutoModelFor" in stored
    assert 'from_pretrained("path/to/a/copy")`.' in stored, "transformers reads no URLs, nor do its pipelines"


@pytest.mark.parametrize("inside", ["", "model", "copies/mine"])
def test_a_run_is_not_pushed_into_itself(
    inside: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "run"
    shutil.copytree(runs["full"], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for url in ((folder / inside).as_uri(), f"file://~/run/{inside}"):
        with pytest.raises(HubError, match="lies in the run itself"):
            send(folder, url, replace=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
