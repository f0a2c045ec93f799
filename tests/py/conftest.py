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


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """call(*argv) -> (exit code, stdout, stderr), in an empty directory with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTC_CACHE_DIR", str(tmp_path / "cache"))

    def run(*argv):
        from jtc.tools.cli import main
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return code, out, err
    return run


@pytest.fixture
def mm(tmp_path):
    """A graph as text."""
    from kernels import matmul

    from jtc.dialects.text import graph_text
    path = tmp_path / "mm.mlir"
    path.write_text(graph_text(matmul()))
    return path
