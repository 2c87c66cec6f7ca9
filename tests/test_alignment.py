"""The methods that align domains: their formulas against loops over units, their gradients, and steps with too few."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_recipe
from steps import ALIGNING, SIZES, assert_differentiable_zero, built, make_step, numpy_of, softmax, term

from nlp_transfer import functional
from nlp_transfer.errors import RecipeError
from nlp_transfer.units import UNKNOWN, class_weights

# What is predicted, as outcomes of decisions


def test_decisions_of_one_label_and_of_several() -> None:
    step = make_step()
    assert torch.equal(step.decisions_UKD.softmax(-1)[:, 0], step.logits_UC.softmax(-1))
    assert step.outcomes_UKD[:7, 0].argmax(-1).tolist() == step.labels_U[:7].tolist()
    assert SIZES[False].outcomes == step.decisions_UKD[0].numel() == 3
    several = make_step(multi_label=True)
    probabilities = several.decisions_UKD.softmax(-1)
    torch.testing.assert_close(probabilities[..., 0], several.logits_UC.sigmoid())
    torch.testing.assert_close(probabilities[..., 1], 1 - several.logits_UC.sigmoid())
    assert torch.equal(several.outcomes_UKD[:7, :, 0], several.labels_U[:7])
    assert torch.equal(several.outcomes_UKD[:7].sum(-1), torch.ones(7, 3))
    assert SIZES[True].outcomes == several.decisions_UKD[0].numel() == 6
    for given in (step, several):
        assert not given.outcomes_UKD[7:].any()  # no label, no outcome
        assert given.labelled_U.tolist() == [True] * 7 + [False] * 9


def test_subsample_keeps_units_whole_and_bounds_each_domain() -> None:
    step = make_step(source=40, target=5)
    step = replace(step, weight_U=step.features_UH[:, 0].detach())
    kept = step.subsample(8)
    assert kept.domain_U.tolist() == [0] * 8 + [1] * 5
    assert torch.equal(kept.features_UH[:, 0], kept.weight_U)
    assert len(set(kept.weight_U.tolist())) == 13
    assert (kept.labels_U[8:] == UNKNOWN).all()
    assert torch.equal(step.subsample(40).features_UH, step.features_UH)


# Formulas


def test_entropy_and_weight() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [1.0, 2.0, 0.5]])
    chances = softmax(logits[2].numpy())
    expected = [math.log(3), 0.0, -sum(p * math.log(p) for p in chances)]
    assert functional.entropy(logits).tolist() == pytest.approx(expected, abs=1e-6)
    assert functional.certainty_weight(functional.entropy(logits)).tolist()[:2] == pytest.approx([4 / 3, 2.0])


def kernel_by_hand(one: np.ndarray, other: np.ndarray, gamma: float, bandwidths: tuple[float, ...]) -> float:
    square = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
    return float(np.mean([math.exp(-square / (width * gamma)) for width in bandwidths]))


def median_square(rows: np.ndarray) -> float:
    squares = sorted(float(((a - b) ** 2).sum()) for a, b in itertools.combinations(rows, 2))
    return squares[(len(squares) - 1) // 2]


@pytest.mark.parametrize("bandwidths", [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)])
def test_mmd_is_the_unbiased_double_sum(bandwidths: tuple[float, ...]) -> None:
    step = make_step()
    rows, _, _ = numpy_of(step)
    gamma = median_square(rows)
    source, target = rows[:7], rows[7:]

    def mean(ones: np.ndarray, others: np.ndarray, same: bool) -> float:
        values = [
            kernel_by_hand(one, other, gamma, bandwidths)
            for (i, one), (j, other) in itertools.product(enumerate(ones), enumerate(others))
            if not (same and i == j)
        ]
        return float(np.mean(values))

    expected = mean(source, source, True) + mean(target, target, True) - 2 * mean(source, target, False)
    assert term(built("mmd", bandwidths=list(bandwidths)), step).item() == pytest.approx(expected, abs=1e-5)


def test_typical_distance_is_a_constant_for_gradients() -> None:
    """With γ held, the slope of Σ k at a unit is −4/γ Σ_j k(x, x_j) (x − x_j)."""
    rows = make_step().features_UH.detach().double().requires_grad_()
    functional.gaussian_kernels(rows, (1.0,)).sum().backward()
    values = rows.detach().numpy()
    gamma = median_square(values)
    slopes = [
        -4 / gamma * sum(kernel_by_hand(one, other, gamma, (1.0,)) * (one - other) for other in values)
        for one in values
    ]
    assert rows.grad is not None
    np.testing.assert_allclose(rows.grad.numpy(), slopes, rtol=1e-8)


def test_unbiased_mmd_is_0_on_average_where_domains_are_alike_and_the_biased_one_is_not() -> None:
    values: dict[bool, list[float]] = {True: [], False: []}
    weights = torch.zeros(16, 1)
    weights[:8] = 1 / 8
    for seed in range(200):
        kernel = functional.gaussian_kernels(make_step(8, 8, seed=seed, shift=0.0).features_UH.detach(), (1.0,))
        for unbiased, found in values.items():
            found.append(functional.mmd(kernel, weights, weights.flip(0), unbiased).item())
    error = float(np.std(values[True])) / math.sqrt(200)
    assert abs(np.mean(values[True])) < 4 * error
    assert np.mean(values[False]) > 0.05
    assert min(values[False]) >= 0 > min(values[True])


@pytest.mark.parametrize("multi_label", [False, True])
def test_class_conditional_mmd_is_the_sum_over_classes(multi_label: bool) -> None:
    """Local MMD by loops: labels of the source and predictions of the target as weights, over the common classes."""
    step = make_step(8, 9, multi_label, seed=3)
    rows, logits, labels = numpy_of(step)
    if multi_label:
        chances = 1 / (1 + np.exp(-logits))
        truth = np.concatenate([labels[:8], 1 - labels[:8]], axis=1)
        soft = np.concatenate([chances, 1 - chances], axis=1)[8:]
        hard = soft > 0.5
    else:
        truth = np.eye(3)[labels[:8].astype(int)]
        soft = softmax(logits)[8:]
        hard = np.eye(3)[soft.argmax(-1)] > 0
    gamma, widths, distances = median_square(rows), (0.25, 0.5, 1.0, 2.0, 4.0), []
    for label in range(truth.shape[1]):
        if not (truth[:, label].any() and hard[:, label].any()):
            continue
        weights = np.concatenate([truth[:, label] / truth[:, label].sum(), -soft[:, label] / soft[:, label].sum()])
        pairs = itertools.product(range(17), range(17))
        distances.append(
            sum(weights[i] * weights[j] * kernel_by_hand(rows[i], rows[j], gamma, widths) for i, j in pairs)
        )
    assert len(distances) >= 2
    found = term(built("mmd", multi_label, class_conditional=True), step)
    assert found.item() == pytest.approx(np.mean(distances), abs=1e-5)
    found.backward()
    assert step.logits_UC.grad is None  # target predictions are weights, not something to learn


def test_class_that_one_domain_lacks_is_left_out() -> None:
    step = make_step(6, 6)
    labels = torch.tensor([0, 0, 0, 1, 1, 1] + [UNKNOWN] * 6)
    logits = torch.eye(3)[[0] * 6 + [0, 0, 0, 0, 2, 2]] * 9  # source has 0 and 1, target 0 and 2
    source, target = class_weights(replace(step, labels_U=labels, logits_UC=logits))
    assert source.shape == target.shape == (12, 1)
    assert source[:, 0].tolist() == pytest.approx([1 / 3] * 3 + [0.0] * 9)
    assert target.sum().item() == pytest.approx(1.0)
    apart = replace(step, labels_U=torch.tensor([1] * 6 + [UNKNOWN] * 6), logits_UC=logits.clone().requires_grad_())
    for method in (built("mmd", class_conditional=True), built("dann", balance=True), built("cdan", balance=True)):
        apart = replace(apart, features_UH=apart.features_UH.detach().requires_grad_())
        assert_differentiable_zero(method, apart)


def test_coral_is_the_squared_frobenius_distance_of_covariances() -> None:
    step = make_step()
    rows, _, _ = numpy_of(step)

    def covariance(x: np.ndarray) -> np.ndarray:
        """Equations 2 and 3 of the paper."""
        ones = np.ones((1, len(x)))
        return (x.T @ x - (ones @ x).T @ (ones @ x) / len(x)) / (len(x) - 1)

    expected = ((covariance(rows[:7]) - covariance(rows[7:])) ** 2).sum() / (4 * 6**2)
    assert term(built("coral"), step).item() == pytest.approx(expected, rel=1e-4)


def confusion_by_hand(logits: np.ndarray, temperature: float, weighed: np.ndarray | None = None) -> float:
    chances = softmax(logits / temperature)
    units, classes = chances.shape
    certain = chances if weighed is None else softmax(weighed / temperature)
    weights = [1 + math.exp(sum(p * math.log(p) for p in row)) for row in certain]
    weights = [units * weight / sum(weights) for weight in weights]
    together = np.zeros((classes, classes))
    for i, j, other in itertools.product(range(units), range(classes), range(classes)):
        together[j, other] += weights[i] * chances[i, j] * chances[i, other]
    shares = together / together.sum(1, keepdims=True)
    return float(sum(shares[j, other] for j in range(classes) for other in range(classes) if j != other) / classes)


def test_mcc_is_the_confusion_of_the_target_predictions() -> None:
    step = make_step()
    _, logits, _ = numpy_of(step)
    for temperature in (1.0, 2.5):
        loss = term(built("mcc", temperature=temperature), step)
        assert loss.item() == pytest.approx(confusion_by_hand(logits[7:], temperature), rel=1e-5)
    loss.backward()
    assert step.logits_UC.grad is not None
    assert not step.logits_UC.grad[:7].any()
    nudge = np.zeros_like(logits[7:])
    nudge[1, 2] = 1e-4
    up, down = (confusion_by_hand(logits[7:] + side * nudge, 2.5, logits[7:]) for side in (1, -1))
    assert step.logits_UC.grad[8, 2].item() == pytest.approx((up - down) / 2e-4, rel=1e-3)


def test_mcc_of_several_labels_judges_each_by_itself() -> None:
    """Labels that come together are no confusion; a probability of one half is."""
    step = make_step(multi_label=True)
    _, logits, _ = numpy_of(step)
    expected = [confusion_by_hand(np.stack([row, 0 * row], axis=1), 2.5) for row in logits[7:].T]
    assert term(built("mcc", True), step).item() == pytest.approx(np.mean(expected), rel=1e-5)
    both = torch.tensor([[20.0, 20.0, -20.0], [-20.0, -20.0, 20.0]] * 8)
    assert term(built("mcc", True), replace(step, logits_UC=both)).item() < 1e-3
    assert term(built("mcc", True), replace(step, logits_UC=both * 0)).item() == pytest.approx(0.5)


def test_mcc_counts_every_class_alike() -> None:
    """One hundred certain units of one class do not hide that the two of another are confused."""
    certain = torch.tensor([[30.0, 0.0, 0.0]])
    confused = torch.tensor([[0.0, 5.0, 5.0], [0.0, 5.0, 5.0]])
    few, many = (torch.cat([certain.expand(count, 3), confused]) for count in (2, 100))
    one, other = (functional.class_confusion(logits.unsqueeze(1), 1.0).item() for logits in (few, many))
    assert one == pytest.approx(other, abs=0.01)
    assert one == pytest.approx(1 / 3, abs=0.02)


# Directions


@pytest.mark.parametrize("name", ["mmd", "mmd of classes", "coral", "mcc"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_one_step_downhill_brings_the_term_down(name: str, multi_label: bool) -> None:
    step = make_step(20, 20, multi_label)
    settings = {"class_conditional": True} if name == "mmd of classes" else {}
    method = built(name.split()[0], multi_label, **settings)
    before = term(method, step)
    moved = step.logits_UC if name == "mcc" else step.features_UH
    (slope,) = torch.autograd.grad(before, moved)
    downhill = (moved - 1e-2 * slope / slope.norm()).detach()
    changed = {"logits_UC" if name == "mcc" else "features_UH": downhill}
    assert term(method, replace(step, **changed)) < before


# Hard cases


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ALIGNING)
@pytest.mark.parametrize(("source", "target"), [(0, 0), (5, 0), (0, 5), (5, 1), (1, 5), (1, 1)])
def test_too_few_units(name: str, multi_label: bool, source: int, target: int) -> None:
    step = make_step(source, target, multi_label)
    method = built(name, multi_label)
    enough = {"mcc": target >= 2}.get(name, min(source, target) >= (1 if name in ("dann", "cdan") else 2))
    if not enough:
        assert_differentiable_zero(method, step)
        return
    value = term(method, step)
    value.backward()
    assert torch.isfinite(value)
    assert value > 0
    assert all(tensor.grad is not None for tensor in method.parameters())


@pytest.mark.parametrize("name", ["mmd", "coral", "mcc", "cdan"])
def test_equal_units_and_certain_predictions_are_finite(name: str) -> None:
    step = make_step()
    same = torch.ones(16, 6, requires_grad=True)
    certain = (torch.eye(3)[[0] * 16] * 500).requires_grad_()
    given = replace(step, features_UH=same, logits_UC=certain)
    value = term(built(name), given)
    value.backward()
    assert torch.isfinite(value)
    for tensor in (same, certain):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("name", ALIGNING)
def test_autocast_changes_nothing(name: str) -> None:
    """Far from the origin, where bf16 would see no difference between units at all."""
    step = make_step()
    given = replace(step, features_UH=step.features_UH + 100.0)
    settings = {"dropout": 0.0} if name in ("dann", "cdan") else {}
    plain = term(built(name, **settings), given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = term(built(name, **settings), given)
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_distances_do_not_depend_on_the_origin(name: str) -> None:
    step = make_step()
    far = replace(step, features_UH=step.features_UH + 1000.0)
    assert term(built(name), far).item() == pytest.approx(term(built(name), step).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["mmd", "dann", "cdan"])
def test_thousands_of_units_are_subsampled(name: str) -> None:
    step = make_step(3000, 2000)
    term(built(name, max_units=16, **({"dropout": 0.0, "bounded": False} if name != "mmd" else {})), step).backward()
    assert step.features_UH.grad is not None
    moved = step.features_UH.grad.abs().sum(1) > 0
    assert moved[:3000].sum() == moved[3000:].sum() == 16


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"name": "mmd", "bandwidths": []}, "methods.0.bandwidths: expected a list of at least 1 items"),
        ({"name": "mmd", "bandwidths": [1, 0]}, "each a number greater than 0"),
        ({"name": "mcc", "temperature": 0}, "methods.0.temperature: expected a number greater than 0"),
        ({"name": "cdan", "entropie": True}, "Did you mean 'entropy'?"),
        ({"name": "coral", "max_units": 3}, "Allowed: weight, schedule, begin"),
    ],
)
def test_wrong_settings_are_told(part: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(Path("x"), Path("x"), methods=(part,))
    assert told in str(caught.value)
