"""The tuner: what it measures, what it takes, what it keeps.  No clock decides here: times and the clock are given."""
from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

import jtc
from jtc.compiler.driver import compile_graph, settings_for
from jtc.compiler.explain import explain_graph
from jtc.compiler.tuning import measure, search, store
from jtc.compiler.tuning import tune as tune_module
from jtc.compiler.tuning.measure import Bench, Times
from jtc.compiler.tuning.search import BATCH, MARGIN, Interval, Search, Task
from jtc.compiler.tuning.tune import tune
from jtc.dialects.errors import InputError, UsageError
from jtc.dialects.kernel import Schedule
from jtc.passes.kernel.choice import Choice, identity
from jtc.passes.kernel.rules.common import Candidate, Copy
from jtc.runtime import knobs
from jtc.runtime.module import load_module


# ---------------------------------------------------------------------------------------------------------- decisions
def candidate(number: int) -> Candidate:
    return Candidate(float(number), Schedule("i", 16, (("i", 16 * number),)))


def number_of(choice: Choice | None) -> int:
    return choice.stages[0].schedule.loops[0][1] // 16 if choice and choice.stages[0] else 0


@dataclass
class Line:
    """Schedules 1, 2, 3...: the rules propose some, and the neighbours of n are n - 1 and n + 1."""

    proposed: tuple[int, ...] = (1, 2, 3)
    default: Candidate = candidate(0)

    def first(self, count: int) -> list[Candidate]:
        return [candidate(n) for n in self.proposed[:count]]

    def around(self, best: Candidate, count: int) -> list[Candidate]:
        n = int(best.cost)
        return [candidate(m) for m in (n + 1, n - 1) if m > 0][:count]


class Machine:
    """Seconds of schedules of one kernel, which a run with noise takes; every measurement takes some time."""

    def __init__(self, seconds: Callable[[int], float], noise: Callable[[], float] = lambda: 1.0, each: float = 1.0):
        self.seconds, self.noise, self.each, self.clock = seconds, noise, each, 0.0
        self.batches: list[list[int]] = []

    def __call__(self, variants, rounds):
        self.clock += self.each
        self.batches.append([number_of(v.get("k")) for v in variants])
        result = [Times({"k": []}, []) for _ in variants]
        for _ in range(rounds):
            disturbed = self.noise()                    # of this round, for all
            for variant, times in zip(variants, result):
                seconds = self.seconds(number_of(variant.get("k"))) * disturbed * self.noise()
                times.kernels["k"].append(seconds)
                times.total.append(seconds)
        return result

    def search(self, budget: float = 1000.0, line: Line | None = None) -> tuple[int, Search]:
        tuner = Search([Task("k", "kernel", [line or Line()])], self, lambda: self.clock, budget)
        return number_of(tuner.run().get("k")), tuner


def test_the_search_walks_to_the_best_schedule():
    machine = Machine(lambda n: 1.0 if n == 0 else 2.0 - 0.2 * min(n, 12 - n))
    best, tuner = machine.search()
    assert best == 6
    assert tuner.tasks[0].tried == len({n for batch in machine.batches for n in batch} - {0})     # each of them once
    assert all(batch[0] == 0 and len(batch) <= BATCH + 2 for batch in machine.batches)      # always with the default


def test_the_gain_is_that_of_the_duel():
    machine = Machine(lambda n: {0: 1.0, 2: 0.8}.get(n, 1.5))
    tuner = Search([Task("k", "kernel", [Line()])], machine, lambda: 0.0, 10.0)
    assert tuner.run()["k"].gain == 1.25
    assert machine.batches[-1] == [0, 2]


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_gain(seed):
    """All schedules are equally fast: none may take the place of the default, however many are tried."""
    rng = random.Random(seed)
    best, _ = Machine(lambda n: 1.0, lambda: rng.lognormvariate(0, 0.05)).search(line=Line(tuple(range(1, 30))))
    assert best == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_gain_beyond_the_noise_is_taken(seed):
    rng = random.Random(seed)
    best, _ = Machine(lambda n: 0.8 if n == 2 else 1.0, lambda: rng.lognormvariate(0, 0.03)).search()
    assert best == 2


def test_a_gain_within_the_margin_is_not_worth_it():
    assert Machine(lambda n: 1.0 if n != 2 else 1 / (1 + MARGIN / 2)).search()[0] == 0


def test_luck_in_the_search_loses_the_duel():
    machine = Machine(lambda n: 1.0)
    machine.seconds = lambda n: 0.5 if n == 3 and len(machine.batches[-1]) > 2 else 1.0       # in the search only
    best, tuner = machine.search()
    assert number_of(tuner.tasks[0].incumbent) == 3 and machine.batches[-1] == [0, 3] and best == 0


def test_what_is_faster_alone_and_slower_together_is_not_taken():
    class Thief(Machine):
        def __call__(self, variants, rounds):
            result = super().__call__(variants, rounds)
            for variant, times in zip(variants, result):
                times.total[:] = [2.0 if variant else 1.0] * rounds
            return result
    assert Thief(lambda n: 0.5 if n else 1.0).search()[0] == 0


def test_the_budget_ends_the_search_and_leaves_time_for_the_duel():
    machine = Machine(lambda n: 1.0 / (1 + n), each=10.0)
    best, _ = machine.search(budget=45.0, line=Line(tuple(range(1, 100))))
    assert machine.clock <= 45.0
    assert best == max(n for batch in machine.batches for n in batch)       # the best of what there was time for


def test_batches_are_as_large_as_the_budget_allows():
    machine = Machine(lambda n: 1.0 / (1 + n), each=10.0)
    tuner = Search([Task("k", "kernel", [Line()])], machine, lambda: machine.clock, budget=100.0, seconds=75 / 5 / 4)
    tuner.run()
    assert len(machine.batches[0]) == 4                 # the default, the best so far, and two that are new


def test_one_batch_is_measured_whatever_the_budget():
    machine = Machine(lambda n: 1.0 / (1 + n), each=10.0)
    assert machine.search(budget=0.1)[0] == 3


def test_interrupted_search_keeps_what_it_has():
    machine = Machine(lambda n: 1.0 / (1 + n))
    measured = machine.__call__

    def times(variants, rounds):
        if len(machine.batches) == 2:
            machine.batches.append([])
            raise KeyboardInterrupt
        return measured(variants, rounds)
    tuner = Search([Task("k", "kernel", [Line()])], times, lambda: machine.clock, 1000.0)
    assert number_of(tuner.run()["k"]) > 0 and tuner.interrupted
    machine.batches.clear()

    def never(variants, rounds):
        raise KeyboardInterrupt
    tuner = Search([Task("k", "kernel", [Line()])], never, lambda: 0.0, 1000.0)
    assert tuner.run() == {}                                                # nothing found yet, nothing to compare


def test_schedules_that_cannot_be_made_are_passed_over():
    machine = Machine(lambda n: 1.0 / (1 + n))
    measured = machine.__call__

    def times(variants, rounds):
        result = measured(variants, rounds)
        return [None if number_of(v.get("k")) == 3 else t for v, t in zip(variants, result)]
    tuner = Search([Task("k", "kernel", [Line()])], times, lambda: machine.clock, 1000.0)
    assert number_of(tuner.run()["k"]) == 2


def test_stages_of_a_kernel_are_tuned_one_at_a_time():
    def seconds(stages: Sequence[Candidate | None]) -> float:
        return sum(1.0 if c is None else 2.0 - 0.2 * min(int(c.cost), 14 - int(c.cost)) for c in stages)

    def times(variants, rounds):
        rows = [seconds(v["k"].stages if "k" in v else (None, None)) for v in variants]
        return [Times({"k": [s] * rounds}, [s] * rounds) for s in rows]
    task = Task("k", "kernel", [Line((6,)), Line((6,))])
    choice = Search([task], times, lambda: 0.0, 10.0).run()["k"]
    assert [int(c.cost) for c in choice.stages] == [7, 7]
    assert task.gain == pytest.approx(2 / 1.2)


def test_interval_of_the_median():
    """Order statistics of 15 values: the third and the thirteenth bound it with 99 %, the fourth with 96 %."""
    assert Interval.of(range(15), 0.98) == Interval(2, 7, 12)
    assert Interval.of(range(15), 0.96) == Interval(3, 7, 11)
    assert Interval.of([1, 2, 3], 0.98) == Interval(1, 2, 3)                # too few for any confidence: all of them
    rng = random.Random(0)
    inside = sum(i.low <= 0 <= i.high for i in (Interval.of([rng.gauss(0, 1) for _ in range(15)])
                                                for _ in range(500)))
    assert inside >= 0.96 * 500


# ---------------------------------------------------------------------------------------------------------- programs
rng = np.random.default_rng(0)
X, W = rng.standard_normal((40, 24)).astype(np.float32), rng.standard_normal((24, 48)).astype(np.float32)


def layer(x, w):
    return jtc.softmax(x @ w, axis=-1)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_module, "SHORTEST", 0.0)               # these kernels take less
    monkeypatch.setattr(measure, "SLICE", 0.0)
    monkeypatch.setattr(search, "BATCH", 2)
    monkeypatch.setattr(search, "ROUNDS", 2)
    monkeypatch.setattr(search, "DUEL", (2,))
    with knobs.use(cache_dir=tmp_path / "cache", threads=1, jobs=0):
        yield


def made_up(faster: Callable[[Choice], bool]) -> Callable[[Bench], object]:
    """A measure that runs nothing: kernels with a choice that is `faster` take half the time."""
    def of(bench):
        def times(variants, rounds):
            result = []
            for variant in variants:
                kernels = {i: [0.5 if i in variant and faster(variant[i]) else 1.0] * rounds
                           for i in bench.identities.values()}
                result.append(Times(kernels, [sum(k[0] for k in kernels.values())] * rounds))
            return result
        return times
    return of


def tune_layer(**more):
    return tune(jtc.jit(layer).graph(X, W), "graph", settings_for(), 10.0, now=lambda: 0.0, **more)


def test_compilations_take_what_was_tuned(own_cache):
    graph = jtc.jit(layer).graph(X, W)
    before = load_module(compile_graph(graph))(X, W)
    done = tune_layer(measure=made_up(lambda c: c.stages[0] and c.stages[0].schedule.unroll == (("r0", 2),)))
    assert [row.gain for row in done.rows if row.name == "k0_dot"] == [2.0]
    report = explain_graph(graph)
    assert "schedule: tuned, x2.00 of the default, loops" in str(report) and "unrolled 2" in str(report)
    module = load_module(compile_graph(graph))
    assert "tuned, x2.00" in module.plan.report["kernels"][0]["stages"][0]["schedule"]
    np.testing.assert_allclose(module(X, W), before, rtol=1e-5)
    with knobs.use(schedules="default"):
        assert "tuned" not in str(explain_graph(graph))
        assert "tuned" not in str(load_module(compile_graph(graph)).plan.report)
    with knobs.use(threads=2):                          # nothing was measured with two threads
        assert "tuned" not in str(explain_graph(graph))
    again = tune_layer(measure=made_up(lambda choice: True))
    assert all(row.known for row in again.rows)
    assert not any(row.known for row in tune_layer(measure=made_up(lambda choice: True), again=True).rows)


def test_the_schedule_phase_tells_the_gain(own_cache):
    """What was tuned survives being written and read, so that compilation goes on from the file as from memory."""
    from jtc.compiler import phases
    tune_layer(measure=made_up(lambda choice: True))
    settings = settings_for()
    program = phases.advance(jtc.jit(layer).graph(X, W), "graph", "schedule", settings)
    text = phases.text_of(program, "schedule")
    assert "gain = 2.0 : f64" in text
    _, back = phases.parse(text, "layer.mlir", "schedule")
    one, other = ([s.schedule for k in p.kernels for s in k.stages] for p in (program, back))
    assert one == other


def test_a_real_measurement(own_cache):
    """The bench in place of a made-up one: the kernels run, and what is compiled afterwards computes the same."""
    done = tune(jtc.jit(layer).graph(X, W), "graph", settings_for(), 0.01)
    assert done.rows and all(row.tried for row in done.rows) and done.seconds > 0
    assert not done.interrupted
    np.testing.assert_allclose(load_module(compile_graph(jtc.jit(layer).graph(X, W)))(X, W), np.asarray(layer(X, W)),
                               rtol=1e-5)
    assert set(store.stored(settings_for().target).tuned) >= {
        identity(k, bench_program()) for k in bench_program().kernels if k.name == "k0_dot"}


def bench_program():
    settings = settings_for()
    return measure.unscheduled(jtc.jit(layer).graph(X, W), "graph", replace(settings, tuned={}))


def test_copies_count_for_the_kernel_that_reads_them(own_cache):
    program = bench_program()
    dot = next(k for k in program.kernels if k.name == "k0_dot")
    options = tune_module.Options(dot.stages[0], dot, program, settings_for().target)
    schedule = replace(options.default.schedule, packs=())
    copied = replace(options.default, copies=(Copy(0, ("1", "0")),), schedule=schedule)
    bench = Bench(program, replace(settings_for(), tuned={}))
    name = bench.identities["k0_dot"]
    base, with_copy = bench([{}, {name: Choice((copied,))}], 2)
    assert len(with_copy.kernels[name]) == len(with_copy.total) == 2
    assert sum(k[0] for k in with_copy.kernels.values()) == pytest.approx(with_copy.total[0])
    assert sum(k[0] for k in base.kernels.values()) == pytest.approx(base.total[0])


def test_jit_tunes_where_it_is_asked_to(own_cache):
    with knobs.use(tune_budget=0.01):
        tuned = jtc.jit(layer, tune=True)
        np.testing.assert_allclose(np.asarray(tuned(X, W)), np.asarray(layer(X, W)), rtol=1e-5)
        assert store.stored(settings_for().target).tuned
    with pytest.raises(UsageError, match="tune_budget"):
        jtc.jit(layer, tune_budget=0)


def test_strict_tunes_only_what_keeps_the_order_of_sums(own_cache):
    with knobs.use(strict=True):
        tune_layer(measure=made_up(lambda choice: True))
        strict = load_module(compile_graph(jtc.jit(layer).graph(X, W)))
        assert "tuned" in str(strict.plan.report)
        with knobs.use(schedules="default"):
            plain = load_module(compile_graph(jtc.jit(layer).graph(X, W)))
        assert strict(X, W).tobytes() == plain(X, W).tobytes()
    assert "tuned" not in str(explain_graph(jtc.jit(layer).graph(X, W)))        # strict or not: each its own


# ---------------------------------------------------------------------------------------------------------- files
def test_export_and_import(own_cache, tmp_path):
    tune_layer(measure=made_up(lambda choice: True))
    file = tmp_path / "tuned.json"
    count = store.export(file)
    kept = dict(store.stored(settings_for().target).tuned)
    assert count == len(kept) > 0
    with knobs.use(cache_dir=tmp_path / "other"):
        assert not store.stored(settings_for().target)
        assert store.take_in(file, settings_for().target) == (count, count)
        assert store.stored(settings_for().target).tuned == kept
        assert "tuned, x2.00" in str(explain_graph(jtc.jit(layer).graph(X, W)))
    data = json.loads(file.read_text())
    data["machines"][0]["parts"]["processor"] = "another one"
    file.write_text(json.dumps(data))
    with knobs.use(cache_dir=tmp_path / "third"):
        assert store.take_in(file, settings_for().target) == (count, 0)         # kept, but not for this processor
        assert not store.stored(settings_for().target)


@pytest.mark.parametrize("text, message", [
    ("{", "damaged"), ("[]", "not a file of tuned schedules"), ('{"format": "jtc-schedules"}', "damaged"),
    ('{"format": "jtc-schedules", "version": 9}', "format 9"),
    ('{"format": "jtc-schedules", "version": 1, "machines": [{"parts": {}, "kernels": {"a": {}}}]}', "damaged"),
])
def test_files_that_are_none(own_cache, tmp_path, text, message):
    file = tmp_path / "tuned.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        store.take_in(file, settings_for().target)


def test_two_processes_add_to_one_entry(own_cache):
    target = settings_for().target
    first, second = store.stored(target), store.stored(target)
    assert not first.tuned and not second.tuned                     # both have read the empty entry
    first.keep({"a": store.Tuned("k", "f", 3)})
    second.keep({"b": store.Tuned("k", "f", 3, Choice((candidate(1),), 1.5))})
    assert set(store.stored(target).tuned) == {"a", "b"} and list(store.stored(target)) == ["b"]
    assert store.stored(target)["b"] == Choice((candidate(1),), 1.5)


def test_what_cannot_be_kept_is_not_measured(own_cache):
    for mode in ("off", "readonly"):
        with knobs.use(cache=mode), pytest.raises(UsageError, match=f"is {mode}: tuned schedules cannot be kept"):
            tune_layer()


# ---------------------------------------------------------------------------------------------------------- command
def test_command(own_cache, call):
    jtc.export(layer, (X, W), "layer.jtc")
    code, out, err = call("tune", "layer.jtc", "--budget", "0.01", "--threads", "1")
    assert code == 0 and "faster than by default" in out and "k0_dot" in out, err
    code, out, _ = call("tune", "layer.jtc", "--budget", "0.01", "--threads", "1")
    assert code == 0 and "as found before" in out
    code, out, _ = call("tune", "--export", "tuned.json")
    assert (code, out) == (0, "tuned.json: 2 kernels\n")
    code, out, _ = call("tune", "--import", "tuned.json", "--threads", "1")
    assert code == 0 and out.startswith("took in 2 kernels, 2 of them for this machine")
    code, out, _ = call("cache", "verify")
    assert code == 0 and "0 damaged" in out


@pytest.mark.parametrize("arguments, code, message", [
    ((), 2, "one of MODEL, --export FILE, --import FILE"),
    (("layer.jtc", "--export", "x"), 2, "one of MODEL"),
    (("missing.jtc",), 1, "no such file"),
    (("missing.jtc", "--budget", "0"), 2, "--budget 0: more than 0"),
    (("--import", "missing.json"), 1, "cannot read missing.json"),
    (("--export", "no/where.json"), 0, ""),
])
def test_wrong_commands(call, arguments, code, message):
    found, _, err = call("tune", *arguments)
    assert found == code and message in err
