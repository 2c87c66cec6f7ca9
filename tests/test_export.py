"""Exports: the same answers as the model, without torch; what is off is refused and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings

import httpx
import numpy as np
import pytest
import torch
import transformers
from conftest import byte_level_tokenizer, tiny_config, wordpiece_tokenizer
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import (
    ODD,
    TAGS,
    TEXT_HEAD,
    TOKEN_HEAD,
    ner_rows,
    plain_classifier,
    random_texts,
    recipe_values,
    write_data,
)
from services import running

from nlp_transfer import evaluate, export, load_predictor, recipe_from, run, streaming
from nlp_transfer.errors import ModelError
from nlp_transfer.exporting import graph, processor
from nlp_transfer.exporting.parity import compare
from nlp_transfer.exporting.record import GRAPH, RECORD
from nlp_transfer.finding import resolve
from nlp_transfer.fingerprints import answering
from nlp_transfer.last_layer import AFTER_ATTENTION
from nlp_transfer.serving.app import build_app
from nlp_transfer.serving.server import prepare
from nlp_transfer.serving.settings import ServiceLimits
from nlp_transfer.settings import read_settings

LABELS = ["bad", "good", "so-so"]
TEXTS = [*ODD, *random_texts(20, 3, longest=90)]
"""Empty and odd ones, and some of several windows."""


def own_answers(model, texts):
    """Rows whose labels are what the model says."""
    return Dataset.from_dict({"text": texts, "label": [answer["label"] for answer in model(texts)]})


@pytest.fixture(scope="module")
def exports(tmp_path_factory, tiny_bert):
    """For each kind the model and its export: a classifier in fp32, a tagger in int8, an adapter with thresholds."""
    folder = tmp_path_factory.mktemp("exports")
    text = plain_classifier(folder / "text", byte_level_tokenizer(), TEXT_HEAD, LABELS)
    tags = plain_classifier(folder / "tags", wordpiece_tokenizer(), TOKEN_HEAD, TAGS)
    rows = Dataset.from_list([{"words": row["words"], "tags": ["O"] * len(row["words"])} for row in ner_rows(30, 1)])
    data = write_data(folder / "data", "multi_label")
    trained = run(recipe_from(recipe_values(data, tiny_bert, "multi_label", tuning="lora")))
    made = {
        "text": (text, export(text, folder / "a", data=own_answers(load_predictor(text), random_texts(20, 1)))),
        "tags": (tags, export(tags, folder / "b", int8=True, data=rows, force=True)),
        "several": (trained.folder, export(trained.folder)),
    }
    return {name: (load_predictor(model, precision="fp32"), exported) for name, (model, exported) in made.items()}


SOUGHT = {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0}
ARCHITECTURES = {
    **{kind: (kind, {}) for kind in ("distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert")},
    "deberta-v3": ("deberta-v2", SOUGHT),
    "deberta-v2-xlarge": ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
}
"""Beside BERT and RoBERTa, which the other tests export; all that recipes train can be exported."""


def tiny_classifier(folder, architecture, head, labels):
    """Write a classifier of an architecture, its weights drawn so wide that different texts get different logits."""
    kind, more = ARCHITECTURES[architecture]
    tokenizer = wordpiece_tokenizer()
    config = tiny_config(kind, len(tokenizer))
    config.update({"initializer_range": 0.4, "pad_token_id": tokenizer.pad_token_id, **more})
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    torch.manual_seed(0)
    getattr(transformers, head).from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("head", [TEXT_HEAD, TOKEN_HEAD])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_exported_for_any_batch(architecture, head, tmp_path):
    text = head == TEXT_HEAD
    folder = tiny_classifier(tmp_path / "model", architecture, head, LABELS if text else TAGS)
    rows = Dataset.from_dict(
        {"text": ["good film"], "label": ["good"]} if text else {"words": [["good", "film"]], "tags": [["O", "O"]]}
    )
    exported = export(folder, tmp_path / "out", data=rows)
    session = load_predictor(exported.folder).model
    plain = getattr(transformers, head).from_pretrained(folder).eval()
    # What is exported reads the first token alone in its last layer, where the architecture allows it.
    hooked = [place for place in load_predictor(folder).model.modules() if place._forward_pre_hooks]
    assert bool(hooked) == (text and plain.config.model_type in AFTER_ATTENTION)
    tokenizer = wordpiece_tokenizer()
    full = [" ".join(random_texts(9, seed)) for seed in (4, 5, 6)]
    for texts in ([ODD[0]], ["good", *random_texts(5, 2, longest=30), full[0]], full):
        batch = tokenizer(
            texts, padding=True, truncation=True, max_length=64, return_tensors="pt", return_token_type_ids=False
        )
        with torch.inference_mode():
            expected = plain(**batch).logits.numpy()
        [found] = session.run(["logits"], {name: batch[name].numpy() for name in ("input_ids", "attention_mask")})
        assert found.shape == expected.shape
        read = ... if text else batch["attention_mask"].numpy().astype(bool)
        assert np.abs(found[read] - expected[read]).max() < 1e-4
        assert len(texts) == 1 or np.ptp(expected[read], axis=0).max() > 0.1, "else the test would show little"


@pytest.fixture
def quick(exports, monkeypatch):
    """Take the graph of the classifier that is there already in the place of a new one."""
    made = exports["text"][1].folder / GRAPH
    monkeypatch.setattr(graph, "write_graph", lambda model, pad_id, path: shutil.copy(made, path))


def flat(answer):
    """An answer with its numbers apart from the rest."""
    numbers = [answer.get("score", 0.0), *answer.get("probabilities", {}).values()]
    numbers += [item["score"] for kind in ("words", "entities") for item in answer.get(kind, [])]
    rest = {key: value for key, value in answer.items() if key not in ("score", "probabilities")}
    for kind in ("words", "entities"):
        if kind in rest:
            rest[kind] = [{key: value for key, value in item.items() if key != "score"} for item in rest[kind]]
    return rest, numbers


@pytest.mark.parametrize("name", ["text", "several"])
def test_export_answers_as_the_model(exports, name):
    model, exported = exports[name]
    answers = load_predictor(exported.folder, batch_tokens=300)(TEXTS)
    for ours, theirs in zip(answers, model(TEXTS), strict=True):
        assert flat(ours)[0] == flat(theirs)[0]
        assert flat(ours)[1] == pytest.approx(flat(theirs)[1], abs=1e-4)
    assert exported.fp32.largest <= 1e-4 and exported.fp32.agreement == 1.0
    kept = read_settings(exported.folder)
    assert kept["limits"]["max_length"] == model.limits.max_length
    if name == "several":
        assert list(kept["thresholds"].values()) == model.task.thresholds_C.tolist()
        assert exported.folder == model_folder(exports) / "onnx"
        assert exported.fp32.rows == 10  # source dev as the run has scored it


@pytest.mark.parametrize("name", ["text", "tags", "several"])
def test_an_export_is_served(exports, name):
    exported = exports[name][1].folder
    texts = [text for text in TEXTS if text.encode("utf8", "ignore").decode() == text]  # JSON holds no lone surrogates
    expected = load_predictor(exported)(texts)
    with running(build_app(prepare(exported), ServiceLimits())) as service:
        reply = httpx.post(f"{service.url}/predict", json={"texts": texts}, timeout=60)
        assert httpx.post(f"{service.url}/explain", json={"text": "a"}).status_code == 404  # gradients need torch
    assert reply.status_code == 200, reply.text
    for ours, theirs in zip(reply.json()["answers"], expected, strict=True):
        assert flat(ours)[0] == flat(theirs)[0]
        assert flat(ours)[1] == pytest.approx(flat(theirs)[1], abs=1e-4)


@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), min_size=1, max_size=5))
def test_exports_answer_any_text(exports, texts):
    for name in ("text", "tags", "several"):
        answers = load_predictor(exports[name][1].folder)(texts)
        assert [answer["text"] for answer in answers] == texts


def model_folder(exports):
    return exports["several"][1].folder.parent


def test_int8_is_smaller_and_close(exports):
    model, exported = exports["tags"]
    answers = load_predictor(exported.folder)(TEXTS)
    pairs = [
        (ours, theirs)
        for one, other in zip(answers, model(TEXTS), strict=True)
        for ours, theirs in zip(one["words"], other["words"], strict=True)
    ]
    assert all(ours["word"] == theirs["word"] and ours["start"] == theirs["start"] for ours, theirs in pairs)
    same = np.mean([ours["tag"] == theirs["tag"] for ours, theirs in pairs])
    assert 0.8 < same <= 1.0
    assert exported.int8.largest > exported.fp32.largest
    record = json.loads((exported.folder / RECORD).read_text(encoding="utf8"))
    assert record["precision"] == "int8" and record["parity"]["int8"]["agreement"] == exported.int8.agreement
    graph_types = {node.op_type for node in _graph(exported.folder).node}
    assert "MatMulInteger" in graph_types


def _graph(folder):
    import onnx

    return onnx.load(folder / GRAPH).graph


WITHOUT_TORCH = """
import json, sys
from nlp_transfer import load_predictor
texts = json.load(sys.stdin)
answers = [load_predictor(folder)(texts) for folder in sys.argv[1:]]
assert "torch" not in sys.modules, sorted(name for name in sys.modules if "torch" in name)[:5]
json.dump(answers, sys.stdout)
"""


@pytest.mark.slow
def test_exports_answer_without_torch(exports):
    folders = [exported.folder for _, exported in exports.values()]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, folders)]
    texts = [text for text in TEXTS if "\ud800" not in text]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for folder, answers in zip(folders, json.loads(done.stdout), strict=True):
        assert answers == load_predictor(folder)(texts)


COMMAND_WITHOUT_TORCH = """
import sys
from nlp_transfer.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, sorted(name for name in sys.modules if "torch" in name)[:5]
"""


@pytest.mark.parametrize(
    "command", ["predict", *(pytest.param(name, marks=pytest.mark.slow) for name in ("evaluate", "watch"))]
)
def test_commands_take_exports_without_torch(exports, tmp_path, command):
    own_answers(exports["text"][0], ["good film", "a bad app", "poor"]).to_json(tmp_path / "rows.jsonl")
    file, out = str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")
    places = {
        "predict": ["--input", file, "--output", out],
        "evaluate": ["--data", file],
        "watch": ["--input", file, "--output", out, "--page", str(tmp_path / "page.html"), "--reference", file],
    }
    line = [sys.executable, "-c", COMMAND_WITHOUT_TORCH, command, str(exports["text"][1].folder), *places[command]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_evaluate_takes_exports(exports):
    model, exported = exports["text"]
    rows = own_answers(model, random_texts(12, 5))
    score = evaluate(exported.folder, rows, resamples=50)
    assert score.metrics == evaluate(model, rows, resamples=50).metrics
    assert score.metrics["accuracy"] == 1.0


def test_the_command_predicts_with_an_export_and_resumes(exports, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from nlp_transfer.cli import app

    texts = ["good film", "a bad app", ""]
    (tmp_path / "in.txt").write_text("\n".join([*texts, ""]))
    folder, output = exports["text"][1].folder, tmp_path / "out.jsonl"
    command = ["predict", str(folder), "--input", str(tmp_path / "in.txt"), "--output", str(output)]

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(streaming, "join_parts", stop)
        assert CliRunner().invoke(app, command).exit_code == 130
    assert not output.exists()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "unfinished prediction had done: 3" in done.stderr
    answers = [json.loads(line) for line in output.read_text(encoding="utf8").splitlines()]
    assert answers == load_predictor(folder)(texts)


def test_weights_beside_the_graph_tell_one_export_from_another(tmp_path):
    (tmp_path / RECORD).write_text("{}")
    (tmp_path / f"{GRAPH}.data").write_bytes(b"weights")
    before = answering(tmp_path)
    (tmp_path / f"{GRAPH}.data").write_bytes(b"others")
    assert answering(tmp_path) != before


def test_parity_sees_what_differs(exports):
    model, exported = exports["text"]
    other = load_predictor(exported.folder)
    rows = own_answers(model, random_texts(30, 6))
    assert compare(model, other, rows, "here").loss == 0.0
    read = other.window_logits
    other.window_logits = lambda windows: [row + np.array([0, 0, 100]) for row in read(windows)]
    wrong = compare(model, other, rows, "here")
    share = np.mean([label == "so-so" for label in rows["label"]])
    assert wrong.largest == pytest.approx(100, abs=1e-3)
    assert wrong.agreement == pytest.approx(share) and wrong.loss == pytest.approx(1 - share)

    def wrong_where_long(windows):
        return [
            row + (len(window.input_ids) == model.limits.max_length)
            for row, window in zip(read(windows), windows, strict=True)
        ]

    other.window_logits = wrong_where_long
    short = own_answers(model, random_texts(9, 6, longest=3))
    assert compare(model, other, short, "here").largest == pytest.approx(1, abs=1e-3)
    for wrong_one in (0, -1):

        def damaged(windows, wrong_one=wrong_one):
            found = [*read(windows)]
            found[wrong_one] = found[wrong_one] * np.nan
            return found

        other.window_logits = damaged
        assert compare(model, other, rows, "here").largest == float("inf")


def test_the_command_says_how_close_the_export_is(exports, quick, tmp_path):
    from typer.testing import CliRunner

    from nlp_transfer.cli import app

    rows = own_answers(exports["text"][0], ["good film", "a bad app", "poor"])
    rows.to_json(tmp_path / "rows.jsonl")
    source, target = exports["text"][1].folder.parent / "text", tmp_path / "out"
    command = ["export", str(source), "--output", str(target), "--data", str(tmp_path / "rows.jsonl")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "fp32: 3 rows of" in done.output and "same answers 100.00%" in done.output
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "exists already" in again.output


# --- what is refused ---------------------------------------------------------------------------------------------


def test_int8_that_loses_too_much_is_refused_unless_forced(exports, quick, tmp_path):
    model, exported = exports["text"]
    source = exported.folder.parent / "text"
    texts = random_texts(300, 7)
    rows = own_answers(model, texts)
    with pytest.raises(ModelError, match=r"int8 loses .* more than max_loss 0"):
        export(source, tmp_path / "out", int8=True, data=rows, max_loss=0.0)
    assert list(tmp_path.iterdir()) == []
    kept = export(source, tmp_path / "out", int8=True, data=rows, max_loss=0.0, force=True)
    assert kept.int8.loss > 0 and load_predictor(kept.folder)("good film")[0]["label"] in LABELS


def test_a_graph_of_another_model_is_refused(quick, tmp_path):
    other = plain_classifier(tmp_path / "other", byte_level_tokenizer(), TEXT_HEAD, LABELS, seed=1)
    rows = Dataset.from_dict({"text": ["good film", "a bad app"], "label": ["good", "bad"]})
    with pytest.raises(ModelError, match="answers otherwise"):
        export(other, tmp_path / "out", data=rows)
    assert not (tmp_path / "out").exists()


def test_an_architecture_that_cannot_be_exported(exports, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("aten.strange is not supported\nmore")

    monkeypatch.setattr(torch.onnx, "export", fails)
    source = exports["text"][1].folder.parent / "text"
    rows = Dataset.from_dict({"text": ["good film"], "label": ["good"]})
    with pytest.raises(ModelError, match=r"'roberta' cannot be exported to ONNX: aten.strange is not supported"):
        export(source, tmp_path / "out", data=rows)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_user_are_left_alone(exports, tmp_path):
    with pytest.raises(ModelError, match="exists already"):
        export(model_folder(exports))
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        export(model_folder(exports), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_cannot_be_meant(exports, tmp_path):
    source = exports["text"][1].folder.parent / "text"
    with pytest.raises(ModelError, match=r"Formats: onnx\. Did you mean 'onnx'"):
        export(source, tmp_path / "out", format="onx")
    with pytest.raises(ModelError, match="--output"):
        export(source)
    with pytest.raises(ModelError, match="--data"):
        export(source, tmp_path / "out")
    folder = exports["text"][1].folder
    with pytest.raises(ModelError, match="is an export"):
        resolve(str(folder))
    with pytest.raises(ModelError, match="is an export"):
        load_predictor(folder, precision="bf16")
    with pytest.raises(ModelError, match="max_length 5000"):
        load_predictor(folder, max_length=5000)


def test_an_export_of_an_export_is_refused(exports, tmp_path):
    with pytest.raises(ModelError, match=r"is an export already.*Name the run"):
        export(exports["text"][1].folder, tmp_path / "out", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_int8_exports_say_which_weights_they_hold_and_warn_where_these_overflow(exports, tmp_path, monkeypatch):
    folder = shutil.copytree(exports["tags"][1].folder, tmp_path / "int8")
    record = json.loads((folder / RECORD).read_text(encoding="utf8"))
    assert record["reduced_range"] == processor.saturates()

    def warned(reduced, overflows, place=folder):
        (folder / RECORD).write_text(json.dumps(record | {"reduced_range": reduced}))
        monkeypatch.setattr(processor, "saturates", lambda: overflows)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            load_predictor(place)
        return [str(one.message) for one in found if "use all 8 bits" in str(one.message)]

    assert not warned(True, True) and not warned(True, False) and not warned(False, False)
    [said] = warned(False, True)
    assert str(folder) in said and "Export the run with --int8 on this machine" in said
    assert not warned(False, True, exports["text"][1].folder)  # fp32 answers the same everywhere


@pytest.mark.parametrize("reduced", [True, False])
def test_weights_of_a_reduced_range_are_of_seven_bits(exports, tmp_path, reduced):
    from onnx import numpy_helper

    (tmp_path / "source").mkdir()
    shutil.copy(exports["text"][1].folder / GRAPH, tmp_path / "source")
    graph.quantise(tmp_path / "source" / GRAPH, tmp_path / GRAPH, reduced)
    weights = [numpy_helper.to_array(one) for one in _graph(tmp_path).initializer if one.data_type == 3 and one.dims]
    largest = max(int(np.abs(one.astype(int)).max()) for one in weights if one.size)
    assert largest <= 64 if reduced else 64 < largest <= 128


@pytest.mark.parametrize("name", [GRAPH, RECORD, "nlp_transfer.json", "tokenizer.json"])
def test_a_damaged_export_is_named(exports, tmp_path, name):
    folder = shutil.copytree(exports["text"][1].folder, tmp_path / "damaged")
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ModelError, match="Export the run again"):
        load_predictor(folder)
