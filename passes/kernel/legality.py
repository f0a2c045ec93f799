"""What is legal.  The one place that says which schedules a stage can run under.

`violations` lists every rule that a schedule breaks; `check` raises PassError with the whole list.  The rules:

* the vector axis is parallel and has a loop, or it is the innermost, unblocked axis of an associative reduction
* the step of a loop divides the step of the enclosing loop over the same axis; axes are named once with each step
* `reduction` names every reduction axis once
* a tree needs an associative reduction, and on the vector axis blocks of whole vectors
* a loop over a reduction axis needs an associative reduction; a thread loop may not run over a reduction
* shared axes with block 1 are constant inside the kernel: they take no loop, no lanes
* a pack copies exactly the axes of its read, whole or as tile number and place, and every guard lies on axes it copies
* a prefetch is of a read in panels along the vector axis, packed in a loop or ahead
* what is fetched for another stage lies along the vector axis as it is walked there (fetching.py)
* digits of an axis ("v//T") need a register tile that divides T
* pairs of a reduction axis are multiplied where the stage is a plain contraction of two tensors of one 16-bit type that
  some processor of the target's family multiplies so, summed in float32; in the vector operand's panels, and next to
  each other in the other operand; the reduction is cut between pairs only
* accumulators, and the code of one register tile, stay within bounds
* `keep` is written once per point and not read back under another index by the same stage
* the axis of a scan runs in order, inside the register tile: no loops along it, and lanes only where each step combines
  one more term with an associative function
* a scatter (`accumulate`) is vectorised only over an axis whose points write different elements, and reordered only
  when its function is commutative
* a reduction with `before` or `rescale` meets what earlier blocks have left once: it has no loops of its own
* local buffers fit the workspace
"""
from __future__ import annotations

from collections.abc import Container, Iterator
from math import prod

from jtc.dialects.affine import split_term
from jtc.dialects.dtypes import BOOL, F32
from jtc.dialects.expr import Expr, walk
from jtc.dialects.kernel import PAIR, Access, Kernel, Pack, Program, Schedule, Stage
from jtc.dialects.optable import REDUCTIONS, SCALAR_FUNCTIONS
from jtc.dialects.target import CpuTarget
from jtc.passes.base import PassError
from jtc.passes.kernel import fetching
from jtc.passes.kernel.matrix_blocks import blocks_of

MAX_TILE_CODE = 12_000        # vector instructions in one register tile; a kernel holds a few variants of it (tails)
MAX_WORKSPACE = 256 << 20     # bytes of local buffers in one kernel


def check(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget) -> None:
    """Raise PassError naming everything that the stage's schedule breaks.  A stage without a schedule is legal."""
    found = violations(stage, kernel, program, target)
    if found:
        raise PassError(f"schedule of {kernel.name}/{stage.name} is not legal: {'; '.join(found)}",
                        location=stage.locs[0] if stage.locs else None)


def is_legal(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget) -> bool:
    return not violations(stage, kernel, program, target)


def violations(stage: Stage, kernel: Kernel, program: Program, target: CpuTarget) -> list[str]:
    """Every broken rule, as one short sentence each."""
    schedule = stage.schedule
    if schedule is None:
        return []
    unknown = [f"no axis {a!r}" for a in _named(schedule) if a not in stage.sizes]
    if schedule.lanes < 1:
        unknown.append(f"{schedule.lanes} lanes: not a power of two")
    if unknown:
        return unknown          # the other rules look sizes up, and divide by the lanes
    return [*_vector(stage, kernel, schedule), *_loops(stage, kernel, schedule), *_reduction(stage, schedule),
            *_tree(stage, schedule), *_packs(stage, schedule), *_prefetch(stage, schedule),
            *_fetches(stage, kernel, schedule), *_dot(stage, kernel, schedule, target),
            *_matrix(stage, kernel, schedule, target),
            *_digits(stage, kernel, schedule), *_bounds(stage, kernel, schedule, target),
            *_keep(stage), *_scan(stage, schedule), *_scatter(stage, schedule), *_locals(kernel)]


def register_tile(stage: Stage, schedule: Schedule) -> dict[str, int]:
    """Parallel axis -> its extent in the register tile (1 where it has no loop)."""
    tile = {axis: 1 for axis in stage.parallel}
    tile.update((axis, step) for axis, step in schedule.loops if axis in tile)
    return tile


def panel_widths(stage: Stage, schedule: Schedule) -> dict[str, int]:
    """Axis that packs may cut into panels -> how wide these are: register tiles, and pairs that are multiplied."""
    return register_tile(stage, schedule) | ({schedule.dot: PAIR} if schedule.dot else {})


def in_pairs(order: tuple[str, ...], axis: str) -> tuple[str, ...]:
    """The order of panels with the steps of `axis` in pairs, whose places are innermost; others as they are."""
    if axis not in order or not any(item.endswith("%") for item in order):
        return order
    return (*(axis + "//" if item == axis else item for item in order), axis + "%")


def extents(stage: Stage, kernel: Kernel) -> dict[str, int]:
    """Axis -> how many of its points one run of the stage covers: a shared axis gives its block."""
    blocks = {axis.name: min(block, axis.size) for axis, block in kernel.shared}
    return {a.name: blocks.get(a.name, a.size) for a in stage.axes}


def accumulators(stage: Stage, schedule: Schedule, reach: dict[str, int]) -> int:
    """Vector registers that hold partial results of one register tile."""
    tile = register_tile(stage, schedule)
    points = prod(min(step, reach[axis]) for axis, step in tile.items() if axis != schedule.vector)
    if schedule.vector in tile:
        return points * -(-min(tile[schedule.vector], reach[schedule.vector]) // schedule.lanes)
    return points * (dict(schedule.unroll).get(schedule.vector, 1) if schedule.vector else 1)


def injective(access: Access, axis: str) -> bool:
    """Whether different values of `axis` surely address different elements, whatever the other axes are."""
    gathered = {dim for dim, _ in access.gather}
    return any(form.axes == {axis} and set(form.terms) == {axis} and dim not in gathered
               for dim, form in enumerate(access.index))


def _named(schedule: Schedule) -> list[str]:
    names = [schedule.vector] if schedule.vector else []
    names += [a for a, _ in schedule.loops] + list(schedule.reduction) + [a for a, _ in schedule.unroll]
    names += [a for a, _ in schedule.tree] + ([schedule.dot] if schedule.dot else [])
    names += [item.rstrip("/%") for pack in schedule.packs for item in pack.order] + list(schedule.split)
    return list(dict.fromkeys(names))


def _associative(stage: Stage) -> bool:
    return stage.reduce in REDUCTIONS and "associative" in SCALAR_FUNCTIONS[REDUCTIONS[stage.reduce].fn].facts


def _vector(stage: Stage, kernel: Kernel, schedule: Schedule) -> Iterator[str]:
    vector, lanes = schedule.vector, schedule.lanes
    if lanes & (lanes - 1):
        yield f"{lanes} lanes: not a power of two"
    if not vector:
        if lanes != 1:
            yield f"{lanes} lanes without a vector axis"
        return
    blocked = {a for a, _ in schedule.loops}
    if any(axis.name == vector and block == 1 for axis, block in kernel.shared):
        yield f"vector axis {vector} is shared by the stages and has one value in each of them"
    elif vector in stage.parallel:
        if vector not in blocked:
            yield f"vector axis {vector} needs a loop that gives its register tile"
    elif not _associative(stage) or stage.accumulate:
        yield f"vector axis {vector} is a reduction axis of {stage.reduce}, which may not be reordered here"
    elif vector in blocked:
        yield f"vector axis {vector} is a reduction axis with a loop; it must be unblocked"
    elif not schedule.reduction or schedule.reduction[-1] != vector:
        yield f"vector axis {vector} must be the innermost reduction axis, the order is {', '.join(schedule.reduction)}"


def _loops(stage: Stage, kernel: Kernel, schedule: Schedule) -> Iterator[str]:
    last: dict[str, int] = {}
    single = {axis.name for axis, block in kernel.shared if block == 1}
    blocks = {axis.name: block for axis, block in kernel.shared}
    for axis, step in schedule.loops:
        if step < 1:
            yield f"step {step} of {axis} is not positive"
            continue
        if axis in single:
            yield f"loop over the shared axis {axis}: it is outside the stage"
        elif axis in blocks and step > blocks[axis]:
            yield f"step {step} of {axis} exceeds its block of {blocks[axis]}"
        if axis in last and (step >= last[axis] or last[axis] % step):
            yield f"step {step} of {axis} does not divide the step {last[axis]} of the loop around it"
        last[axis] = step
    reductions = set(stage.reductions)
    blocked = [a for a, _ in schedule.loops if a in reductions]
    if blocked and (stage.before is not None or stage.rescale is not None):
        yield f"loop over the reduction axis {blocked[0]}: what earlier blocks have left is to be met once"
    if blocked and not stage.accumulate and not _associative(stage):
        yield f"loop over the reduction axis {blocked[0]}: {stage.reduce} is not associative"
    loose = [a for a in stage.parallel if a not in last and a not in blocks]
    outer = [*loose, *(a for a, _ in schedule.loops)]
    if not 0 <= schedule.threads <= len(outer):
        yield f"threads over {schedule.threads} loops, the stage has {len(outer)}"
    for axis in outer[:max(schedule.threads, 0)]:
        if axis in reductions:
            yield f"threads over the reduction axis {axis}"
        elif stage.accumulate and not injective(stage.write, axis):
            yield f"threads over {axis}: two of them may write the same element"
    for axis in schedule.split:
        if axis not in last and axis not in loose:
            yield f"split of {axis}, which has no loop"


def _reduction(stage: Stage, schedule: Schedule) -> Iterator[str]:
    if sorted(schedule.reduction) != sorted(stage.reductions):
        yield (f"the reduction order ({', '.join(schedule.reduction)}) must name every reduction axis once: "
               f"({', '.join(stage.reductions)})")
    for axis, factor in schedule.unroll:
        if axis not in stage.reductions:
            yield f"unroll of {axis}, which is not a reduction axis"
        if factor < 1:
            yield f"unroll factor {factor} of {axis} is not positive"
    if len(dict(schedule.unroll)) != len(schedule.unroll):
        yield "an axis is unrolled twice"


def _tree(stage: Stage, schedule: Schedule) -> Iterator[str]:
    for axis, steps in schedule.tree:
        if axis not in stage.reductions:
            yield f"tree over {axis}, which is not a reduction axis"
        elif stage.accumulate or stage.scan or not _associative(stage):
            yield f"tree over {axis}: its terms must meet in their order"
        if steps < 1:
            yield f"tree over {axis} in blocks of {steps}"
        elif axis == schedule.vector and steps % schedule.lanes:
            yield f"tree over {axis} in blocks of {steps}, which are no whole vectors of {schedule.lanes}"
    if len(dict(schedule.tree)) != len(schedule.tree):
        yield "an axis has two trees"


def _packs(stage: Stage, schedule: Schedule) -> Iterator[str]:
    seen: set[int] = set()
    for pack in schedule.packs:
        if not 0 <= pack.read < len(stage.reads):
            yield f"pack of read {pack.read}, the stage has {len(stage.reads)}"
            continue
        if pack.read in seen:
            yield f"read %{pack.read} is packed twice"
        seen.add(pack.read)
        yield from _one_pack(stage, schedule, pack)


def _one_pack(stage: Stage, schedule: Schedule, pack: Pack) -> Iterator[str]:
    read, name = stage.reads[pack.read], f"pack of %{pack.read}"
    if pack.inside not in schedule.loops:
        yield f"{name}: there is no loop {pack.inside[0]} step {pack.inside[1]}"
    if read.gather:
        yield f"{name}: its address depends on data"
    if any(split_term(t)[1] for form in read.index for t in form.terms):
        yield f"{name}: it is packed already"
    if pack.pad < 0:
        yield f"{name}: pad {pack.pad} is negative"
    addressed = read.flat.axes
    if {item.rstrip("/%") for item in pack.order} != addressed:
        yield f"{name} must list exactly its axes {', '.join(sorted(addressed))}, not {', '.join(pack.order)}"
    yield from panel_order(name, pack.order, panel_widths(stage, schedule))
    for guard in read.guards:
        missing = guard.index.axes - addressed
        if missing:
            yield f"{name}: the guard {guard} lies on {', '.join(sorted(missing))}, which the copy does not hold"
    if pack.inside in schedule.loops and read.buffer in stage_writes(stage):
        yield f"{name}: the stage writes {read.buffer} while it is copied"


def panel_order(name: str, order: tuple[str, ...], widths: Container[str]) -> Iterator[str]:
    """Rules on a pack's order: a tile number needs its place further in, on an axis that has panels (`panel_widths`);
    nothing twice."""
    if len(set(order)) != len(order):
        yield f"{name}: {', '.join(order)} names an axis twice"
    for position, item in enumerate(order):
        axis = item.rstrip("/%")
        if item.endswith("//"):
            if axis + "%" not in order[position + 1:]:
                yield f"{name}: {item} needs a later {axis}%"
            if axis not in widths:
                yield f"{name}: panels along {axis}, which is a reduction axis"
        elif item.endswith("%") and axis + "//" not in order[:position]:
            yield f"{name}: {item} needs an earlier {axis}//"
        elif item == axis and (axis + "%" in order or axis + "//" in order):
            yield f"{name}: {axis} occurs whole and in tiles"


def _prefetch(stage: Stage, schedule: Schedule) -> Iterator[str]:
    panels = {pack.read for pack in schedule.packs if schedule.vector + "//" in pack.order}
    for number in schedule.prefetch:
        if not 0 <= number < len(stage.reads):
            yield f"prefetch of read {number}, the stage has {len(stage.reads)}"
        elif not schedule.vector:
            yield f"prefetch of %{number} without a vector axis"
        elif number not in panels and not any(
                split_term(t)[:2] == (schedule.vector, "//") for t in stage.reads[number].flat.terms):
            yield f"prefetch of %{number}, which is not packed in panels along the vector axis {schedule.vector}"


def _fetches(stage: Stage, kernel: Kernel, schedule: Schedule) -> Iterator[str]:
    for fetch in schedule.fetches:
        reason = fetching.refusal(fetch, stage, kernel)
        if reason is not None:
            yield f"fetch of {fetch}: {reason}"


def _dot(stage: Stage, kernel: Kernel, schedule: Schedule, target: CpuTarget) -> Iterator[str]:
    axis, name = schedule.dot, f"pairs of {schedule.dot}"
    if not axis:
        return
    factors = stage.factors()
    if axis not in stage.reductions:
        yield f"{name}, which is not a reduction axis"
    elif not schedule.reduction or schedule.reduction[-1] != axis:
        yield f"{name}, which must be the innermost reduction axis, the order is {', '.join(schedule.reduction)}"
    blocks = [*schedule.loops, *((a.name, block) for a, block in kernel.shared if block < a.size)]
    if any(a == axis and step % PAIR for a, step in blocks):
        yield f"{name}, in blocks that cut one"
    if axis in dict(schedule.tree):
        yield f"{name}, whose blocks meet in a tree"
    if factors is None or stage.scan or stage.keep is not None or stage.body.dtype is not F32:
        yield f"{name}: the stage is not a sum of products of two reads in float32"
        return
    types = {stage.reads[i].dtype for i in factors}
    dot = target.family.dots.get(next(iter(types)).name) if len(types) == 1 else None
    if dot is None:
        yield f"{name} of {' and '.join(sorted(t.public for t in types))}: {target.family} has no instruction for it"
    elif schedule.lanes not in dot.intrinsics:
        yield f"{name} in {schedule.lanes} lanes; there are instructions for {', '.join(map(str, dot.intrinsics))}"
    tile = register_tile(stage, schedule)
    holders = [i for i in factors if schedule.vector in stage.reads[i].axes]
    if schedule.vector not in tile or len(holders) != 1:
        yield f"{name}: the lanes must lie along an axis that one of the two operands has"
        return
    if tile[schedule.vector] % schedule.lanes:
        yield f"{name}: the register tile of {schedule.vector} must be whole vectors"
    packs = {pack.read: pack for pack in schedule.packs}
    for number in factors:
        read, pack = stage.reads[number], packs.get(number)
        if read.gather or pack is None and read.guards:
            yield f"{name}: where %{number} lies depends on more than axes; pack it"
        if read.fill:
            yield f"{name}: %{number} is {read.fill} where it has no elements, which would count"
        if not _side_by_side(read, pack, axis, schedule.vector if number in holders else ""):
            panels = f", in panels as {schedule.vector}% {axis}%" if number in holders else ""
            yield f"{name}: those of %{number} must lie next to each other{panels}"


def _matrix(stage: Stage, kernel: Kernel, schedule: Schedule, target: CpuTarget) -> Iterator[str]:
    name, factors, tile = "blocks of a matrix unit", stage.factors(), register_tile(stage, schedule)
    if not schedule.matrix:
        return
    if not schedule.dot or factors is None or schedule.vector not in tile:
        yield f"{name}, where no pairs are multiplied"
        return
    unit = target.family.matrices.get(stage.reads[factors[0]].dtype.name)
    if unit is None:
        yield f"{name}: {target.family} has no unit for {stage.reads[factors[0]].dtype.public}"
        return
    if schedule.lanes != unit.columns:
        yield f"{name} of {unit.columns} lanes, not {schedule.lanes}"
    steps, reach = unit.pairs * PAIR, extents(stage, kernel)
    taken = list(dict.fromkeys([stage.sizes[schedule.dot], reach[schedule.dot], *(
        step for a, step in schedule.loops if a == schedule.dot)]))
    if any(n % steps for n in taken):
        yield f"{name}: {steps} steps of {schedule.dot} are multiplied at a time, not {' or '.join(map(str, taken))}"
    blocks = blocks_of(stage, schedule, {a: min(n, reach[a]) for a, n in tile.items()}, unit.rows,
                       [axis.name for axis, _ in kernel.shared])
    if blocks.count + blocks.vectors >= unit.registers:
        yield (f"{name}: {blocks.count} of results and {blocks.vectors} of an operand leave no register "
               f"of {unit.registers} for the other one")
    narrow = next((i for i in factors if schedule.vector not in stage.reads[i].axes), factors[0])
    pack = next((p for p in schedule.packs if p.read == narrow), None)
    if pack is not None:
        straight = pack.order[-1:] == (schedule.dot,) and not {f"{blocks.axis}%", f"{blocks.axis}//"} & {*pack.order}
    else:
        flat = stage.reads[narrow].flat
        straight = flat[schedule.dot] == 1 and not any(
            split_term(t)[1] and split_term(t)[0] in (schedule.dot, blocks.axis) for t in flat.terms)
    if not straight:
        yield f"{name}: rows of %{narrow} must be steps of {schedule.dot} next to each other"


def _side_by_side(read: Access, pack: Pack | None, axis: str, vector: str) -> bool:
    """Whether the elements of a pair are neighbours, and where there is a vector axis, pairs along it as well."""
    if pack is not None:
        if vector:
            return pack.order[-2:] == (vector + "%", axis + "%") and not pack.pad
        return pack.order[-1:] in ((axis,), (axis + "%",))
    flat = read.flat
    if vector:
        along = [c for t, c in flat.terms.items() if split_term(t)[:2] == (vector, "%")]
        return flat[f"{axis}%{PAIR}"] == 1 and along == [PAIR]
    return flat[axis] == 1 or flat[f"{axis}%{PAIR}"] == 1


def _digits(stage: Stage, kernel: Kernel, schedule: Schedule) -> Iterator[str]:
    tile = panel_widths(stage, schedule)
    reach = extents(stage, kernel)
    for number, read in enumerate(stage.reads):
        for term in dict.fromkeys(t for form in read.index for t in form.terms):
            axis, digit, size = split_term(term)
            if not digit:
                continue
            if axis not in tile:
                yield f"%{number} is packed by {term}, but {axis} is a reduction axis"
            elif axis == schedule.dot:
                if size != PAIR:
                    yield f"%{number} is packed by {term}, but {axis} is multiplied in pairs"
            elif size % tile[axis] and tile[axis] < reach[axis]:
                yield f"%{number} is packed by {term}: the register tile {tile[axis]} of {axis} does not divide {size}"
            elif reach[axis] < stage.sizes[axis] and reach[axis] % size:
                yield (f"%{number} is packed by {term}: the shared block {reach[axis]} of {axis} is no multiple "
                       f"of {size}")
            elif tile[axis] >= reach[axis] > size:
                yield f"%{number} is packed by {term}: the register tile {tile[axis]} of {axis} spans several panels"


def _bounds(stage: Stage, kernel: Kernel, schedule: Schedule, target: CpuTarget) -> Iterator[str]:
    reach = extents(stage, kernel)
    count = accumulators(stage, schedule, reach)
    if stage.reduce and not stage.accumulate and not schedule.matrix and count > target.registers - 2:
        yield f"{count} accumulators do not fit {target.registers} vector registers"
    code = tile_code(stage, schedule, reach)
    if code > MAX_TILE_CODE:
        yield f"one register tile would take about {code} instructions (at most {MAX_TILE_CODE})"


def tile_code(stage: Stage, schedule: Schedule, reach: dict[str, int]) -> int:
    """Estimate of the vector instructions in one register tile."""
    unrolled = prod(min(factor, reach[axis]) for axis, factor in schedule.unroll if axis != schedule.vector)
    body = 0 if schedule.matrix else instructions(stage.body)       # one instruction for hundreds of them
    tail = sum(instructions(tail) for tail in stage.tails) or 1
    tile = register_tile(stage, schedule)
    scattered = schedule.vector in tile and stage.write.flat[schedule.vector] != 1 and not any(
        stage.write.flat[a] == 1 and step > 1 for a, step in tile.items() if a != schedule.vector)
    store = (schedule.lanes * 2 if scattered else 1) * (1 + len(stage.more))
    trees = prod(2 for axis, steps in schedule.tree if steps < reach[axis])     # a block, and what is left over
    return int(accumulators(stage, schedule, reach) * (unrolled * body * trees + tail + store))


def instructions(root: Expr) -> float:
    """Rough number of vector instructions of an expression: its functions' costs and one for each read."""
    return sum(SCALAR_FUNCTIONS[e.fn].cost if e.fn in SCALAR_FUNCTIONS else e.fn == "read" for e in walk(root)) or 1


def stage_writes(stage: Stage) -> set[str]:
    return {a.buffer for a in stage.writes}


def _keep(stage: Stage) -> Iterator[str]:
    keep = stage.keep
    if keep is None:
        return
    if stage.accumulate or not stage.reduce:
        yield "keep needs a reduction"
    if keep.buffer == stage.write.buffer:
        yield f"keep and the write share the buffer {keep.buffer}"
    for number, read in enumerate(stage.reads):
        if read.buffer == keep.buffer and read.flat != keep.flat:
            yield f"keep overwrites {keep.buffer} that %{number} reads at another place"


def _scan(stage: Stage, schedule: Schedule) -> Iterator[str]:
    if not stage.scan:
        return
    for axis in stage.reductions:
        if axis == schedule.vector and (stage.running_term() is None or stage.body.dtype is BOOL):
            yield f"vector axis {axis} is scanned, and its steps are no terms to combine"
        if axis in {a for a, _ in schedule.loops}:
            yield f"loop over {axis}, which is scanned inside the register tile"


def _scatter(stage: Stage, schedule: Schedule) -> Iterator[str]:
    if not stage.accumulate:
        return
    row = REDUCTIONS.get(stage.reduce or "")
    commutative = row is not None and "commutative" in SCALAR_FUNCTIONS[row.fn].facts
    if schedule.vector and not injective(stage.write, schedule.vector):
        yield f"vector axis {schedule.vector} of a scatter: two lanes may write the same element"
    if not commutative:
        order = [a.name for a in stage.axes]
        loose = [a for a in stage.parallel if a not in {b for b, _ in schedule.loops}]
        inner = [a for a in schedule.reduction if a not in {b for b, _ in schedule.loops}]
        run = [*loose, *dict.fromkeys(a for a, _ in schedule.loops), *inner]
        tiled = [a for a, step in schedule.loops if step > 1 and a != run[-1]]      # would run before what is inside
        if run != order or tiled or len(schedule.loops) != len({a for a, _ in schedule.loops}):
            yield f"the points of a scatter with {stage.reduce} must run in the order {', '.join(order)}"


def _locals(kernel: Kernel) -> Iterator[str]:
    total = sum(b.type.bytes for b in kernel.locals)
    if total > MAX_WORKSPACE:
        yield f"local buffers of {total} bytes exceed the workspace limit of {MAX_WORKSPACE}"
