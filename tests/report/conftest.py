"""Fixtures of the reports' tests."""

import pytest
from records import make_records


@pytest.fixture
def records() -> list[dict]:
    return make_records(rounds=6, cars=4)
