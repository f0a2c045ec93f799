"""What docs/extending.md promises: a new row of a table is tested without a new test, a forgotten step is found."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from documents import ROOT
from op_cases import array, graph_of, meta_op_cases, scalar_function_cases

from jtc.compiler import pipeline
from jtc.compiler.cpu import machine
from jtc.compiler.phases import Settings
from jtc.dialects.dtypes import BF16, BOOL, DTYPES, F32, F64, I64
from jtc.dialects.optable import META_OPS, infer
from jtc.dialects.reference import run_graph, run_program
from jtc.passes.base import registry

LIT = ROOT / "tests" / "lit"


@pytest.mark.parametrize("dtype", [F32, F64, I64, BOOL, BF16, DTYPES["ui8"]], ids=str)
def test_every_op_becomes_kernels(dtype):
    """All passes down to scheduled kernels keep the meaning of every op, in the reference interpreter."""
    settings = Settings(machine.named("x86-64-v4"))
    passes = [*pipeline.graph_passes(settings), *pipeline.kernel_passes(settings)]
    for op, args, attrs, declared in (*meta_op_cases(dtype), *scalar_function_cases(dtype)):
        if declared is None and args[0].shape != (5, 3):
            continue                                            # one shape is enough for what is elementwise
        graph = graph_of(op, args, attrs, infer(op, args, attrs, declared))
        inputs = [array(t, seed) for seed, t in enumerate(args)]
        program = pipeline.run(graph, passes, settings)
        for want, got in zip(run_graph(graph, inputs), run_program(program, inputs), strict=True):
            rtol, atol = (2.0 ** -6, 2.0 ** -6) if want.dtype == BF16.numpy else (1e-5, 0)
            got, want = (a.astype(np.float64) if atol else a for a in (got, want))
            np.testing.assert_allclose(got, want, rtol, atol, err_msg=f"{op} {attrs} of {args}")


def test_every_meta_op_has_lit_tests():
    valid = (LIT / "dialect" / "ops.mlir").read_text()
    assert [op for op in META_OPS if f'"jtc.{op}"' not in valid] == []
    assert [op for op in META_OPS if not (LIT / "dialect" / f"{op.replace('_', '-')}-invalid.mlir").exists()] == []


@pytest.mark.parametrize("name", registry())
def test_every_pass_has_a_module_and_a_lit_test(name):
    level = name.partition("-")[0]
    assert registry()[name].__module__ == f"jtc.passes.{level}.{name.replace('-', '_')}"
    assert f"--{name}" in (LIT / level / f"{name}.mlir").read_text()
    assert any("not jtc-opt" in file.read_text() for file in (LIT / level).glob(f"{name}*.mlir")), \
        "it has no case that it refuses"


@pytest.mark.parametrize("name", machine.NAMES)
def test_llvm_knows_every_processor(name):
    """LLVM only complains about a name or a feature that it does not know, or ends the process."""
    code = ("from jtc.compiler.cpu import lower, machine\n"
            f"lower.to_object('define void @f() {{\\n  ret void\\n}}\\n', machine.named({name!r}))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
