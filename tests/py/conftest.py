"""Fixtures for all tests."""
from __future__ import annotations

import os

import pytest

from jtc.runtime import knobs


@pytest.fixture
def backend():
    """Run programs by the reference interpreter: the front end is tested apart from the compiler.

    JTC_TEST_BACKEND=compiled runs the same tests through the compiler.
    """
    name = os.environ.get("JTC_TEST_BACKEND", "reference")
    with knobs.use(backend=name):
        yield name
