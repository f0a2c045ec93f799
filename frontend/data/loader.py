"""`DataLoader`: an epoch of batches, read and put together by threads while the program computes.

The order of samples and the numbers that `transform` sees depend on the seed, the epoch and the batch alone, so they
are the same for any number of threads.
"""
from __future__ import annotations

import itertools
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jtc.dialects.errors import InputError
from jtc.frontend import random
from jtc.frontend.data.collate import collate as stack
from jtc.frontend.data.collate import tensors
from jtc.frontend.operands import need_integer
from jtc.frontend.tensor import Tensor
from jtc.frontend.trace import input_error

_END = object()


class DataLoader:
    """Iterate over batches of a dataset; each `for` loop is one epoch.

    dataset      one of
                 * an array [n, ...], or a tuple or dict of arrays of equal length: a batch is rows of each
                 * anything with `len` and `[i]`, such as a list: item i is sample i
                 * anything that can be iterated, or a function without arguments that returns an iterator: a stream
    batch_size   samples in a batch
    shuffle      draw the samples in another order in every epoch; not for streams
    drop_last    leave out a last batch that is smaller; jitted functions then compile for one size only
    num_workers  threads that make batches ahead; 0 makes each when it is asked for.  A stream has one thread at most.
    prefetch     batches made ahead by each thread
    collate      list of samples -> batch, in place of `jtc.data.collate`
    transform    (batch of NumPy arrays, numpy.random.Generator) -> batch, for augmentation; runs in the threads
    seed         of the order and of transform's generator; drawn from `jtc.random` if None
    progress     show a progress bar on standard error; a string is its label

    Batches hold tensors in the containers that the dataset, or collate and transform, put them in.
    `epoch` counts the epochs begun; setting it lets a later run go on where another stopped.
    Raises InputError for arguments that make no sense, and, at the batch concerned, for a sample that cannot be read.
    """

    def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, drop_last: bool = False,
                 num_workers: int = 0, prefetch: int = 2, collate: Callable[[list[Any]], Any] | None = None,
                 transform: Callable[[Any, np.random.Generator], Any] | None = None, seed: int | None = None,
                 progress: bool | str = False):
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0),
                                   ("prefetch", prefetch, 1)):
            need_integer(value, name, least)
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, int(batch_size), shuffle, drop_last
        self.num_workers, self.prefetch, self.collate, self.transform = num_workers, prefetch, collate, transform
        self.progress, self.epoch = progress, 0
        self._columns = _columns(dataset)
        self._size = self._columns.size if self._columns else \
            len(dataset) if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") else None
        if self._size is None:
            if not callable(dataset) and not isinstance(dataset, Iterable):
                raise input_error(f"a dataset is arrays, a sequence or a stream, got {type(dataset).__name__}")
            if shuffle:
                raise input_error("a stream cannot be shuffled: its length is not known",
                                  "pass arrays, or an object with __len__ and __getitem__")
        if seed is not None:
            need_integer(seed, "a seed", 0)
        self.seed = int(random.default.host().integers(1 << 62)) if seed is None and (shuffle or transform) else seed

    def __len__(self) -> int:
        """Batches in an epoch.  Raises TypeError for a stream."""
        if self._size is None:
            raise TypeError("the length of a stream is not known")
        return self._size // self.batch_size if self.drop_last else -(-self._size // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        batches = self._stream(self.epoch) if self._size is None else self._indexed(self.epoch)
        workers = min(self.num_workers, 1) if self._size is None else self.num_workers
        made = _ahead(batches, workers, workers * self.prefetch) if workers else map(_call, batches)
        made = itertools.takewhile(lambda batch: batch is not _END, made)
        return self._shown(made) if self.progress else made

    # Both give functions that make one batch each: they are called in order, by one thread or by several.

    def _indexed(self, epoch: int) -> Iterator[Callable[[], Any]]:
        size, step = self._size or 0, self.batch_size
        order = np.random.default_rng([self.seed or 0, epoch]).permutation(size) if self.shuffle else None
        for number in range(len(self)):
            rows = slice(number * step, min((number + 1) * step, size))
            yield self._maker(rows if order is None else order[rows], epoch, number)

    def _maker(self, rows: slice | np.ndarray, epoch: int, number: int) -> Callable[[], Any]:
        def make() -> Any:
            if self._columns:
                return self._finish(self._columns.rows(rows), epoch, number)
            indices = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
            samples = [_guarded(f"sample {i}", self.dataset.__getitem__, i) for i in indices]
            return self._finish((self.collate or stack)(samples), epoch, number)
        return make

    def _stream(self, epoch: int) -> Iterator[Callable[[], Any]]:
        source = iter(self.dataset() if callable(self.dataset) else self.dataset)
        number, ended = 0, False

        def make() -> Any:
            nonlocal number, ended
            samples: list[Any] = []
            while len(samples) < self.batch_size and not ended:
                sample = _guarded(f"sample {number * self.batch_size + len(samples)}", next, source, _END)
                ended = sample is _END
                if not ended:
                    samples.append(sample)
            if not samples or self.drop_last and len(samples) < self.batch_size:
                return _END
            number += 1
            return self._finish((self.collate or stack)(samples), epoch, number - 1)

        while True:
            yield make

    def _finish(self, batch: Any, epoch: int, number: int) -> Any:
        if self.transform is not None:
            generator = np.random.default_rng([self.seed or 0, epoch, number])
            batch = _guarded(f"batch {number}", self.transform, batch, generator)
        return tensors(batch)

    def _shown(self, batches: Iterator[Any]) -> Iterator[Any]:
        from rich.console import Console
        from rich.progress import track
        label = self.progress if isinstance(self.progress, str) else f"epoch {self.epoch}"
        total = None if self._size is None else len(self)
        yield from track(batches, label, total, console=Console(stderr=True))


class _Columns:
    """Arrays of equal length, alone or in a tuple or dict."""

    def __init__(self, form: Any, arrays: dict[Any, np.ndarray]):
        self.form, self.arrays = form, arrays
        lengths = {len(a) if a.ndim else None for a in arrays.values()}
        if len(lengths) > 1 or None in lengths:
            shapes = ", ".join(f"{key!r}: {a.shape}" for key, a in arrays.items())
            raise input_error(f"the arrays of a dataset have one length, got shapes {shapes}")
        self.size: int = lengths.pop()                             # type: ignore[assignment]

    def rows(self, which: slice | np.ndarray) -> Any:
        taken = {key: a[which] for key, a in self.arrays.items()}
        if isinstance(self.form, Mapping):
            return taken
        if isinstance(self.form, tuple):
            return type(self.form)(*taken.values()) if hasattr(self.form, "_fields") else tuple(taken.values())
        return taken[0]


def _columns(dataset: Any) -> _Columns | None:
    items = dict(dataset) if isinstance(dataset, Mapping) else \
        dict(enumerate(dataset if isinstance(dataset, tuple) else (dataset,)))
    if not items or not all(isinstance(item, (np.ndarray, Tensor)) for item in items.values()):
        return None
    return _Columns(dataset, {key: np.asarray(item) for key, item in items.items()})


def _guarded(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args); an error names the sample and the line that failed."""
    try:
        return function(*args)
    except InputError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).splitlines()
        raise input_error(f"{what} of the dataset cannot be made: {type(error).__name__}"
                          f"{': ' + said[0][:120] if said else ''} ({place.filename}:{place.lineno})") from error


def _call(make: Callable[[], Any]) -> Any:
    return make()


def _ahead(makers: Iterator[Callable[[], Any]], workers: int, window: int) -> Iterator[Any]:
    """What the makers make, in their order, with up to `window` batches made ahead by `workers` threads."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="jtc-data")
    waiting: deque[Future[Any]] = deque()
    try:
        for make in makers:
            waiting.append(pool.submit(make))
            if len(waiting) > window:
                yield _taken(waiting.popleft())
        while waiting:
            yield _taken(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _taken(batch: Future[Any]) -> Any:
    """A batch that a worker made; its error names the line that asks for the batch, which the worker cannot see."""
    try:
        return batch.result()
    except InputError as error:
        raise input_error(error.message, error.hint) from error.__cause__
