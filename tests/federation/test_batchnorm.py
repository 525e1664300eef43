"""BatchNorm statistics: pooled exactly, measured with the parameters that the model holds."""


import numpy as np
import pytest
import torch
from federations import altered
from scenery import CPU, SOLO, federation, on_ranks, scene_set, segnet, training

from fedsim.algorithms import FedAvg, LocalOnly
from fedsim.data.car_scenes import CarScenes
from fedsim.federation import measuring
from fedsim.federation.batchnorm import (
    NORM_RULES,
    recalibrated_moments,
    to_moments,
    to_statistics,
)
from fedsim.federation.measuring import measure_statistics
from fedsim.federation.rounds import initial_state, run_round, sample


def groups() -> list[torch.Tensor]:
    """Activations (n, c) of three cars, unequal in number, mean and spread."""
    draw = torch.Generator().manual_seed(4)
    return [spread * torch.randn(count, 6, generator=draw) + centre
            for count, centre, spread in ((200, 0.0, 1.0), (50, 3.0, 0.5), (700, -1.0, 2.0))]


def statistics(activations: torch.Tensor) -> torch.Tensor:
    return torch.stack([activations.mean(0), activations.var(0, correction=0)])


def test_pooled_statistics_are_those_of_the_concatenated_activations():
    """Population variance.

    Catches the mean of variances alone, unweighted means, and spread of the means twice.
    """
    cars = groups()
    moments = sum(to_moments(statistics(car)) * len(car) for car in cars) / sum(map(len, cars))
    assert torch.allclose(to_statistics(moments), statistics(torch.cat(cars)), rtol=1e-6, atol=1e-6)


def test_averaging_variances_would_be_far_off():
    """So the test above can fail."""
    cars = groups()
    averaged = sum(statistics(car) * len(car) for car in cars) / sum(map(len, cars))
    assert ((averaged - statistics(torch.cat(cars)))[1] < -0.5).all()


def test_statistics_survive_the_way_through_moments():
    """Even where the mean is large against the deviation, which float32 squares would lose."""
    there = torch.tensor([[1000.0, -3.0, 0.0], [0.01, 4.0, 0.0]])
    assert torch.allclose(to_statistics(to_moments(there)), there, rtol=1e-6, atol=0)


def measured(model, scenes, **keys) -> torch.Tensor:
    usual = {"batches": 4, "batch_size": 2, "seed": 5, "round_number": 1, "car": 0}
    return recalibrated_moments(model, scenes, **(usual | keys))


def test_recalibration_measures_the_first_layer_as_a_concatenation_would():
    """Eight scenes are four batches of two: the whole car.

    Means exactly; variances with PyTorch's n / (n - 1).
    """
    model, scenes = segnet(), CarScenes(scene_set(8), np.arange(8), CPU)
    first = model.module.encoder[0][0](scenes.batch(np.arange(8))[0])  # what the first BatchNorm is given
    channels = first.permute(1, 0, 2, 3)
    pixels = 2 * channels[0, 0].numel()
    ours = to_statistics(measured(model, scenes))[:, : len(channels)]
    flat = channels.flatten(1).double()
    assert torch.allclose(ours[0], flat.mean(1).float(), rtol=1e-5, atol=1e-6)
    assert torch.allclose(ours[1], flat.var(1, correction=0).float(), rtol=1.1 / pixels, atol=0)


def test_recalibration_uses_the_parameters_that_the_model_holds():
    """With the first convolution scaled by 2, its outputs' means double. Catches stale running averages."""
    model, scenes = segnet(), CarScenes(scene_set(4), np.arange(4), CPU)
    width = model.norms[0].num_features
    before = to_statistics(measured(model, scenes))[:, :width]
    with torch.no_grad():
        for parameter in model.module.encoder[0][0].parameters():
            parameter.mul_(2)
    after = to_statistics(measured(model, scenes))[:, :width]
    assert torch.allclose(after, before * torch.tensor([[2.0], [4.0]]), rtol=1e-4, atol=1e-6)


def test_recalibration_leaves_parameters_and_momentum_as_they_were():
    model, scenes = segnet(), CarScenes(scene_set(4), np.arange(4), CPU)
    parameters, momentum = model.parameters.clone(), [norm.momentum for norm in model.norms]
    measured(model, scenes)
    assert torch.equal(model.parameters, parameters)
    assert [norm.momentum for norm in model.norms] == momentum == [0.1] * len(model.norms)


def test_recalibration_draws_its_scenes_by_round_and_car():
    """More scenes than it looks at. Catches a fixed choice of scenes, and a draw with a state."""
    count = 24
    model, scenes = segnet(), CarScenes(scene_set(count), np.arange(count), CPU)
    first = measured(model, scenes)
    for keys in ({"round_number": 2}, {"car": 1}, {"seed": 6}):
        assert not torch.equal(measured(model, scenes, **keys), first)
    assert torch.equal(measured(model, scenes), first)


SIZES = [3, 1, 4, 2]


def test_a_state_has_the_statistics_of_its_rounds_cars_by_their_weights():
    """recalibrate: each car's own, measured one by one with the new theta.

    Catches the old theta, equal weights.
    """
    made = federation(FedAvg(), SIZES)
    state = measure_statistics(made, run_round(made, initial_state(made)).state)
    model = segnet()
    model.load(state.shared.theta)
    moments = sum(measured(model, made.fleet.scenes[car], car=car) * size for car, size in enumerate(SIZES))
    moments /= sum(SIZES)
    assert torch.equal(state.norms.statistics, to_statistics(moments))


@pytest.mark.parametrize("algorithm", [FedAvg(), LocalOnly()], ids=["avg", "local"])
def test_rounds_that_nobody_looks_at_measure_nothing(monkeypatch, algorithm):
    """Three rounds train as if somebody had looked at each of them, and the last state has the same statistics.

    Half of the cars take part. Catches statistics measured in every round, and measured ones that training
    goes on with.
    """
    measured, usual = [], measuring.recalibrated_moments
    monkeypatch.setattr(measuring, "recalibrated_moments",
                        lambda *others, car, **keys: measured.append(car) or usual(*others, car=car, **keys))
    ends = []
    for looks in (False, True):
        made = altered(federation(algorithm, SIZES), participation=0.5)
        state = initial_state(made)
        for _ in range(3):
            state = run_round(made, state).state
            assert not measured
            if looks:
                state = measure_statistics(made, state)
                measured.clear()
        ends.append(measure_statistics(made, state))
        measured.clear()
    quiet, watched = ends
    assert torch.equal(quiet.shared.theta, watched.shared.theta)
    assert torch.equal(quiet.norms.statistics, watched.norms.statistics)
    assert quiet.own_norms.keys() == watched.own_norms.keys()
    assert all(torch.equal(quiet.own_norms[car].statistics, norms.statistics)
               for car, norms in watched.own_norms.items())


def test_a_round_without_enough_answers_leaves_the_statistics():
    """They are measured again by the cars of the latest round with a step. Catches those of round 0."""
    made = altered(federation(FedAvg(), SIZES), car_failures=0.7)
    numbers = [number for number in range(1, 9) if not sample(made, number).combined]
    last = next(number for number in numbers if number > 1 and sample(made, number - 1).combined)
    state = initial_state(made)
    for _ in range(last - 1):
        state = run_round(made, state).state
    before, after = (measure_statistics(made, one) for one in (state, run_round(made, state).state))
    assert torch.equal(before.norms.statistics, after.norms.statistics)
    assert not torch.equal(before.norms.statistics, state.initial_norms.statistics)


def test_a_round_can_pool_the_cars_running_statistics_instead():
    """pooled: where each car's training left them, from the same start.

    Catches statistics that leak between cars.
    """
    made = federation(FedAvg(), SIZES, batchnorm="pooled")
    begin = initial_state(made)
    local, alone = training(epochs=2, batch_size=8, augment="none"), []
    for car in range(len(SIZES)):
        scenes, cars = {0: made.fleet.scenes[car]}, (made.fleet.cars[car],)
        only = altered(made, scenes=scenes, cars=cars, homes=(0,), weights=(1,), model=segnet(), training=local)
        alone.append(run_round(only, begin).state.norms.statistics)
    state = run_round(altered(made, training=local), begin).state
    moments = sum(to_moments(own) * size for own, size in zip(alone, SIZES, strict=True)) / sum(SIZES)
    # A car alone is car 0 and shuffles as such: one batch holds all its scenes, summed in another order.
    assert torch.allclose(state.norms.statistics, to_statistics(moments), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(state.norms.statistics, begin.norms.statistics, rtol=1e-2)


def test_pooled_statistics_are_the_same_on_any_number_of_ranks():
    """To the bit, whatever cars share."""
    for batchnorm in NORM_RULES:
        def play(world, batchnorm=batchnorm):
            made = federation(FedAvg(), SIZES, world=world, batchnorm=batchnorm)
            return run_round(made, initial_state(made)).state.norms.statistics

        alone = play(SOLO)
        assert all(torch.equal(ours, alone) for ranks in (2, 3) for ours in on_ranks(ranks, play))
