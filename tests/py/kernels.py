"""Small kernels in MLIR and graphs for the tests of the compiler's outer parts."""
from __future__ import annotations

from jtc.compiler.phases import Code
from jtc.dialects.affine import Affine
from jtc.dialects.dtypes import F32
from jtc.dialects.expr import expr, read
from jtc.dialects.graph import Graph, Location, Node, TensorType, Weights
from jtc.dialects.kernel import REDUCTION, Access, Axis, Kernel, Program, Stage

LOOPS = """\
func.func @scale{n}(%x: memref<16xf32>, %y: memref<16xf32>, %workspace: memref<1xi8>, %begin: index, %end: index) {{
  %one = arith.constant 1 : index
  %factor = arith.constant {n}.0 : f32
  scf.for %i = %begin to %end step %one {{
    %a = memref.load %x[%i] : memref<16xf32>
    %b = arith.mulf %a, %factor : f32
    memref.store %b, %y[%i] : memref<16xf32>
  }}
  return
}}
"""


def scale(n: int) -> Code:
    """Loops of a kernel y = n * x over 16 floats."""
    return Code(f"scale{n}", 2, LOOPS.format(n=n))


def matmul(n: int = 20, m: int = 24, k: int = 12, name: str = "matmul", weights=None) -> Graph:
    """c[n, m] = a[n, k] @ b[k, m] from meta-ops; with `weights`, b is a constant with this array."""
    a = Node("input", [], {}, TensorType(F32, (n, k)))
    kind = TensorType(F32, (k, m))
    b = Node("input", [], {}, kind) if weights is None else Node("constant", [], {"value": Weights("b")}, kind,
                                                                 data=weights)
    i, j, r = (Affine.axis(f"d{d}") for d in range(3))
    line = Location("user.py", 7)
    big = TensorType(F32, (n, m, k))
    x = Node("reindex", [a], {"map": (i, r), "fill": 0.0}, big, line)
    y = Node("reindex", [b], {"map": (r, j), "fill": 0.0}, big, line)
    product = Node("mul", [x, y], {}, big, line)
    c = Node("reindex_reduce", [product], {"fn": "add", "map": (i, j)}, TensorType(F32, (n, m)), line)
    inputs = [a, b] if weights is None else [a]
    return Graph(name, inputs, [c], ["a", "b"][:len(inputs)], ["c"])


def chain(n: int = 40, name: str = "chain") -> Graph:
    """y = exp(x) * 2 + x."""
    kind = TensorType(F32, (n,))
    x = Node("input", [], {}, kind)
    two = Node("constant", [], {"value": 2.0}, kind)
    y = Node("add", [Node("mul", [Node("exp", [x], {}, kind), two], {}, kind), x], {}, kind)
    return Graph(name, [x], [y], ["x"], ["y"])


def contraction(n: int = 20, m: int = 24, k: int = 12, name: str = "contraction") -> Program:
    """c = a @ b as one kernel without a schedule."""
    i, j, r = (Affine.axis(a) for a in "ijk")
    axes = (Axis("i", n), Axis("j", m), Axis("k", k, REDUCTION))
    reads = (Access("a", F32, (n, k), (i, r)), Access("b", F32, (k, m), (r, j)))
    body = expr("mul", (read(0, F32), read(1, F32)), F32)
    stage = Stage("c", axes, reads, body, Access("c", F32, (n, m), (i, j)), "add", locs=(Location("user.py", 7),),
                  ops=("reindex_reduce", "mul"))
    kernel = Kernel("product", (stage,), reasons=(("c", "it is an output"),))
    buffers = {"a": TensorType(F32, (n, k)), "b": TensorType(F32, (k, m)), "c": TensorType(F32, (n, m))}
    return Program(name, ["a", "b"], ["c"], buffers, [kernel], {}, ["a", "b"], ["c"])


def saved(path, graph, **meta):
    """Write a saved graph; `meta` replaces entries of its description, which can make it wrong."""
    import json
    import zipfile

    from jtc.dialects.text import graph_text
    from jtc.frontend.model_file import Model, write_model
    arrays = {n.attrs["value"].name: n.data for n in graph.constants()}
    write_model(Model(graph_text(graph), arrays, graph.name, graph.input_names, graph.output_names), path)
    if meta:
        members = {n: zipfile.ZipFile(path).read(n) for n in zipfile.ZipFile(path).namelist()}
        members["meta.json"] = json.dumps(json.loads(members["meta.json"]) | meta).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    return path
