"""The knobs: environment, context manager, types, errors."""
from __future__ import annotations

import threading
from pathlib import Path

import pytest

from jtc.dialects.errors import UsageError
from jtc.runtime import knobs


def test_environment_then_use(monkeypatch):
    monkeypatch.setenv("JTC_SPIN_US", "7")
    assert knobs.get("spin_us") == knobs.spin_us == 7
    with knobs.use(spin_us=9, pool_limit="2g"):
        assert knobs.get("spin_us") == 9 and knobs.get("pool_limit") == 2 << 30
        with knobs.use(spin_us=1):
            assert knobs.get("spin_us") == 1
        assert knobs.get("spin_us") == 9
    assert knobs.get("spin_us") == 7


def test_use_ends_after_an_error_and_stays_in_its_thread():
    seen = []
    with pytest.raises(RuntimeError), knobs.use(log="error"):
        thread = threading.Thread(target=lambda: seen.append(knobs.get("log")))
        thread.start()
        thread.join()
        raise RuntimeError
    assert knobs.get("log") == seen[0] == "warning"


@pytest.mark.parametrize("name, text", [
    ("THREADS", "many"), ("THREADS", "0"), ("ASYNC", "sometimes"), ("CACHE", "maybe"), ("POOL_LIMIT", "3 apples"),
    ("VERIFY", "2"), ("LOG", "loud"),
])
def test_bad_environment_is_one_clear_line(monkeypatch, name, text):
    monkeypatch.setenv("JTC_" + name, text)
    with pytest.raises(UsageError) as error:
        [row for row in knobs.describe()]
    first, hint = str(error.value).splitlines()
    assert f"JTC_{name}={text!r}" in first and hint.startswith("  hint: ")


def test_unknown_knob_and_bad_keyword():
    with pytest.raises(UsageError, match="unknown knob 'treads'"), knobs.use(treads=2):
        pass
    with pytest.raises(UsageError, match="threads=2.5"), knobs.use(threads=2.5):
        pass


def test_cache_key_holds_what_code_depends_on(tmp_path):
    before = knobs.key()
    with knobs.use(threads=3, dump_dir=tmp_path):
        assert knobs.key() == before and knobs.code_overrides.get() is None
    with knobs.use(optimize=0):
        assert knobs.key() != before and knobs.code_overrides.get() is not None


def test_values_have_their_types(tmp_path):
    with knobs.use(cache_dir=str(tmp_path), async_="1", verify="off", threads="2"):
        assert knobs.get("cache_dir") == Path(tmp_path)
        assert knobs.get("async_") is True and knobs.get("verify") is False and knobs.get("threads") == 2
