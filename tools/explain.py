"""jtc explain: the kernels of a model, the user's lines in each, schedules, work, and why neighbours were not fused."""
from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from jtc.dialects.errors import InputError, near

if TYPE_CHECKING:
    from jtc.compiler.explain import Report


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """examples:
  jtc explain model.jtc                    every kernel of a saved graph
  jtc explain model.so --kernel softmax    some kernels of a compiled module
In Python, jtc.explain(f, *args) says the same of a function."""
    parser.add_argument("model", help="saved graph (.jtc), IR (.mlir), or compiled module (.so)")
    parser.add_argument("--target", default="cpu", help="as for `jtc compile`; a module tells its own")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--kernel", metavar="NAME", help="only kernels whose name contains this")


def run(arguments: argparse.Namespace) -> int:
    report = make(arguments.model, arguments.target)
    if arguments.kernel:
        names = [k.name for k in report.kernels]
        report.kernels = [k for k in report.kernels if arguments.kernel in k.name]
        if not report.kernels:
            raise InputError(f"no kernel of {arguments.model} has a name with {arguments.kernel!r} in it",
                             hint=near(arguments.kernel, names))
    print(json.dumps(report.to_json(), indent=1) if arguments.json else report)
    return 0


def make(model: str, target: str) -> Report:
    """The report of a file."""
    from jtc.compiler import explain
    from jtc.tools.models import is_module, open_source
    if is_module(model):
        from jtc.runtime.elf import SharedObject
        from jtc.runtime.module import plan_of
        return explain.explain_plan(plan_of(SharedObject(model)))
    from jtc.compiler.driver import settings_for
    from jtc.compiler.phases import advance
    source = open_source(model)
    return explain.report_of(advance(source.value, source.phase, "schedule", settings_for(target)))
