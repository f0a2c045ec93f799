"""`graph-fuse`: from a graph of meta-ops to kernels."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jtc.dialects.errors import UsageError
from jtc.dialects.graph import DYNAMIC, Graph, Node, is_splat
from jtc.dialects.kernel import Program
from jtc.passes.base import Pass, PassError, need_graph
from jtc.passes.graph.fusion.assemble import assemble
from jtc.passes.graph.fusion.build import Built, build
from jtc.passes.graph.fusion.chain import CHAINS
from jtc.passes.graph.fusion.layout import LAYOUTS
from jtc.passes.graph.fusion.plan import Plan, is_source, make_plan
from jtc.passes.graph.fusion.values import Cut
from jtc.passes.graph.graph_expand import DEFINITIONS
from jtc.passes.graph.rewriting import rebuild

FUSION = ("full", "elementwise", "none")


@dataclass(frozen=True)
class GraphFuse(Pass):
    """Decide which values get a buffer, make a stage of each, and group stages that share outer axes into kernels.

    fusion  full; elementwise: stages are not grouped, so every reduction ends a kernel; none: every operation is a
            kernel of its own; where data only moves it is read in place, a sum of outer products is one operation
    chains  two products with what reduces the rows of the first between them, as attention, are one kernel: online, as
            blocks of columns come by, with running maxima and sums; rows: whole rows at a time, which leaves the
            arithmetic as it is; off: kernels of their own.  Only with full fusion
    carry   a product that replaces state, and one that reads the new value, are one kernel where that is possible: the
            update of a weight and the next step.  Only with full fusion
    layout  in which order the dimensions of values between kernels lie in memory: auto, by what all stages that read
            and write them cost; off, as they are written; or the number of the dimension that is innermost in all
    strict  keep the arithmetic as written: rows in place of online, layout off
    Assumes a graph without composite ops (graph-expand) and without unknown dimensions.  Kernels come in launch order;
    `Kernel.reasons` says why each ends where it does.
    """

    name: ClassVar[str] = "graph-fuse"
    fusion: str = "full"
    chains: str = "online"
    carry: bool = False
    layout: str = "auto"
    strict: bool = False

    def run(self, module: Graph | Program) -> Program:
        graph = need_graph(module, self.name)
        if self.fusion not in FUSION:
            raise UsageError(f"{self.name}: fusion={self.fusion!r} is not one of {', '.join(FUSION)}")
        if self.chains not in CHAINS:
            raise UsageError(f"{self.name}: chains={self.chains!r} is not one of {', '.join(CHAINS)}")
        if self.layout not in LAYOUTS:
            raise UsageError(f"{self.name}: layout={self.layout!r} is not one of {', '.join(LAYOUTS)}")
        for node in graph.nodes():
            if DYNAMIC in node.shape:
                raise PassError(f"{self.name} needs known dimensions, got {node.type}", node.loc,
                                hint="trace the function with arguments of fixed shapes")
            if node.op in DEFINITIONS:
                raise PassError(f"{self.name} does not know {node.op}", node.loc, hint="run graph-expand first")
        # Equal nodes have been shared by now, so copies that shall not be need no mark any more.
        graph = rebuild(graph, lambda node: node.args[0] if node.op == "recompute" else node)
        outputs = copies(graph.outputs)
        plan, built, names = build_all(graph, outputs, self.fusion == "none")
        chains = "rows" if self.strict and self.chains == "online" else self.chains
        return assemble(graph, outputs, plan, built, names, self.fusion == "full", chains, self.carry,
                        "off" if self.strict else self.layout)


def copies(outputs: list[Node]) -> list[Node]:
    """The outputs, those that need a copy (inputs, constants, an output given twice) behind an identity."""
    result: list[Node] = []
    for node in outputs:
        if is_source(node) or is_splat(node) or node in result:
            node = Node("transpose", (node,), {"perm": tuple(range(node.type.rank))}, node.type, node.loc)
        result.append(node)
    return result


def build_all(graph: Graph, outputs: list[Node], apart: bool = False) -> tuple[Plan, dict[int, Built], dict[int, str]]:
    """The plan, the stages of every value with a buffer (by id), and the buffers' names (by id).

    A stage that cannot be built asks for one more buffer; the plan is made anew with those of all, until all can.
    """
    forced: dict[int, str] = {}
    cache: dict[int, Built] = {}
    while True:
        plan = make_plan(graph, outputs, forced, apart)
        names, kept = buffer_names(plan, outputs), plan.kept()
        built: dict[int, Built] = {}
        cuts: dict[int, str] = {}
        for root in plan.roots():
            held = cache.get(id(root))
            if held is None or held.interior & (kept - {id(root)}) or not held.boundary <= kept:
                # not built yet, or under a plan in which other values had buffers
                try:
                    held = build(root, names)
                except Cut as cut:
                    if id(cut.node) in forced:
                        raise AssertionError(f"{cut.node} has a buffer and was cut again: {cut.reason}") from cut
                    cuts.setdefault(id(cut.node), cut.reason)
                    continue
            cache[id(root)] = built[id(root)] = held
        if not cuts:
            return plan, built, names
        forced |= cuts


def buffer_names(plan: Plan, outputs: list[Node]) -> dict[int, str]:
    """id of a value with a buffer -> the buffer's name: the user's for inputs, out0... for outputs, else t0..."""
    graph, taken = plan.graph, set()
    names: dict[int, str] = {}

    def claim(node: Node, wanted: str) -> None:
        name, count = wanted, 1
        while name in taken:
            name, count = f"{wanted}_{count}", count + 1
        taken.add(name)
        names[id(node)] = name

    for i, node in enumerate(graph.inputs):
        claim(node, graph.input_names[i] if graph.input_names else f"arg{i}")
    for i, node in enumerate(outputs):
        claim(node, graph.output_names[i] if graph.output_names else f"out{i}")
    weights: dict[str, str] = {}
    for node in plan.order:
        if is_source(node) and id(node) not in names:
            value = node.attrs["value"]
            if value.name in weights:
                names[id(node)] = weights[value.name]
            else:
                claim(node, value.name)
                weights[value.name] = names[id(node)]
    for position, node in enumerate(plan.order):        # by position: one value keeps its name from plan to plan
        if id(node) in plan.reasons and id(node) not in names:
            claim(node, f"t{position}")
    return names
