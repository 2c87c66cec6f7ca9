"""The discriminator of several source domains and the target: its maths, what it does to features, what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import built, make_step, numpy_of, softmax, term

from nlp_transfer.functional import balanced_domain_loss
from nlp_transfer.methods.adversarial import Adversarial
from nlp_transfer.parts import METHODS
from nlp_transfer.units import TARGET, Sizes, Step

ORIGINS = [1, 0, 0, 1, 0, 0, 1, *[TARGET] * 9]


def three(shift: float = 1.0) -> Step:
    """Two source domains and the target, in the order of :data:`ORIGINS`."""
    return replace(make_step(7, 9, shift=shift), origin_U=torch.tensor(ORIGINS))


def adversary(name: str, sources: int = 2, **settings: object) -> Adversarial:
    torch.manual_seed(1)
    return METHODS[name](Sizes(6, 3, sources=sources), **({"dropout": 0.0, "hidden": 5} | settings))  # type: ignore


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_every_domain_is_a_class_and_has_the_same_weight(name: str) -> None:
    method, step = adversary(name), three()
    rows, logits, _ = numpy_of(step)
    first, last = method.discriminator[0], method.discriminator[3]
    (w1, b1, w2, b2) = (v.detach().double().numpy() for v in (first.weight, first.bias, last.weight, last.bias))
    assert w2.shape == (3, 5)
    chances = softmax(logits)
    weights = 1 + np.exp((chances * np.log(chances)).sum(-1)) if name == "cdan" else np.ones(16)
    seen = np.einsum("uh,ud->uhd", rows, chances).reshape(16, 18) if name == "cdan" else rows
    answers = softmax(np.maximum(seen @ w1.T + b1, 0) @ w2.T + b2)
    domain = np.array([2 if origin == TARGET else origin for origin in ORIGINS])
    losses = -np.log(answers[np.arange(16), domain])
    expected = np.mean([np.average(losses[domain == d], weights=weights[domain == d]) for d in range(3)])
    assert term(method, step).item() == pytest.approx(expected, rel=1e-5)
    right = answers.argmax(-1) == domain
    watched = method.watch(step)["domain_accuracy"]
    assert watched == pytest.approx(np.mean([right[domain == d].mean() for d in range(3)]))


def test_confused_discriminator_has_loss_ln_d() -> None:
    domain = torch.tensor([0] * 30 + [1] + [2] * 3)
    assert balanced_domain_loss(torch.zeros(34, 3), domain).item() == pytest.approx(math.log(3))


def test_two_logits_are_the_binary_loss() -> None:
    """One logit x against 0 and x: of one source, both are the same."""
    logits, domain, weight = torch.randn(9), torch.tensor([0] * 5 + [1] * 4), torch.rand(9)
    pairs = torch.stack([torch.zeros(9), logits], dim=-1)
    ours, binary = balanced_domain_loss(pairs, domain, weight), balanced_domain_loss(logits, domain, weight)
    assert ours.item() == pytest.approx(binary.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_of_one_source_origins_change_nothing(name: str) -> None:
    step = make_step()
    named = replace(step, origin_U=torch.where(step.domain_U == 1, TARGET, 0))
    method = adversary(name, 1)
    assert method.discriminator[-1].out_features == 1
    torch.manual_seed(1)
    plain = built(name, dropout=0.0, hidden=5)
    assert torch.equal(term(method, named), term(plain, step))


def test_a_source_that_a_step_lacks_drops_out() -> None:
    method = adversary("dann")
    step = three().take(torch.tensor([1, 2, 4, 8, 9]))
    value = term(method, step)
    value.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert 0.0 <= method.watch(step)["domain_accuracy"] <= 1.0
    alone = three().take(torch.arange(7))
    assert term(method, alone).item() == 0.0
    assert method.watch(alone)["domain_accuracy"] == pytest.approx(1 / 3)


def test_units_must_say_where_they_come_from() -> None:
    with pytest.raises(ValueError, match="2 source domains must say which one"):
        term(adversary("dann"), make_step())


def gaps_before_and_after(name: str, sources: int) -> list[tuple[float, float]]:
    """Distances of the means of three domains, when features go a step where a trained discriminator sends them."""
    origins = torch.tensor([0] * 60 + [1] * 60 + [TARGET] * 60)
    step = replace(make_step(120, 60, shift=0.0), origin_U=origins)
    rows = step.features_UH.detach().clone()
    for number, origin in enumerate((0, 1, TARGET)):
        rows[origins == origin, number] += 1.0
    method = adversary(name, sources, hidden=16, max_lambda=1.0)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        term(method, replace(step, features_UH=rows, progress=1.0)).backward()
        optimizer.step()
    rows.requires_grad_()
    (gradient,) = torch.autograd.grad(term(method, replace(step, features_UH=rows, progress=1.0)), rows)
    moved = rows - 50.0 * gradient
    means = [[side[origins == origin].detach().mean(0) for origin in (0, 1, TARGET)] for side in (rows, moved)]
    pairs = ((0, 1), (0, 2), (1, 2))
    return [(float((means[0][a] - means[0][b]).norm()), float((means[1][a] - means[1][b]).norm())) for a, b in pairs]


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_all_domains_come_together(name: str) -> None:
    """Source against target alone leaves the sources as far apart as they were."""
    assert all(after < 0.9 * before for before, after in gaps_before_and_after(name, 2))
    binary = gaps_before_and_after(name, 1)
    assert binary[0][1] > 0.97 * binary[0][0]


def test_advice_knows_the_chance_of_three_domains() -> None:
    method = adversary("dann", max_lambda=0.1)
    chance = {"domain": math.log(3), "domain_accuracy": 1 / 3, "lambda": 0.0999}
    told = method.advice(chance)
    assert told is not None
    assert "at chance" in told
    assert "ln 3 = 1.099" in told
    assert method.advice(chance | {"domain": 0.9}) is None
    assert "outruns" in str(method.advice(chance | {"domain": 1.3}))
