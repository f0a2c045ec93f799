"""`jit`: a Python function, traced once for each signature into a graph, and compiled.

A signature is the form of the arguments (containers), the dtype and shape of every tensor and array in them, and the
value of everything else: Python numbers, strings, bools and None are static.  The order of keyword arguments belongs
to it only where the function takes any (`**kwargs`), and so sees it.  What the function closes over:

* tensors become inputs of the graph, read anew in every call; where one was in two places, and no longer is, the
  function is traced again;
* tensors that it assigns to (`x.assign`) or rebinds (nonlocal, global, an attribute of an object, an item of a
  container) become outputs, which are written back after every call;
* NumPy arrays become constants, compiled in; other Python values are read once, while tracing.  Those of modules and
  optimisers that it uses are watched: the function is traced again for another `training`, another structure...
"""
from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np

from jtc.dialects.graph import Graph, TensorType
from jtc.frontend import autocast, execute, values
from jtc.frontend.places import Place
from jtc.frontend.promotion import is_scalar
from jtc.frontend.tensor import Tensor
from jtc.frontend.tiers import Tiered, executable_for
from jtc.frontend.trace import _current, _transforming, epoch, input_error, recording, shown
from jtc.frontend.traced import Traced, argument_names, parameters, tensor_type, trace, tracing
from jtc.frontend.tree import LEAF, flatten, is_container, walk
from jtc.runtime import knobs
from jtc.runtime.engine import PROCESS_KNOBS, Dispatcher
from jtc.runtime.module import Module

logger = logging.getLogger("jtc")
_STATES = 8           # programs kept for one signature: training and evaluation, and a few structures of modules
_AGAIN = object()     # the call goes to the native dispatcher, which knows the signature now
_OFTEN = 16           # from as many compilations of one function on, each doubling of their number is warned of


class Program:
    """One compiled signature: how to call it, and whether what it was traced with still holds.

    epoch  the item of `trace.epoch` when the static state of modules and optimisers was last found unchanged
    """

    def __init__(self, traced: Traced, arguments: Sequence[Any]):
        self.traced = traced
        inputs = traced.graph.inputs[len(traced.graph.inputs) - len(traced.captured):]
        self.captured = [(tensor, place, node.type) for (tensor, place), node in zip(traced.captured, inputs)]
        self.epoch: list[object] = [None]
        self.runnable = execute.build(traced.graph) if traced.graph.outputs else None
        # Signatures name objects by their id, which stays theirs as long as they live.
        self.objects = [leaf for leaf in arguments if is_container(leaf) and not isinstance(leaf, Tensor)]

    def changed(self) -> str | None:
        """What has changed of the modules and optimisers that the function used, None where nothing has."""
        if self.epoch[0] is not epoch[0]:
            now = epoch[0]
            for owner, then in self.traced.static:
                if owner.static_state() != then:
                    return owner.static_change(then)
            self.epoch[0] = now
        return None

    def tensors(self, arguments: Sequence[Any]) -> list[Tensor] | None:
        """The captured tensors as they are now; None where one is gone, has another type, or is shared otherwise."""
        found: list[Tensor] = []
        for tensor, place, expected in self.captured:
            now = tensor if place is None else place.read(arguments)
            if not isinstance(now, Tensor) or now.type != expected or now._tracer is not None:
                return None
            found.append(now)
        if any(place.read(arguments) is not found[number] for number, place in self.traced.aliases):
            return None
        if self.traced.writes and len(set(map(id, found))) < len(found):     # the value of one is that of the other
            return None
        return found

    def other_tensors(self, arguments: Sequence[Any]) -> str | None:
        """Which captured tensor is gone, has another type, or is shared otherwise, in words."""
        found: dict[int, Place | None] = {}
        for tensor, place, expected in self.captured:
            now = tensor if place is None else place.read(arguments)
            if not isinstance(now, Tensor) or now.type != expected:
                what = f"is {_told(now.type)}" if isinstance(now, Tensor) else "is no tensor"
                return f"{place or 'a captured tensor'} {what}, before it was {_told(expected)}"
            if id(now) in found:
                return f"{place} is the same tensor as {found[id(now)]}, before it was another one"
            found[id(now)] = place
        for number, other in self.traced.aliases:
            place = self.captured[number][1]
            if place is not None and other.read(arguments) is not place.read(arguments):
                return f"{other} is not the same tensor as {place}, before it was"
        return None

    def call(self, given: Sequence[values.Buffer], captured: Sequence[Tensor], arguments: Sequence[Any]) -> Any:
        """Run on the buffers of the tensor arguments; writes back, and returns what the function returns."""
        inputs = [*given, *(t.value() for t in captured)]
        return self.finish(inputs, self.runnable.run(inputs) if self.runnable else [], captured, arguments)

    def finish(self, inputs: Sequence[values.Buffer], outputs: Sequence[values.Buffer], captured: Sequence[Tensor],
               arguments: Sequence[Any]) -> Any:
        traced = self.traced
        stores = [(target, source.take(inputs, outputs)) for target, source in traced.writes]
        made: dict[int, Tensor] = {}
        present = {id(old): now for (old, _), now in zip(traced.captured, captured)} if stores else {}
        for target, tensor in stores:
            if isinstance(target, Tensor):
                present[id(target)].set_buffer(tensor._buffer)
            else:
                target.write(made.setdefault(id(tensor._buffer), tensor), arguments)
        return traced.form.build(iter([source.take(inputs, outputs) for source in traced.sources]))


class Jit(Dispatcher):
    """A function compiled by `jit`.

    compiles     how many signatures were traced and compiled so far;  runnables: what to;  tiers: in which tier each is
    graph(*args) the graph for these arguments, without compiling it; `lower` is another name for it
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None, options: dict[str, Any] | None = None):
        bypass: list[ContextVar[Any]] = [_current, _transforming, knobs.code_overrides, autocast.active]
        super().__init__(self._slow, Tensor, bypass)
        self.function, self.name = function, name
        self.options = knobs.check(options or {})
        self.compiles = 0
        taken = parameters(function)
        self._sees_order = taken is None or any(p.kind is p.VAR_KEYWORD for p in taken)
        self._programs: dict[Any, tuple[Program, ...]] = {}         # written under the lock, read without
        self._lock = threading.RLock()
        functools.update_wrapper(self, function)

    def _slow(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if recording():
            return self.function(*args, **kwargs)                  # part of what is recorded
        kwargs = self._ordered(kwargs)
        arguments: list[Any] = []
        form = flatten((args, kwargs), arguments)
        key = form, tuple([_leaf_key(leaf) for leaf in arguments])
        plain = knobs.code_overrides.get() is None
        with knobs.use(**self.options) if self.options else nullcontext():
            result = self._run(key, args, kwargs, arguments, plain)
        return self(*args) if result is _AGAIN else result

    def _ordered(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments in one order, whatever the call's, unless the function takes **any and so sees it."""
        return kwargs if self._sees_order or len(kwargs) < 2 else dict(sorted(kwargs.items()))

    def _run(self, key: tuple, args: tuple, kwargs: dict[str, Any], arguments: list[Any], plain: bool) -> Any:
        variant = key, (*knobs.key().values(), knobs.get("backend"), autocast.active.get())
        found = self._find(variant, arguments)
        if found is None:
            direct = False
            with self._lock:
                with tracing:          # another thread may have compiled it, or have stand-ins in the places
                    found = self._find(variant, arguments)
                    traced = None if found else trace(self.function, args, kwargs, self.name)
                if traced is not None:
                    program = self._compile(variant, traced, arguments)
                    direct = plain and self._register(program, args, kwargs)
                    found = program, [tensor for tensor, _ in traced.captured]
            if direct:                  # as later calls, in which new state takes the place of the old
                return _AGAIN
        program, captured = found           # type: ignore[misc]
        given = [_buffer(leaf) for leaf in arguments if tensor_type(leaf)]
        return program.call(given, captured, arguments)

    def _find(self, variant: tuple, arguments: list[Any]) -> tuple[Program, list[Tensor]] | None:
        """A program that can be used, and the captured tensors as they are now."""
        for program in self._programs.get(variant, ()):
            captured = None if program.changed() else program.tensors(arguments)
            if captured is not None:
                return program, captured
        return None

    def _compile(self, variant: tuple, traced: Traced, arguments: list[Any]) -> Program:
        """Compile what was traced, and keep it; called under the lock."""
        known = self._programs.get(variant, ())
        reason = self._reason(variant[0], known, arguments)
        program = Program(traced, arguments)
        self._programs[variant] = (program, *known[:_STATES - 1])
        self.compiles += 1
        if self.compiles > 1:
            # A step that changes state runs many times: compiling it again may well be a mistake.  So may compiling a
            # function for one value of a static argument after the other.
            often = self.compiles >= _OFTEN and self.compiles & (self.compiles - 1) == 0
            logger.log(logging.WARNING if traced.writes or often else logging.INFO, "%s is compiled again%s: %s",
                       traced.graph.name, f" ({self.compiles} times so far)" if often else "", reason)
        return program

    def _reason(self, key: tuple, programs: Sequence[Program], arguments: Sequence[Any]) -> str:
        """Why none of the programs compiled so far can be used, in words."""
        if programs:
            return programs[0].changed() or programs[0].other_tensors(arguments) or "something it refers to is gone"
        form, leaves = key
        for (other_form, other_leaves), _ in reversed(self._programs):
            if other_form == form and other_leaves != leaves:
                for path, leaf, other in zip(form.paths(), leaves, other_leaves):
                    if leaf != other:
                        name, = argument_names(self.function, [path])
                        return f"argument {name} is {_told(leaf)}, before it was {_told(other)}"
        return "with other arguments"

    def _register(self, program: Program, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Let the native dispatcher take this signature, unless a call needs Python code; whether it does.

        It looks tensors up in their places, passes over the signature where a module or optimiser may have changed,
        and stores new values into captured tensors.
        """
        runnable, traced = program.runnable, program.traced
        number = {id(tensor): k for k, (tensor, _) in enumerate(traced.captured)}
        places = [place for _, place in (*traced.captured, *traced.aliases)]
        direct = not self.options.keys() & PROCESS_KNOBS and autocast.active.get() is None \
            and all(place is None or place.kind != "argument" for place in places) \
            and all(source.kind == "output" and id(target) in number for target, source in traced.writes)
        if not isinstance(runnable, (Module, Tiered)) or not direct or kwargs or not all(_is_plain(a) for a in args):
            return False
        if any(s.kind == "input" for s in traced.sources):
            return False
        program.changed()                                    # so that the guard holds from the next call on
        row = [("tensor",) if tensor_type(a) else ("value", a) for a in args]
        captured = [tensor if place is None else _row(place) for tensor, place in traced.captured]
        results = 1 + max((s.number for s in traced.sources if s.kind == "output"), default=-1)
        with executable_for(self, runnable) as executable:
            self.add(row, executable, captured, _wrap(traced),
                     writes=[(number[id(target)], source.number) for target, source in traced.writes],
                     guard=(program.epoch, epoch) if traced.static else None, results=results,
                     aliases=[(k, _row(place)) for k, place in traced.aliases])
        return True

    @property
    def runnables(self) -> list[execute.Runnable]:
        """What the signatures so far were compiled to, the first one first: modules, which can be profiled."""
        return [r.module if isinstance(r, Tiered) else r for r in self._runnables()]

    @property
    def tiers(self) -> list[str]:
        """For each of the `runnables`: "final"; "quick", while better code is being compiled; "quick only", where that
        has failed.  See the knob `tiered`."""
        return [r.tier if isinstance(r, Tiered) else "final" for r in self._runnables()]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until better code is compiled for no signature any more, at most `timeout` seconds; whether that is so.

        With the knob `tiered`; without it, code is compiled before the first call returns.
        """
        end = None if timeout is None else time.monotonic() + timeout
        return all([r.wait(None if end is None else max(0.0, end - time.monotonic()))
                    for r in self._runnables() if isinstance(r, Tiered)])

    def _runnables(self) -> list[execute.Runnable]:
        found = [program.runnable for programs in list(self._programs.values()) for program in programs]
        return [runnable for runnable in found if runnable is not None]

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """The graph of the function for these arguments."""
        return trace(self.function, args, self._ordered(kwargs), self.name).graph

    lower = graph

    def __reduce__(self) -> str:
        """Copied and pickled by name, as functions are."""
        return str(getattr(self.function, "__qualname__", self.name))

    def __repr__(self) -> str:
        return f"<jtc.jit {getattr(self.function, '__qualname__', self.function)}>"


def _row(place: Place) -> tuple:
    """A place, for the native dispatcher."""
    return place.kind, place.holder, place.key, place.path


def _wrap(traced: Traced) -> Callable[[tuple[Tensor, ...]], Any] | None:
    """What makes the result of the outputs' tensors; None where the result is the only one."""
    form, sources = traced.form, traced.sources
    if [s.number for s in sources] == list(range(len(sources))):       # nothing known while tracing, nothing twice
        if form.kind == LEAF:
            return None
        if form.kind in ("list", "tuple") and all([child.kind == LEAF for child in form.children]):
            return list if form.kind == "list" else tuple
    return lambda outputs: form.build(iter([s.value if s.kind == "value" else outputs[s.number] for s in sources]))


def _told(key: Any) -> str:
    """A part of a signature, for people: "float32[50, 10]", "3"."""
    if isinstance(key, TensorType):
        return f"{key.dtype.public}{list(key.shape)}"
    return str(key[1]) if isinstance(key, tuple) and len(key) == 2 else "another object"


def _is_plain(value: Any) -> bool:
    return type(value) in (Tensor, np.ndarray, int, bool, float, str, type(None))


def _leaf_key(leaf: Any) -> Any:
    """What of an argument belongs to the signature.  Raises InputError for a value that cannot be compared."""
    found = tensor_type(leaf)
    if found is not None:
        return found
    if isinstance(leaf, (float, np.floating)):
        return type(leaf), repr(leaf)
    if leaf is None or is_scalar(leaf) or isinstance(leaf, (str, bytes)):
        return type(leaf), leaf
    if is_container(leaf):
        return type(leaf), id(leaf), tuple([(path, tensor.type) for path, tensor in walk(leaf)])
    try:
        hash(leaf)
    except TypeError:
        raise input_error(f"an argument of type {type(leaf).__name__} is neither a tensor nor a static value: "
                          f"{shown(leaf)}",
                          "pass tensors, arrays, numbers, strings, or containers of them") from None
    return type(leaf), leaf


def _buffer(leaf: Any) -> values.Buffer:
    return leaf.value() if isinstance(leaf, Tensor) else values.from_numpy(leaf, copy=False)


def jit(function: Callable[..., Any] | None = None, *, name: str | None = None, unroll: int | None = None,
        **options: Any) -> Any:
    """Compile a function of tensors: `jit(f)`, `@jit`, or `@jit(name=..., threads=1)` with knobs as keywords.

    The function is run once in Python for each signature, recording its operations (see the module's text for what
    becomes an input, an output or a constant).  Raises TraceError, with the line and a remedy, where Python needs a
    value that is not known yet.

    unroll: compile so many calls as one program; tensor arguments have one more axis of that size, results are stacked.
    """
    if function is None:
        return lambda f: jit(f, name=name, unroll=unroll, **options)
    if not callable(function):
        raise input_error(f"jit needs a function, got {shown(function)}")
    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    if any(kind(function) for kind in kinds):
        raise input_error(f"jit cannot trace {shown(function)}: it is a generator or a coroutine",
                          "return a list of the results")
    if unroll is not None:
        from jtc.frontend.unroll import unrolled
        function = unrolled(function, unroll)
    return Jit(function, name, options)
