"""Schedules: the values that PyTorch 2.13 gives for the same settings."""

from __future__ import annotations

import pytest

from fastcnn.training.schedules import Cosine, OneCycle, StepDecay, Warmup

STEPS = 12
PYTORCH = {
    "StepLR(3, 0.5)": (StepDecay(3, 0.5), [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125]),
    "MultiStepLR([2, 7], 0.1)": (StepDecay([2, 7], 0.1), [1, 1, *[0.1] * 5, *[0.01] * 5]),
    "CosineAnnealingLR(12, eta_min=0.1)": (
        Cosine(0.1),
        [
            *(1.0, 0.9846666218300807, 0.9397114317029974, 0.8681980515339462, 0.775, 0.6664685702961343),
            *(0.55, 0.4335314297038657, 0.325, 0.23180194846605368, 0.1602885682970026, 0.11533337816991932),
        ],
    ),
    "OneCycleLR(1.0, 12, cycle_momentum=False)": (
        OneCycle(),
        [
            *(0.04, 0.3497896542195831, 0.8792851591221287, 0.9944154354509117, 0.9330129698414117),
            *(0.811745653949763, 0.6473789976951033, 0.46263710266697505, 0.28306099820869923),
            *(0.1334775301888306, 0.03456698742539522, 4e-06),
        ],
    ),
    "SequentialLR([LinearLR(0.2, total_iters=4), CosineAnnealingLR(8)], [4])": (
        Warmup(4, Cosine(), start=0.2),
        [
            *(0.2, 0.4, 0.6, 0.8, 1.0, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5),
            *(0.30865828381745514, 0.14644660940672627, 0.03806023374435664),
        ],
    ),
}


@pytest.mark.parametrize("name", PYTORCH)
def test_values_are_pytorchs(name):
    schedule, expected = PYTORCH[name]
    assert [schedule(step, STEPS, 1) for step in range(STEPS)] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_epochs_of_many_steps():
    schedule = Warmup(0.5, StepDecay(2, 0.1), start=0.0)
    assert [schedule(step, 1000, 100) for step in (0, 25, 50, 249, 250, 449, 450)] == pytest.approx(
        [0, 0.5, 1, 1, 0.1, 0.1, 0.01]
    )
    assert [Warmup(1)(step, 8, 4) for step in (0, 4, 7)] == [0.1, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [OneCycle(), OneCycle(0), OneCycle(1), Cosine(), Warmup(3, OneCycle())])
@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_factors_stay_within_0_and_1(schedule, steps):
    assert all(0 <= schedule(step, steps, 1) <= 1 for step in range(steps))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0), "StepDecay: epochs=0"),
        (lambda: StepDecay([3, 1.5]), "StepDecay: epochs=1.5"),
        (lambda: StepDecay(1, -1), "StepDecay: gamma=-1"),
        (lambda: Cosine(2), "Cosine: final=2"),
        (lambda: OneCycle(rise=-0.1), "OneCycle: rise=-0.1"),
        (lambda: Warmup(0), "Warmup: epochs=0"),
        (lambda: Warmup(1, "cosine"), "Warmup: then='cosine'"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
