"""The tables in docs/ that come from tables in the code: phases, passes, ops, element types, knobs.

    python -m jtc.tools.tables docs/*.md      # write them anew

A document marks the place with `<!-- table: NAME -->` and `<!-- end -->` on lines of their own.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jtc.dialects.dtypes import DTYPES
from jtc.dialects.errors import UsageError
from jtc.dialects.optable import FACTS, META_OPS, REDUCTIONS, SCALAR_FUNCTIONS, ScalarFunction
from jtc.dialects.target import CpuTarget

if TYPE_CHECKING:
    from jtc.compiler.pipeline import Step

PLACE = re.compile(r"(?P<begin>^<!-- table: (?P<name>[\w -]+) -->\n).*?(?P<end>^<!-- end -->$)",
                   re.MULTILINE | re.DOTALL)
Rows = Iterable[Sequence[object]]


def table(titles: Sequence[str], rows: Rows) -> str:
    """A Markdown table; `|` in cells is escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines)


def phases() -> str:
    from jtc.compiler.phases import PHASES
    return table(("phase", "made from", "file", "devices", "what it is"),
                 ((f"`{p.name}`", f"`{p.source}`" if p.source else "", f"`{p.suffix}`", p.device, p.doc)
                  for p in PHASES.values()))


def road() -> str:
    from jtc.compiler.pipeline import GRAPH, KERNEL
    from jtc.passes.base import registry
    known = registry()
    return table(("pass", "what it does", "why there"), (
        (f"`{step.name}`", known[step.name].summary(), step.why + _where(step))
        for step in (*GRAPH, *KERNEL)))


def _where(step: Step) -> str:
    parts = [text for runs, text in ((step.strict, "with `strict`"), (step.quick, "for quick code")) if not runs]
    return f" (not {' nor '.join(parts)})" if parts else ""


def other_passes() -> str:
    from jtc.compiler.pipeline import GRAPH, KERNEL
    from jtc.passes.base import registry
    used = {step.name for step in (*GRAPH, *KERNEL)}
    return table(("pass", "what it does"), (
        (f"`{name}`", cls.summary()) for name, cls in sorted(registry().items()) if name not in used))


def _kinds(kinds: frozenset[str]) -> str:
    return "any" if len(kinds) == 4 else ", ".join(k for k in ("bool", "int", "uint", "float") if k in kinds)


def _arguments(row: ScalarFunction) -> str:
    special = {"where": "bool a; b, c: any", "philox": "int64 counter, key"}
    return special.get(row.arguments, f"{', '.join('ab'[:row.arity])}: {_kinds(row.kinds)}")


def scalar_functions() -> str:
    from jtc.frontend.elementwise import FUNCTIONS
    public: dict[str, list[str]] = {"pow": ["pow"], "where": ["where"]}
    for name, (fn, _) in FUNCTIONS.items():
        public.setdefault(fn, []).append(name)
    result = {"same": "", "bool": "bool", "i32": "int32"}
    return table(("op", "arguments", "result", "meaning", "facts", "in Python"), (
        (f"`jtc.{r.name}`", _arguments(r), result[r.result], r.doc, ", ".join(f for f in FACTS if f in r.facts),
         ", ".join(f"`jtc.{name}`" for name in public.get(r.name, ()))) for r in SCALAR_FUNCTIONS.values()))


def facts() -> str:
    return table(("fact", "meaning"), FACTS.items())


def reductions() -> str:
    return table(("name", "element types", "identity in float32", "in int32", "in bool"), (
        (f"`{fn}`", _kinds(r.kinds), *(r.identity(DTYPES[d]) if DTYPES[d].kind in r.kinds else ""
                                       for d in ("f32", "i32", "i1"))) for fn, r in REDUCTIONS.items()))


def meta_ops() -> str:
    from jtc.passes.graph.graph_expand import DEFINITIONS
    return table(("op", "tensors", "attributes", "meaning", "compiled"), (
        (f"`jtc.{op.name}`", op.arity if op.arity >= 0 else f"{-op.arity} or more",
         ", ".join(f"{name}: {kind}" for name, kind in op.attrs.items()), op.doc,
         "by definition" if op.name in DEFINITIONS else "by fusion") for op in META_OPS.values()))


def dtypes() -> str:
    return table(("in Python", "in the IR", "kind", "bits", "lanes of 512 bits", "computed in"), (
        (f"`jtc.{d.public}`", f"`{name}`", d.kind, d.bits, CpuTarget().lanes(d), "`f32`" if d.is_half else "")
        for name, d in DTYPES.items()))


def knobs() -> str:
    from jtc.runtime.knobs import KNOBS
    return table(("variable", "keyword", "values", "default", "meaning", "in the cache key"), (
        (f"`{k.env}`", f"`{k.name}`", k.allowed, "by the machine" if callable(k.default) else k.default, k.doc,
         "yes" if k.cache_key else "") for k in KNOBS.values()))


TABLES: dict[str, Callable[[], str]] = {
    "phases": phases, "road": road, "other passes": other_passes, "scalar functions": scalar_functions, "facts": facts,
    "reductions": reductions, "meta-ops": meta_ops, "element types": dtypes, "knobs": knobs,
}


def fill(text: str) -> str:
    """The document with its tables as the code has them.  Raises UsageError for a name that is none of TABLES."""
    def made(place: re.Match[str]) -> str:
        if place["name"] not in TABLES:
            raise UsageError(f"there is no table {place['name']!r}", hint=f"one of {', '.join(TABLES)}")
        return f"{place['begin']}{TABLES[place['name']]()}{place['end']}"
    return PLACE.sub(made, text)


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(fill(file.read_text()))
