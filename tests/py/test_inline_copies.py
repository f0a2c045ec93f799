"""Copies that compute: random makers of a buffer and copies of it, against the same program with both kernels."""
from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np

from jtc.compiler.verify import verify_program
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32, F64, I64
from jtc.dialects.expr import Expr, cast, const, expr, index, read
from jtc.dialects.graph import TensorType
from jtc.dialects.kernel import Access, Axis, Guard, Kernel, Program, Stage
from jtc.dialects.reference import run_program
from jtc.passes.kernel.kernel_inline_copies import KernelInlineCopies
from jtc.passes.kernel.kernel_merge_axes import merge_axes

CASES = 400


class RandomCopies:
    """A chain x, s -> t -> copies of t: makers with guards, fills, casts and index values; copies with paddings, flips,
    strides, tiles and repetitions; and sometimes a second reader, an output between, or a reduction."""

    def __init__(self, seed: int):
        self.random = Random(seed)
        self.shape = tuple(self.random.choice((1, 2, 3, 4, 6)) for _ in range(self.random.randint(1, 3)))
        self.buffers = {"x": TensorType(F64, self.shape), "s": TensorType(F64, self.shape[:1])}
        self.kernels: list[Kernel] = []
        self.outputs: list[str] = []

    def program(self) -> Program:
        last, shape = self.maker(), self.shape
        for number in range(self.random.choice((1, 1, 2))):
            if self.random.random() < 0.1:
                self.outputs.append(last)
            last, shape = self.copy(last, shape, f"c{number}")
        if self.random.random() < 0.15:
            self.outputs.append(self.copy("t", self.shape, "other")[0])
        self.outputs.append(last)
        return Program("f", ["x", "s"], list(dict.fromkeys(self.outputs)), self.buffers, self.kernels)

    def add(self, stage: Stage) -> str:
        name = stage.write.buffer
        self.buffers[name] = TensorType(F64, stage.write.shape)
        self.kernels.append(Kernel(f"k_{name}", (merge_axes(stage, set()),)))
        return name

    def maker(self) -> str:
        axes = tuple(Axis(f"i{d}", n) for d, n in enumerate(self.shape))
        place = tuple(Affine.axis(a.name) for a in axes)
        x = Access("x", F64, self.shape, place)
        if self.random.random() < 0.3:              # a shifted read, filled
            d = self.random.randrange(len(place))
            shifted = place[d] - 1
            x = replace(x, index=(*place[:d], shifted, *place[d + 1:]), guards=(Guard(shifted, self.shape[d]),),
                        fill=self.random.choice((0.0, 2.0)))
        a, b = read(0, F64), read(1, F64)
        body: Expr = self.random.choice((
            expr("mul", (a, b), F64), expr("add", (a, b), F64), expr("exp", (a,), F64), expr("neg", (a,), F64),
            expr("mul", (a, cast(index(place[-1], I64), F64)), F64), cast(cast(expr("sub", (a, b), F64), F32), F64),
            expr("div", (a, b), F64), expr("max", (a, const(0.5, F64)), F64)))
        stage = Stage("s0", axes, (x, Access("s", F64, self.shape[:1], place[:1])), body,
                      Access("t", F64, self.shape, place), ops=("made",))
        return self.add(stage)

    def copy(self, source: str, shape: tuple[int, ...], name: str) -> tuple[str, tuple[int, ...]]:
        axes: list[Axis] = []
        forms: list[Affine] = []
        for d, n in enumerate(shape):
            kind, axis = self.random.choice(("plain", "plain", "padded", "flipped", "tiled", "slice")), f"d{d}"
            if kind == "tiled":
                axes += [Axis(axis + "o", -(-n // 2)), Axis(axis + "i", 2)]
                forms.append(Affine({axis + "o": 2, axis + "i": 1}))
            else:
                low, step, size = {"plain": (0, 1, n), "padded": (-1, 1, n + 2), "flipped": (n - 1, -1, n),
                                   "slice": (0, 2, (n + 1) // 2)}[kind]
                axes.append(Axis(axis, size))
                forms.append(Affine({axis: step}, low))
        if self.random.random() < 0.15:
            axes.append(Axis("again", 2))
        self.random.shuffle(axes)
        sizes = {a.name: a.size for a in axes}
        guards = tuple(Guard(f, n) for f, n in zip(forms, shape) if f.range(sizes)[0] < 0 or f.range(sizes)[1] >= n)
        read_access = Access(source, F64, shape, tuple(forms), guards, self.random.choice((0.0, 0.0, 1.0, np.inf)))
        write = Access(name, F64, tuple(a.size for a in axes), tuple(Affine.axis(a.name) for a in axes))
        self.add(Stage("copy", tuple(axes), (read_access,), read(0, F64), write))
        return name, write.shape


def test_random_copies() -> None:
    """Bit-equal values, legal programs, no buffer that is written for nobody; most copies go."""
    inlined = kept = 0
    for seed in range(CASES):
        program = RandomCopies(seed).program()
        verify_program(program)
        rng = np.random.default_rng(seed)
        values = [rng.integers(-4, 5, program.buffers[n].shape) / 2 for n in program.inputs]
        after = KernelInlineCopies().run(program)
        verify_program(after)
        for want, got in zip(run_program(program, values), run_program(after, values), strict=True):
            np.testing.assert_array_equal(got.view(np.int64), want.view(np.int64), err_msg=f"seed {seed}")
        read_later = {a.buffer for k in after.kernels for s in k.stages for a in s.reads}
        assert set(after.buffers) == {*after.inputs, *after.outputs} | read_later
        inlined += len(program.kernels) - len(after.kernels)
        kept += len(after.kernels)
    assert inlined > 0.8 * CASES and kept > CASES
