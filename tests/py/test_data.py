"""DataLoader: which samples come in which batch, with how many threads, and what goes wrong."""
from __future__ import annotations

import threading
import time
from typing import NamedTuple

import numpy as np
import pytest
from frontend_checks import normal, same

import jtc
from jtc.data import DataLoader, collate

pytestmark = pytest.mark.usefixtures("backend")
X, Y = normal(10, 3), np.arange(10, dtype=np.int32)


class Pair(NamedTuple):
    x: np.ndarray
    y: int


class Squares:
    """A dataset of (i, i * i)."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> Pair:
        return Pair(np.full(2, i, np.float32), i * i)


def numbers(loader: DataLoader) -> list[list[int]]:
    return [np.asarray(batch[1]).tolist() for batch in loader]


@pytest.mark.parametrize("workers", (0, 1, 3))
def test_arrays(workers):
    batches = list(DataLoader((X, Y), 4, num_workers=workers))
    assert [type(b) for b in batches] == [tuple] * 3 and all(isinstance(t, jtc.Tensor) for b in batches for t in b)
    same(batches[1][0], X[4:8])
    same(batches[2][1], Y[8:])
    rows = list(DataLoader({"x": X, "y": Y}, 5, num_workers=workers))
    same(rows[1]["y"], Y[5:])
    same(list(DataLoader(jtc.array(X), 10))[0], X)


@pytest.mark.parametrize("workers", (0, 1, 3))
def test_sequences(workers):
    batches = list(DataLoader(Squares(), 3, num_workers=workers))
    assert [type(b) for b in batches] == [Pair] * 3
    same(batches[1].x, np.float32([[3, 3], [4, 4], [5, 5]]))
    assert numbers(DataLoader(Squares(), 3, num_workers=workers)) == [[0, 1, 4], [9, 16, 25], [36]]
    named = list(DataLoader([{"text": "a", "n": 1.5}, {"text": "b", "n": 2}], 2, num_workers=workers))
    assert named[0]["text"] == ["a", "b"]
    same(named[0]["n"], np.float64([1.5, 2]))


@pytest.mark.parametrize("workers", (0, 1, 3))
def test_streams(workers):
    def stream():
        for i in range(5):
            yield i, i * i
    loader = DataLoader(stream, 2, num_workers=workers)
    assert numbers(loader) == [[0, 1], [4, 9], [16]] == numbers(loader)
    assert numbers(DataLoader(stream(), 2, num_workers=workers, drop_last=True)) == [[0, 1], [4, 9]]
    assert list(DataLoader(iter(()), 2, num_workers=workers)) == []
    with pytest.raises(TypeError, match="length of a stream"):
        len(loader)


def test_shuffling_is_the_same_for_any_number_of_threads():
    def jitter(batch, generator):
        return batch[0] + generator.normal(size=batch[0].shape).astype(np.float32), batch[1]
    runs = []
    for workers in (0, 1, 4):
        loader = DataLoader((X, Y), 3, True, seed=5, num_workers=workers, transform=jitter)
        runs.append([[np.asarray(part).tolist() for batch in loader for part in batch] for _ in range(2)])
    assert runs[0] == runs[1] == runs[2] and runs[0][0] != runs[0][1]
    order = [n for batch in numbers(DataLoader((X, Y), 3, True, seed=5)) for n in batch]
    assert sorted(order) == list(range(10)) != order


def test_seed_from_jtc_and_going_on():
    def epochs(skip: int = 0) -> list[list[list[int]]]:
        jtc.random.seed(3)
        loader = DataLoader((X, Y), 4, shuffle=True)
        loader.epoch = skip
        return [numbers(loader) for _ in range(3)]
    assert epochs() == epochs() and epochs()[2] == epochs(2)[0]


def test_sizes():
    assert [len(DataLoader(Y, n)) for n in (1, 3, 10, 11)] == [10, 4, 1, 1]
    assert len(DataLoader(Y, 3, drop_last=True)) == 3 == len(list(DataLoader(Y, 3, drop_last=True)))
    assert len(DataLoader(Y, 11, drop_last=True)) == 0 == len(list(DataLoader(Y, 11, drop_last=True)))


def test_batches_are_made_ahead_and_no_further():
    made, lock = [], threading.Lock()

    class Counted(Squares):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, i: int) -> Pair:
            with lock:
                made.append(i)
            return super().__getitem__(i)

    batches = iter(DataLoader(Counted(), 1, num_workers=2, prefetch=3))
    next(batches)
    deadline = time.monotonic() + 10
    while len(made) < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(made) == 7              # the first, and two threads' three each


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    for _ in DataLoader(Squares(), 1, num_workers=3):
        break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() <= before


def test_progress(capfd):
    list(DataLoader(Y, 5, progress="reading"))
    captured = capfd.readouterr()
    assert "reading" in captured.err and not captured.out


class Broken(Squares):
    def __getitem__(self, i: int) -> Pair:
        if i == 4:
            raise KeyError("no label")
        return super().__getitem__(i)


@pytest.mark.parametrize("workers", (0, 1, 3))
def test_a_sample_that_raises(workers):
    """The error comes at its batch, after those before it, and names the sample and the line."""
    batches, seen = iter(DataLoader(Broken(), 2, num_workers=workers)), []
    words = r"sample 4 of the dataset.*KeyError: 'no label' \(.*test_data.py:\d+\)"
    with pytest.raises(jtc.InputError, match=words) as e:
        for batch in batches:
            seen.append(np.asarray(batch.y).tolist())
    assert seen == [[0, 1], [4, 9]] and isinstance(e.value.__cause__, KeyError)
    assert e.value.location.file == __file__                   # the line that asks for batches


@pytest.mark.parametrize("make,words", [
    (lambda: DataLoader((X, Y[:5])), r"arrays of a dataset have one length, got shapes 0: \(10, 3\), 1: \(5,\)"),
    (lambda: DataLoader(Y, 0), "batch_size is an integer of at least 1, got 0"),
    (lambda: DataLoader(Y, 2.5), "batch_size is an integer"), (lambda: DataLoader(Y, 2, num_workers=-1), "num_workers"),
    (lambda: DataLoader(iter([1]), shuffle=True), "a stream cannot be shuffled"),
    (lambda: DataLoader(3), "a dataset is arrays, a sequence or a stream, got int"),
    (lambda: DataLoader(Y, shuffle=True, seed="x"), "a seed is an integer"),
    (lambda: list(DataLoader([np.zeros(2), np.zeros(3)], 2)), r"different shapes: \(2,\), \(3,\)"),
    (lambda: list(DataLoader([(1, 2), (1,)], 2)), "different numbers of entries"),
    (lambda: list(DataLoader([{"a": 1}, {"b": 1}], 2)), "different keys"),
    (lambda: list(DataLoader([object()], 1)), "a sample holds object")])
def test_bad_input(make, words):
    with pytest.raises(jtc.InputError, match=words):
        make()


def test_collate():
    assert collate([(1, "a"), (2, "b")])[1] == ["a", "b"] and collate([1, 2]).dtype == np.int64
    assert collate([1.5, 2.5]).dtype == np.float32 and collate([True, False]).dtype == np.bool_
    assert collate([jtc.ones((2,)), jtc.zeros((2,))]).shape == (2, 2)
