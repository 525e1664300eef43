"""The identity of a run: what decides its state, and what does not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fedsim.experiment.identity import FREE, LATER, config, identity
from fedsim.settings.fields import Settings
from fedsim.settings.viewing import NAMES

# Settings that checkpoints of this format have had at their defaults from the beginning.
FIRST = {
    "algo", "aggregator", "attackers", "augment", "batch_size", "car_failures", "class_weights", "colour_jitter",
    "data", "label_smoothing", "local_epochs", "lr", "lr_floor", "lr_schedule", "model", "momentum",
    "momentum_across_rounds", "norm", "on_divergence", "optimizer", "participation", "partition", "seed", "warmup",
    "weight_decay"}


def identity_of(settings: Settings) -> str:
    scenes = SimpleNamespace(names=("a", "b"), fingerprint="f")
    shard = SimpleNamespace(name="one", condition=None, indices=[0, 1])
    return identity(settings, SimpleNamespace(train_set=scenes, shards=[shard]), None, "cpu")


def test_a_setting_that_is_new_counts_only_if_it_is_not_at_its_default(monkeypatch):
    """So that runs of before go on. Catches a new setting with a default, which every older checkpoint lacks."""
    plain = Settings()
    assert {*config(plain)} - {*FREE, *NAMES, *LATER} <= FIRST
    assert {*LATER} <= config(plain).keys()
    digests = {identity_of(replace(plain, **{name: value})) for name, value in (
        ("accumulate", 2), ("loss", "dice"), ("nesterov", True), ("average_weights", "ema:0.5"), ("lr", 0.3))}
    assert len(digests | {identity_of(plain)}) == 6
    found = identity_of(plain)
    monkeypatch.setattr("fedsim.experiment.identity.config", lambda settings: {
        name: value for name, value in config(settings).items() if name not in LATER})
    assert identity_of(plain) == found


@pytest.mark.parametrize(("name", "value"), [
    ("test_scales", "1,2"), ("test_flip", True), ("tile", "8x8"), ("evaluate_every", 3), ("rounds", 99)])
def test_how_a_state_is_scored_is_no_part_of_it(name, value):
    assert identity_of(replace(Settings(), **{name: value})) == identity_of(Settings())
