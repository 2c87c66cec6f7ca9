"""The methods that align domains: their formulas against loops over units, their gradients, and steps with too few."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nlp_transfer import functional
from nlp_transfer.methods.base import Method
from nlp_transfer.methods.cdan import Cdan
from nlp_transfer.parts import METHODS
from nlp_transfer.units import UNKNOWN, Sizes, Step, class_weights

SIZES = {False: Sizes(hidden=6, labels=3), True: Sizes(hidden=6, labels=3, multi_label=True)}


def make_step(source: int = 7, target: int = 9, multi_label: bool = False, seed: int = 0, shift: float = 1.0) -> Step:
    draw = torch.Generator().manual_seed(seed)
    units = source + target
    domain = torch.tensor([0] * source + [1] * target)
    features = torch.randn(units, 6, generator=draw) + shift * domain[:, None]
    if multi_label:
        labels = torch.randint(0, 2, (units, 3), generator=draw).float()
    else:
        labels = torch.randint(0, 3, (units,), generator=draw)
    labels[domain == 1] = UNKNOWN
    logits = torch.randn(units, 3, generator=draw) * 2
    ones = torch.ones(units)
    return Step(features.requires_grad_(), logits.requires_grad_(), labels, ones, domain, 0.5, torch.nn.Identity())


def term(method: Method, step: Step) -> torch.Tensor:
    (value,) = method.terms(step).values()
    return value


def built(name: str, multi_label: bool = False, **settings: Any) -> Method:
    torch.manual_seed(1)
    return METHODS[name](SIZES[multi_label], **settings)  # type: ignore[call-arg, arg-type]


def numpy_of(step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = [value.detach().double().numpy() for value in (step.features_UH, step.logits_UC, step.labels_U)]
    return values[0], values[1], values[2]


def softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


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


def confusion_by_hand(logits: np.ndarray, temperature: float) -> float:
    chances = softmax(logits / temperature)
    units, classes = chances.shape
    weights = [1 + math.exp(sum(p * math.log(p) for p in row)) for row in chances]
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
    assert step.logits_UC.grad[7:].any()


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


# Conditional adversary


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
    plain, reversed_ = (built(name, dropout=0.0, max_lambda=value) for value in (1.0, 0.2))
    gradients = [torch.autograd.grad(term(method, step), step.features_UH)[0] for method in (plain, reversed_)]
    torch.testing.assert_close(gradients[1], 0.2 * gradients[0])
    nudge = torch.zeros_like(step.features_UH)
    nudge[2, 3] = 1e-2
    up, down = (term(plain, replace(step, features_UH=step.features_UH + side * nudge)) for side in (1, -1))
    slope = (up - down).item() / 2e-2
    assert gradients[0][2, 3].item() == pytest.approx(-slope * functional.ramp(1.0), rel=2e-2, abs=1e-4)


# Hard cases


def assert_differentiable_zero(method: Method, step: Step) -> None:
    value = term(method, step)
    assert value.item() == 0.0
    value.backward()
    for tensor in (step.features_UH, step.logits_UC, *method.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()
    assert all(math.isfinite(number) for number in method.watch(step).values())


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", METHODS)
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


@pytest.mark.parametrize("name", METHODS)
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
    far = replace(step, features_UH=step.features_UH + 100.0)
    assert term(built(name), far).item() == pytest.approx(term(built(name), step).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["mmd", "dann", "cdan"])
def test_thousands_of_units_are_subsampled(name: str) -> None:
    step = make_step(3000, 2000)
    term(built(name, max_units=16, **({"dropout": 0.0} if name != "mmd" else {})), step).backward()
    assert step.features_UH.grad is not None
    moved = step.features_UH.grad.abs().sum(1) > 0
    assert moved[:3000].sum() == moved[3000:].sum() == 16


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_advice_names_its_method(name: str) -> None:
    advice = built(name, max_lambda=0.1).advice({"domain": 0.693, "domain_accuracy": 0.5, "lambda": 0.0999})
    assert advice is not None
    assert advice.startswith(f"{name}: ")
    assert f"methods.{name}.max_lambda" in advice
