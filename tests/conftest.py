"""Tiny random models, built in memory, and a guard against the network."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest

WORDS = [
    "the",
    "a",
    "of",
    "in",
    "on",
    "and",
    "good",
    "bad",
    "great",
    "poor",
    "fine",
    "film",
    "plot",
    "actor",
    "ending",
    "battery",
    "screen",
    "app",
    "crash",
    "sync",
    "slow",
    "fast",
    "i",
    "it",
    "was",
    "is",
    "not",
    "very",
    "really",
    "bought",
    "watched",
    "works",
    "broke",
    "love",
    "hate",
    "lead",
    "cast",
    "phone",
    "update",
    "Anna",
    "Berg",
    "Oslo",
    "Acme",
    "Nile",
    "Corp",
    "river",
    "visited",
    "joined",
    "left",
    "went",
    "to",
    "with",
    "from",
]


def _is_loopback(address: Any) -> bool:
    host = address[0] if isinstance(address, tuple) else address
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "") or not isinstance(address, tuple)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection beyond this machine."""
    real = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> Any:
        if not _is_loopback(address):
            raise OSError(f"tests must not use the network: {address}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def no_fresh_processes() -> Iterator[None]:
    """Leave out the fresh process that every run ends with: it takes longer than a whole run of a tiny model.

    The tests of reloading and of pushing start it.
    """
    from nlp_transfer import running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "check_reload", lambda *args: 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_reports() -> Iterator[None]:
    """Leave out the reports of runs: drawing one takes half as long as a whole run of a tiny model.

    What a run would call is tested by the tests of reports, and whole by the processes that tests start.
    """
    from nlp_transfer import running
    from nlp_transfer.report import comparison

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "report_run", lambda folder: None)
        patch.setattr(comparison, "_run_facts", lambda folder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Leave files to the system: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


def wordpiece_tokenizer() -> Any:
    """A BERT tokenizer whose vocabulary holds WORDS and single letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *[f"##{letter}" for letter in letters]]
    names += [word.lower() for word in WORDS if word.lower() not in names]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip


def byte_level_tokenizer() -> Any:
    """A RoBERTa-like byte-level BPE tokenizer, trained on WORDS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
        bos_token="<s>", eos_token="</s>", mask_token="<mask>", model_max_length=64,
    )  # fmt: skip


def sentencepiece_tokenizer() -> Any:
    """A Unigram tokenizer with metaspace, as SentencePiece models convert to."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def tiny_config(kind: str, vocabulary: int) -> Any:
    """Configuration of a tiny encoder of one architecture."""
    import transformers as t

    common = {"vocab_size": vocabulary, "max_position_embeddings": 66}
    makers = {
        "bert": lambda: t.BertConfig(**common, **SMALL),
        "roberta": lambda: t.RobertaConfig(**common, **SMALL, pad_token_id=1, bos_token_id=0, eos_token_id=2),
        "distilbert": lambda: t.DistilBertConfig(**common, dim=32, n_layers=2, n_heads=2, hidden_dim=48),
        "electra": lambda: t.ElectraConfig(**common, **SMALL, embedding_size=32),
        "albert": lambda: t.AlbertConfig(**common, **SMALL, embedding_size=16),
        "mpnet": lambda: t.MPNetConfig(**common, **SMALL),
        "deberta-v2": lambda: t.DebertaV2Config(
            **common, **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=32
        ),
        "modernbert": lambda: t.ModernBertConfig(
            **common, **SMALL, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
            global_attn_every_n_layers=2, local_attention=16,
        ),
    }  # fmt: skip
    return makers[kind]()


def build_model(folder: Path, kind: str = "bert", head: str = "AutoModel", seed: int = 0) -> Path:
    """Write a tiny random model with its tokenizer to a folder."""
    import torch
    import transformers

    tokenizer = byte_level_tokenizer() if kind == "roberta" else wordpiece_tokenizer()
    torch.manual_seed(seed)
    model = getattr(transformers, head).from_config(tiny_config(kind, len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT encoder with pooler and without a masked-LM head."""
    folder = build_model(tmp_path_factory.mktemp("tiny") / "bert")
    # Every training collects garbage; over the heap of the imported libraries that takes longer than the training.
    gc.collect()
    gc.freeze()
    return folder


@pytest.fixture(scope="session")
def soups(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Any, list[str]]:
    """A comparison of all that averages and teaches, over two seeds; and the folders in which something was trained."""
    from helpers import data_of, recipe_for

    from nlp_transfer import jobs
    from nlp_transfer.comparison.compare import compare

    trained, train = [], jobs.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "train", lambda job, model: trained.append(str(job.folder)) or train(job, model))
        named = ["source_only", "soup", "dann", "mcc", "ensemble"]
        recipe = recipe_for(tmp_path_factory.mktemp("soups"), tiny_bert)
        return compare(recipe, named, [1, 2], data=data_of("classification")), trained
