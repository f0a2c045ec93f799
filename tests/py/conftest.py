"""Fixtures for all tests."""
from __future__ import annotations

import pytest

from jtc.runtime import knobs


@pytest.fixture
def backend():
    """Run programs by the reference interpreter: the front end is tested apart from the compiler."""
    with knobs.use(backend="reference"):
        yield "reference"
