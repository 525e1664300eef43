"""What of BatchNorm is shared, and what becomes of the rest: every rule beside recalibration.

Each test names a mutation that it was seen to catch. How statistics are measured and pooled is in test_batchnorm.py.
"""


import numpy as np
import pytest
import torch
from federations import altered
from scenery import CLASSES, CPU, SOLO, criterion, federation, on_ranks, scene_set, segnet, training
from torch import nn

from fedsim.aggregation import GeometricMedian, Krum, Median, MultiKrum
from fedsim.algorithms import FedADMM, FedAvg, LocalOnly, Scaffold
from fedsim.evaluation.evaluate import evaluate_own
from fedsim.federation import local_training
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.bundles import to_tensors
from fedsim.federation.measuring import measure_statistics, recalibrate
from fedsim.federation.participation import Cohort
from fedsim.federation.rounds import initial_state, run_round, sample, simulate
from fedsim.federation.scoring import models, score
from fedsim.federation.traffic import count_measuring, count_traffic
from fedsim.models import MOST_GROUPS, build_model
from fedsim.models.flat import FlatModel, Norms

SIZES = [3, 1, 4, 2]
OWN = [name for name, rule in NORM_RULES.items() if rule.own_statistics]


@pytest.fixture
def trained(monkeypatch):
    """(car, its norms before training, those that training left), in the order that cars were played."""
    seen, usual = [], local_training.train_locally

    def train_locally(model, *others, car, **keys):
        before = model.copy_norms()
        result = usual(model, *others, car=car, **keys)
        seen.append((car, before, model.copy_norms()))
        return result

    monkeypatch.setattr("fedsim.federation.car.train_locally", train_locally)
    return seen


def weighted(rows, sizes=SIZES) -> torch.Tensor:
    return sum(row.double() * size for row, size in zip(rows, sizes, strict=True)) / sum(sizes)


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_average_is_the_weighted_mean_of_means_and_of_variances(trained):
    """By the cars' weights. Catches pooling, equal weights, and a median."""
    made = federation(FedAvg(), SIZES, batchnorm="average")
    state = run_round(made, initial_state(made)).state
    expected = weighted([after.statistics for _, _, after in trained])
    torch.testing.assert_close(state.norms.statistics, expected.float(), rtol=1e-6, atol=1e-7)
    assert differ(expected.float(), torch.stack([after.statistics for _, _, after in trained]).mean(0))


def test_pooling_adds_the_spread_of_the_means(trained):
    """To what averaging gives for the same training. Catches either in the other's place."""
    states = []
    for batchnorm in ("average", "pooled"):
        made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
        states.append(run_round(made, initial_state(made)).state)
    averaged, pooled = (state.norms.statistics for state in states)
    assert torch.equal(states[0].shared.theta, states[1].shared.theta)
    means = [after.statistics[0] for _, _, after in trained[:4]]
    spread = weighted([(mean.double() - weighted(means)).square() for mean in means]).float()
    torch.testing.assert_close(pooled[0], averaged[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(pooled[1] - averaged[1], spread, rtol=1e-4, atol=1e-6)
    assert float(spread.max()) > 1e-3


@pytest.mark.parametrize("batchnorm", NORM_RULES)
def test_a_car_starts_from_its_own_statistics_only_where_it_keeps_them(trained, batchnorm):
    """Its second round from the end of its first, or from the global ones.

    Catches statistics of the car played before, global ones where cars have their own, and global weights and biases
    with own statistics.
    """
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
    first = run_round(made, initial_state(made)).state
    left = {car: after for car, _, after in trained}
    trained.clear()
    second = run_round(made, first).state
    for car, before, _ in trained:
        own = NORM_RULES[batchnorm].own_statistics
        expected = left[car] if own else first.norms
        assert torch.equal(before.statistics, expected.statistics)
        assert torch.equal(before.affine, expected.affine)
        assert differ(left[car].statistics, first.norms.statistics)
    assert set(second.own_norms) == (set(range(4)) if NORM_RULES[batchnorm].own_statistics else set())


@pytest.mark.parametrize("batchnorm", OWN)
def test_a_car_that_sits_out_keeps_its_norms_and_a_new_one_starts_from_the_untrained_ones(trained, batchnorm):
    """One car of four a round. Catches norms that are dropped with the round, and other cars' for a new car."""
    made = altered(federation(FedAvg(), SIZES, batchnorm=batchnorm), participation=0.25)
    state, kept = initial_state(made), {}
    untrained = state.norms
    for _ in range(6):
        result = run_round(made, state)
        car, before, after = trained[-1]
        assert torch.equal(before.statistics, kept.get(car, untrained).statistics)
        assert torch.equal(before.affine, kept.get(car, untrained).affine)
        kept[car], state = after, result.state
        assert state.own_norms.keys() == kept.keys()
        assert all(torch.equal(state.own_norms[known].statistics, kept[known].statistics) for known in kept)
    assert 1 < len(kept) < 6, "some car has taken part twice"


def norm_parameters(module: nn.Module) -> set[int]:
    return {id(parameter) for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)
            for parameter in layer.parameters()}


@pytest.mark.parametrize("name", ["segnet-small", "torchvision:lraspp_mobilenet_v3_large"])
def test_own_norms_leave_theta_without_the_norms_parameters_and_nothing_else(name):
    """Found by address. Catches a bias that is shared, and a convolution that is not."""
    torch.manual_seed(0)
    model = FlatModel(build_model(name, CLASSES, None), CPU, own_norms=True)
    own = norm_parameters(model.module)
    start, end = model.theta.data_ptr(), model.theta.data_ptr() + model.theta.numel() * 4
    sizes = {True: 0, False: 0}
    for parameter in model.module.parameters():
        shared = start <= parameter.data_ptr() < end
        assert shared == (id(parameter) not in own)
        sizes[shared] += parameter.numel()
    assert (sizes[True], sizes[False]) == (model.theta.numel(), model.affine.numel())
    assert model.affine.numel() == model.statistics.numel() == 2 * sum(norm.num_features for norm in model.norms)
    assert model.parameters.numel() == model.theta.numel() + model.affine.numel() == model.gradient.numel()
    assert model.theta_gradient.numel() == model.theta.numel()


@pytest.mark.parametrize("name", ["segnet-small", "torchvision:lraspp_mobilenet_v3_large"])
def test_the_layout_changes_no_bit_of_what_a_network_computes(name):
    """Forward, gradient, and what a step leaves, as in the ordinary layout. Catches a gradient laid out elsewhere."""
    results = []
    for own in (False, True):
        torch.manual_seed(0)
        model = FlatModel(build_model(name, CLASSES, None), CPU, own_norms=own)
        images = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            torch.manual_seed(2)  # for dropout
            model.gradient.zero_()
            logits = model.module.train()(images)
            logits.square().mean().backward()
            model.parameters.add_(model.gradient, alpha=-0.1)
        results.append((logits.detach(), model.module.state_dict()))
    (logits, state), (own_logits, own_state) = results
    assert torch.equal(logits, own_logits)
    for key, tensor in state.items():
        assert torch.equal(tensor, own_state[key]), key


def test_a_model_is_loaded_and_copied_with_its_own_norms():
    """Catches an affine part that stays behind, and a copy that is a view."""
    model = segnet(own_norms=True)
    norms = Norms(torch.full_like(model.affine, 0.5), torch.full_like(model.statistics, 0.25))
    theta = torch.full_like(model.theta, 2.0)
    model.load(theta, norms)
    own = norm_parameters(model.module)
    for parameter in model.module.parameters():
        assert bool((parameter == (0.5 if id(parameter) in own else 2.0)).all())
    copied = model.copy_norms()
    model.load(theta + 1)
    assert bool((model.affine == 0.5).all()), "loading theta alone leaves the norms"
    model.load_norms(Norms(norms.affine + 1, norms.statistics + 1))
    assert torch.equal(copied.affine, norms.affine) and torch.equal(copied.statistics, norms.statistics)


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold(), FedADMM(rho=1.0)], ids=["avg", "scaffold", "admm"])
def test_with_local_norms_the_federation_sees_theta_alone(trained, algorithm):
    """Contributions, duals and drift have its length; the norms train along, each car's its own.

    Catches a drift over all parameters, and a layout that shares the norms after all.
    """
    made = federation(algorithm, SIZES, batchnorm="local")
    begin = initial_state(made)
    result = run_round(made, begin)
    d = made.model.theta.numel()
    assert {part.numel() for part in to_tensors(made.contribution_like) if part.ndim} == {d}
    assert result.state.shared.theta.numel() == d < made.model.parameters.numel()
    assert result.state.global_vector().numel() == made.model.parameters.numel()
    if result.state.mean_dual is not None:
        assert result.state.mean_dual.numel() == d == made.memory(result.state, 0).y.numel()
    affine = [after.affine for _, _, after in trained]
    for place, one in enumerate(affine):
        assert differ(one, begin.norms.affine) and all(differ(one, other) for other in affine[:place])
    if algorithm == FedAvg():
        only = altered(federation(algorithm, SIZES, batchnorm="local"), participation=0.25)
        alone = run_round(only, begin)
        car, = alone.reports
        moved = float(torch.linalg.vector_norm(alone.state.shared.theta - begin.shared.theta))
        assert alone.reports[car].drift == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize("batchnorm", OWN)
def test_the_global_model_has_the_norms_of_all_cars_pooled(trained, batchnorm):
    """By the cars' weights: moments of the statistics, the mean of weights and biases.

    Catches equal weights, the norms of one of the cars, and weights and biases of round 0.
    """
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
    state = run_round(made, initial_state(made)).state
    affine = weighted([after.affine for _, _, after in trained])
    means = weighted([after.statistics[0] for _, _, after in trained])
    squares = weighted([after.statistics[1] + after.statistics[0].double().square() for _, _, after in trained])
    torch.testing.assert_close(state.norms.affine, affine.float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(state.norms.statistics[0], means.float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(state.norms.statistics[1], (squares - means.square()).float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(state.global_vector(), torch.cat([state.shared.theta, state.norms.affine]))
    assert state.norms.affine.numel() == (made.model.affine.numel() if batchnorm == "local" else 0)


def test_with_shared_norms_theta_has_their_weights_and_biases():
    """SiloBN shares them. Catches local-statistics that keep the affine part too."""
    made = federation(FedAvg(), SIZES, batchnorm="local-statistics")
    begin = initial_state(made)
    state = run_round(made, begin).state
    made.model.load(state.shared.theta)
    assert made.model.theta.numel() == sum(p.numel() for p in made.model.module.parameters())
    assert all(bool((norm.weight == 1).all()) for norm in segnet().norms)
    assert all(bool((norm.weight != 1).any()) for norm in made.model.norms), "they are trained"


@pytest.mark.parametrize("batchnorm", OWN)
def test_a_cars_score_is_of_theta_with_its_own_norms_and_the_overall_one_of_the_pooled(batchnorm):
    """Loaded by hand. Catches the pooled ones for a car, a car's for the global model, and those of another car."""
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
    state = run_round(made, run_round(made, initial_state(made)).state).state
    held_out, judge = scene_set(10, seed=3), criterion()
    scored = score(made, state, held_out, judge)
    fresh = segnet(batchnorm == "local")
    losses = set()
    for car in range(4):
        fresh.load(state.shared.theta, state.own_norms[car])
        alone = evaluate_own(fresh, held_out, judge)
        assert (scored.own[car].loss, scored.own[car].scores) == (alone.loss, alone.scores)
        losses.add(alone.loss)
    fresh.load(state.shared.theta, state.norms)
    alone = evaluate_own(fresh, held_out, judge)
    assert (scored.overall.loss, scored.overall.scores) == (alone.loss, alone.scores)
    assert len({*losses, alone.loss}) == 5


def test_a_car_that_never_took_part_is_scored_with_the_global_norms():
    """Catches norms of an untrained model for such a car."""
    made = altered(federation(FedAvg(), SIZES, batchnorm="local"), participation=0.5)
    result = run_round(made, initial_state(made))
    scored = score(made, result.state, scene_set(5, seed=3), criterion())
    assert [scored.own[car].loss == scored.overall.loss for car in range(4)] == [
        car not in result.reports for car in range(4)]


@pytest.mark.parametrize("batchnorm", ["recalibrate", "pooled", "average"])
def test_where_cars_keep_nothing_there_is_one_model(batchnorm):
    """Catches own models listed for every rule."""
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
    state = run_round(made, initial_state(made)).state
    assert score(made, state, scene_set(3), criterion()).own == {} and not made.has_own_models
    (name, theta, norms), = models(made, state)
    assert name == "model" and torch.equal(theta, state.shared.theta)
    assert torch.equal(norms.statistics, state.norms.statistics)


@pytest.mark.parametrize("batchnorm", OWN)
def test_models_are_the_global_one_and_then_every_cars(batchnorm):
    """Catches cars' models with global norms, and the global one last."""
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm)
    state = run_round(made, initial_state(made)).state
    (name, theta, norms), *own = models(made, state)
    assert name == "model" and theta is state.shared.theta and norms is state.norms
    assert [name for name, _, _ in own] == [f"car-0{car}-car-{car}" for car in range(4)]
    for car, (_, theta, norms) in enumerate(own):
        assert torch.equal(theta, state.shared.theta)
        assert all(torch.equal(one, other) for one, other in zip(norms, state.own_norms[car], strict=True))


def absurd(made, car: int):
    """The federation with a car whose pictures are brighter than any."""
    class Bright:
        def __init__(self, scenes):
            self.scenes = scenes

        def __len__(self):
            return len(self.scenes)

        def batch(self, positions, augment=None):
            images, labels = self.scenes.batch(positions, augment)
            return images * 1e4 + 3e4, labels

    return altered(made, scenes=made.fleet.scenes | {car: Bright(made.fleet.scenes[car])})


@pytest.mark.parametrize("aggregator", [Median(), MultiKrum(), GeometricMedian()], ids=["median", "krum", "geometric"])
@pytest.mark.parametrize("batchnorm", ["pooled", "local-statistics", "local"])
def test_robust_rules_take_medians_of_what_training_left(trained, batchnorm, aggregator):
    """Coordinate by coordinate, of means and of variances, one car being absurd; of weights and biases too.

    Four cars: the mean of the two in the middle. Catches a weighted mean, and a median of mean squares.
    """
    made = absurd(federation(FedAvg(), SIZES, batchnorm=batchnorm, aggregator=aggregator), 2)
    state = run_round(made, initial_state(made)).state
    rows = torch.stack([after.statistics for _, _, after in trained]).double().numpy()
    torch.testing.assert_close(state.norms.statistics, torch.from_numpy(np.median(rows, axis=0)).float(), rtol=1e-6,
                               atol=1e-7)
    affine = torch.stack([after.affine for _, _, after in trained]).double().numpy()
    torch.testing.assert_close(state.norms.affine, torch.from_numpy(np.median(affine, axis=0)).float(), rtol=1e-6,
                               atol=1e-7)
    honest = np.delete(rows, 2, axis=0)
    assert (rows[2, 1, :4] > 100 * honest[:, 1, :4]).all(), "the first layer's variances are absurd"
    ours = state.norms.statistics.double().numpy()
    assert (ours >= honest.min(0) - 1e-5).all() and (ours <= honest.max(0) + 1e-5).all()


def test_robust_rules_take_medians_of_what_is_measured():
    """recalibrate: with the new theta. Catches a mean, and a median of mean squares."""
    made = absurd(federation(FedAvg(), SIZES, aggregator=Median()), 2)
    state = measure_statistics(made, run_round(made, initial_state(made)).state)
    made.model.load(state.shared.theta)
    rows = []
    for car in range(4):
        mean, square = recalibrate(made, 1, car).numpy()
        rows.append(np.stack([mean, square - mean**2]))
    expected = torch.from_numpy(np.median(np.stack(rows), axis=0)).float()
    torch.testing.assert_close(state.norms.statistics, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batchnorm", NORM_RULES)
def test_bytes_are_those_of_what_cars_share(batchnorm):
    """Four bytes a number, of all four cars down and of those that answer up.

    Catches statistics sent down to cars that keep their own, and a new theta that is not sent to be measured with, or
    that is sent to cars that have failed.
    """
    made = altered(federation(FedAvg(), SIZES, batchnorm=batchnorm), car_failures=0.5)
    result = run_round(made, initial_state(made))
    answered, chosen = len(result.reports), 4
    assert 0 < answered < chosen
    model, rule = made.model, NORM_RULES[batchnorm]
    d, e, c = model.theta.numel(), model.affine.numel(), model.statistics.numel()
    assert d + e == segnet().parameters.numel() and (e > 0) == (batchnorm == "local")
    measured = count_measuring(made, sample(made, 1))
    assert measured == (0, 0) or rule.recalibrates
    assert result.bytes_up + measured[0] == 4 * answered * (d + e + c)
    assert result.bytes_down + measured[1] == 4 * chosen * (d + (0 if rule.own_statistics else c)) + (
        4 * answered * d if rule.recalibrates else 0)


def test_a_theta_that_is_not_there_is_not_sent():
    """Three of four cars answer and Krum needs four. Catches a new theta that cars never receive."""
    for batchnorm, rule in NORM_RULES.items():
        made = altered(federation(FedAvg(), SIZES, batchnorm=batchnorm), aggregator=Krum())
        d, e, c = made.model.theta.numel(), made.model.affine.numel(), made.model.statistics.numel()
        cohort = Cohort([0, 1, 2, 3], answered=[0, 1, 3], combined=[])
        up, down = map(sum, zip(count_traffic(made, cohort, new=0), count_measuring(made, cohort), strict=True))
        assert up == 4 * 3 * (d if rule.recalibrates else d + e + c)
        assert down == 4 * 4 * (d + (0 if rule.own_statistics else c))


def grouped(batchnorm="recalibrate", **others):
    """A federation of networks without BatchNorm."""
    made = federation(FedAvg(), SIZES, batchnorm=batchnorm, **others)
    torch.manual_seed(0)
    return altered(made, model=FlatModel(build_model("segnet-small", CLASSES, 4, "group"), CPU))


@pytest.mark.parametrize("batchnorm", ["recalibrate", "local"])
def test_a_network_with_group_norm_has_no_statistics_and_trains(batchnorm):
    """Under any rule. Catches own models, or bytes of another theta, where there is nothing to keep or measure."""
    made = grouped(batchnorm)
    assert made.model.norms == [] and made.model.statistics.numel() == made.model.affine.numel() == 0
    state = initial_state(made)
    result = run_round(made, state)
    assert result.bytes_up == result.bytes_down == 4 * 4 * made.model.theta.numel()
    assert result.state.norms.statistics.shape == (2, 0) and result.step > 0 and not made.has_own_models
    scored = score(made, result.state, scene_set(3), criterion())
    assert scored.own == {} and [name for name, _, _ in models(made, result.state)] == ["model"]
    robust = altered(made, aggregator=Median())
    assert run_round(robust, state).step > 0


@pytest.mark.parametrize(("name", "width"), [("segnet-small", None), ("segnet-small", 4), ("segnet-basic", 6),
                                             ("segnet", 10), ("torchvision:lraspp_mobilenet_v3_large", None)])
def test_group_norm_takes_the_place_of_every_batchnorm(name, width):
    """As many groups as divide the channels, 8 at most; and it computes. Catches a BatchNorm deep in a backbone."""
    batch = [layer.num_features for layer in build_model(name, CLASSES, width).modules()
             if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    model = build_model(name, CLASSES, width, "group")
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    group = [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    assert [layer.num_channels for layer in group] == batch and batch
    for layer in group:
        assert layer.num_channels % layer.num_groups == 0 and layer.num_groups <= MOST_GROUPS
        assert not any(layer.num_channels % more == 0 for more in range(layer.num_groups + 1, MOST_GROUPS + 1))
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES, 64, 64)
    assert FlatModel(model, CPU).statistics.numel() == 0


def test_cars_that_never_communicate_keep_their_own_statistics():
    """Measured under the car's own model. Catches global statistics, and those of theta, and none measured."""
    made = federation(LocalOnly(), SIZES)
    first = measure_statistics(made, run_round(made, initial_state(made)).state)
    assert set(first.own_norms) == {0, 1, 2, 3} and made.has_own_models
    for car in range(4):
        made.model.load(made.memory(first, car))
        mean, square = recalibrate(made, 1, car)
        torch.testing.assert_close(first.own_norms[car].statistics,
                                   torch.stack([mean, square - mean.square()]).float(), rtol=1e-5, atol=1e-6)
    scored = score(made, first, scene_set(5, seed=3), criterion())
    assert scored.overall.loss == pytest.approx(np.mean([scored.own[car].loss for car in range(4)]))


@pytest.mark.parametrize("batchnorm", OWN)
@pytest.mark.parametrize("aggregator", ["mean", "median"])
def test_own_norms_are_the_same_on_any_number_of_ranks(batchnorm, aggregator):
    """1 and 3 ranks to the bit: theta, the pooled norms, all scores and all models, with part of the cars.

    Catches a car's norms that stay with whoever was played last, and models of another rank's cars.
    """
    def play(world):
        others = {"aggregator": Median()} if aggregator == "median" else {}
        made = federation(FedAvg(), SIZES, batchnorm=batchnorm, world=world, local=training(momentum=0.5), **others)
        made = altered(made, participation=0.75, rounds=3)
        for result in simulate(made, initial_state(made)):
            state = result.state
        scored = score(made, state, scene_set(9, seed=3), criterion())
        return state.digest(), scored.overall, scored.own, list(models(made, state))

    digest, overall, own, every = play(SOLO)
    assert len(own) == 4 and len(every) == 5
    for there in on_ranks(3, play):
        assert there[:3] == (digest, overall, own)
        for (name, theta, norms), (ours, our_theta, our_norms) in zip(there[3], every, strict=True):
            assert name == ours and torch.equal(theta, our_theta)
            assert all(torch.equal(one, other) for one, other in zip(norms, our_norms, strict=True))
