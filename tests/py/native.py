"""Compiled modules made from C, for tests of the runtime without the compiler."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from jtc.dialects.dtypes import DTYPES
from jtc.runtime.plan import BufferPlan, ConstantPlan, LaunchPlan, Plan

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

HEAD = """
#include <cstdint>
#include <ctime>
typedef void* const* Operands;
#define KERNEL(name) extern "C" void name(Operands o, void* workspace, int64_t begin, int64_t end)
#define F(k) ((float*)o[k])
static bool wait_for(volatile int32_t* flag, int32_t value) {          // false after ten seconds
    for (time_t start = time(0); time(0) - start < 10;) if (*flag >= value) return true;
    return false;
}
"""


def buffer(name: str, shape: list[int], kind: str, place: int = 0, dtype: str = "f32") -> BufferPlan:
    size = DTYPES[dtype].bytes
    for n in shape:
        size *= n
    return BufferPlan(name, dtype, shape, size, kind, place)


def launch(symbol: str, operands: list[int], units: int = 1, wave: int = 0, workspace: int = 0,
           flops: int = 0) -> LaunchPlan:
    return LaunchPlan(symbol, symbol, operands, units, workspace, wave, flops, 0)


def plan(name: str, buffers: list[BufferPlan], launches: list[LaunchPlan], prepare: list[LaunchPlan] | None = None,
         constants: list[ConstantPlan] | None = None, **sizes: object) -> Plan:
    def numbers(kind: str) -> list[int]:
        return [i for i, b in sorted(enumerate(buffers), key=lambda item: item[1].place) if b.kind == kind]

    inputs, outputs = numbers("input"), numbers("output")
    return Plan(name, inputs, outputs, [buffers[i].name for i in inputs], [buffers[i].name for i in outputs], buffers,
                constants or [], prepare or [], launches, **sizes)                     # type: ignore[arg-type]


def shared_object(path: Path, source: str, plan: Plan | str, weights: bytes | None = None) -> Path:
    """Compile `source` and embed the plan and the weights as `jtc compile` does."""
    text = plan if isinstance(plan, str) else plan.to_json()
    code = HEAD + source + _blob("jtc_plan", text.encode())
    if weights is not None:
        code += _blob("jtc_weights", weights)
    file = path.with_suffix(".cpp")
    file.write_text(code)
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", path, file], check=True)
    return path


def _blob(symbol: str, data: bytes) -> str:
    values = ",".join(map(str, data)) or "0"
    return (f'extern "C" {{ extern const unsigned char {symbol}[]; extern const int64_t {symbol}_size; '
            f"alignas(64) const unsigned char {symbol}[] = {{{values}}}; "
            f"const int64_t {symbol}_size = {len(data)}; }}\n")
