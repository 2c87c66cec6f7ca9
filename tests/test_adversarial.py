"""Adversaries: what the conditional one sees and how it weighs, what balance does, and which way the encoder goes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import built, make_step, numpy_of, softmax, term

from nlp_transfer import functional
from nlp_transfer.methods.cdan import Cdan
from nlp_transfer.units import UNKNOWN


@pytest.mark.parametrize("multi_label", [False, True])
def test_cdan_is_the_weighted_loss_on_the_outer_product(multi_label: bool) -> None:
    step = make_step(multi_label=multi_label)
    rows, logits, _ = numpy_of(step)
    if multi_label:
        yes = 1 / (1 + np.exp(-logits))
        chances = np.stack([yes, 1 - yes], axis=-1).reshape(16, 6) / 3
        entropies = -(yes * np.log(yes) + (1 - yes) * np.log(1 - yes)).mean(-1)
    else:
        chances = softmax(logits)
        entropies = -(chances * np.log(chances)).sum(-1)
    for entropy in (True, False):
        method = built("cdan", multi_label, entropy=entropy, dropout=0.0, hidden=5)
        first, last = (method.discriminator[at] for at in (0, 3))  # type: ignore[index]
        (w1, b1, w2, b2) = (v.detach().double().numpy() for v in (first.weight, first.bias, last.weight, last.bias))
        losses = []
        for unit in range(16):
            seen = np.array([f * g for f in rows[unit] for g in chances[unit]])
            logit = float((w2 @ np.maximum(w1 @ seen + b1, 0) + b2)[0])
            right = 1 / (1 + math.exp(-logit)) if unit >= 7 else 1 / (1 + math.exp(logit))
            losses.append(-math.log(right))
        weights = 1 + np.exp(-entropies) if entropy else np.ones(16)
        halves = [np.average(losses[part], weights=weights[part]) for part in (slice(7), slice(7, 16))]
        assert term(method, step).item() == pytest.approx(np.mean(halves), rel=1e-5)
    term(method, step).backward()
    assert step.logits_UC.grad is None


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_balance_gives_each_common_class_the_same_weight(name: str) -> None:
    """As if every unit of a class stood for all of them: the loss is the mean of the losses of the classes."""
    chosen = [0] * 6 + [1] * 2 + [0] * 9 + [1]
    step = make_step(8, 10)
    labels = torch.tensor(chosen[:8] + [UNKNOWN] * 10)
    step = replace(step, labels_U=labels, logits_UC=torch.eye(3)[chosen] * 60.0)
    settings = {"dropout": 0.0, "hidden": 5} | ({"entropy": False} if name == "cdan" else {})
    alone = [
        term(built(name, **settings), step.take(torch.tensor(chosen).eq(label).nonzero()[:, 0])) for label in (0, 1)
    ]
    plain, balanced = (term(built(name, balance=value, **settings), step) for value in (False, True))
    assert balanced.item() == pytest.approx((alone[0] + alone[1]).item() / 2, rel=1e-5)
    assert abs(balanced - plain).item() > 1e-3


def test_randomized_map_has_the_inner_products_of_the_outer_product() -> None:
    torch.manual_seed(0)
    features, predictions = torch.randn(5, 6), torch.randn(5, 3).softmax(-1)
    exact = functional.multilinear_map(features, predictions)
    random = functional.randomized_multilinear_map(
        features, predictions, torch.randn(6, 200_000), torch.randn(3, 200_000)
    )
    by_hand = (features @ features.T) * (predictions @ predictions.T)
    torch.testing.assert_close(exact @ exact.T, by_hand)
    assert float((random @ random.T - by_hand).abs().max()) < 0.15


def test_map_is_randomized_only_where_it_is_too_wide_and_its_matrices_are_saved() -> None:
    assert not [name for name in built("cdan", max_width=18).state_dict() if "random" in name]
    wide = built("cdan", max_width=17, random_width=11)
    assert isinstance(wide, Cdan)
    assert {name: value.shape for name, value in wide.state_dict().items() if "random" in name} == {
        "random_HW": (6, 11),
        "random_DW": (3, 11),
    }
    assert wide.discriminator[0].in_features == 11
    assert not [name for name, _ in wide.named_parameters() if "random" in name]
    assert torch.isfinite(term(wide, make_step()))


def test_cdan_tells_domains_apart_that_differ_only_inside_classes() -> None:
    """Classes change places from domain to domain: features alone are alike, features with predictions are not."""
    torch.manual_seed(0)
    place = torch.tensor([0, 1] * 40)
    domain = torch.tensor([0] * 40 + [1] * 40)
    label = torch.where(domain == 0, place, 1 - place)
    features = torch.randn(80, 6) * 0.1 + place[:, None] * 2 - 1
    logits = torch.nn.functional.one_hot(label, 3) * 8.0
    step = replace(make_step(40, 40), features_UH=features, logits_UC=logits, domain_U=domain)
    accuracy = {}
    for name in ("dann", "cdan"):
        method = built(name, dropout=0.0, hidden=16)
        optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            term(method, step).backward()
            optimizer.step()
        term(method, step)
        accuracy[name] = method.watch(step)["domain_accuracy"]
    assert accuracy["cdan"] > 0.95
    assert accuracy["dann"] < 0.75


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_adversaries_bring_domains_together_that_the_discriminator_could_tell_apart(name: str) -> None:
    """A linear encoder may drop the one direction in which the domains differ, and does so only behind the reversal."""
    gaps = {}
    for strength in (0.0, 1.0):
        torch.manual_seed(0)
        encoder = torch.nn.Linear(6, 6, bias=False)
        with torch.no_grad():
            encoder.weight.copy_(torch.eye(6))
        method = built(name, max_lambda=strength, hidden=16, dropout=0.0)
        optimizer = torch.optim.SGD([*encoder.parameters(), *method.parameters()], lr=0.1)
        inputs = make_step(64, 64, shift=1.0)
        for _ in range(300):
            optimizer.zero_grad()
            term(method, replace(inputs, features_UH=encoder(inputs.features_UH.detach()), progress=1.0)).backward()
            optimizer.step()
        features = encoder(inputs.features_UH).detach()
        gaps[strength] = float((features[:64].mean(0) - features[64:].mean(0)).norm())
    assert gaps[1.0] < 0.5 * gaps[0.0]


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_gradient_of_the_features_is_minus_lambda_times_the_plain_one(name: str) -> None:
    step = replace(make_step(), progress=1.0)
    plain, reversed_ = (built(name, dropout=0.0, bounded=False, max_lambda=value) for value in (1.0, 0.2))
    gradients = [torch.autograd.grad(term(method, step), step.features_UH)[0] for method in (plain, reversed_)]
    torch.testing.assert_close(gradients[1], 0.2 * gradients[0])
    nudge = torch.zeros_like(step.features_UH)
    nudge[2, 3] = 1e-2
    up, down = (term(plain, replace(step, features_UH=step.features_UH + side * nudge)) for side in (1, -1))
    slope = (up - down).item() / 2e-2
    assert gradients[0][2, 3].item() == pytest.approx(-slope * functional.ramp(1.0), rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_an_encoder_that_has_won_is_held_and_the_discriminator_goes_on(name: str) -> None:
    """Taught the domains the wrong way round, the discriminator is worse than one that knows nothing."""
    step = replace(make_step(shift=3.0), progress=1.0)
    for told, held in ((step.domain_U, False), (1 - step.domain_U, True)):
        method = built(name, dropout=0.3, hidden=16)
        optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            term(method, replace(step, domain_U=told)).backward()
            optimizer.step()
        found = {}
        for method.bounded in (True, False):
            torch.manual_seed(3)
            loss = term(method, step)
            found[method.bounded] = torch.autograd.grad(loss, [step.features_UH, *method.parameters()])
            assert (loss.item() > math.log(2)) == held
            assert method.watch(step)["held"] == float(held and method.bounded)
        assert method.discriminator.training
        for number, (bounded, free) in enumerate(zip(found[True], found[False], strict=True)):
            if number == 0 and held:
                assert not bounded.any()
                assert free.any()
            else:
                assert torch.equal(bounded, free)


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_advice_names_its_method(name: str) -> None:
    advice = built(name, max_lambda=0.1).advice({"domain": 0.693, "domain_accuracy": 0.5, "lambda": 0.0999})
    assert advice is not None
    assert advice.startswith(f"{name}: ")
    assert f"methods.{name}.max_lambda" in advice


def test_lambda_begins_with_the_method() -> None:
    method = built("dann", begin=0.5, max_lambda=0.1)
    seen = []
    for progress in (0.2, 0.5, 0.75, 1.0):
        method.terms(replace(make_step(), progress=progress))
        seen.append(method.watch(make_step())["lambda"])
    assert seen[:2] == [0.0, 0.0]
    assert seen[2] == pytest.approx(0.1 * (2 / (1 + np.exp(-5)) - 1))
    assert seen[3] == pytest.approx(0.1, rel=1e-3)
