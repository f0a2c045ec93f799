"""Reading the dialect: nothing is lost on the way, and what is wrong is refused with its place."""
from __future__ import annotations

from dataclasses import replace

import pytest
from kernel_cases import CASES, A, access, convolution, embedding, matmul, softmax
from op_cases import graph_of, meta_op_cases, mlp, scalar_function_cases

from jtc.dialects import mlir, rules
from jtc.dialects.dtypes import DTYPES, F32, F64, I32, I64
from jtc.dialects.errors import InputError
from jtc.dialects.expr import acc, cast, const, index, read
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.dialects.kernel import Guard, Local
from jtc.dialects.reader import ReadError, bytecode, parse, read_bytecode, read_text
from jtc.dialects.text import graph_text, program_text


# ------------------------------------------------------------------------------------------------ nothing is lost
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_op_of_a_graph(dtype):
    """All cases of a dtype in one graph, because every module read costs a context."""
    cases = [c for c in meta_op_cases(dtype)]
    cases += [(op, args, attrs, None) for op, args, attrs, _ in scalar_function_cases(dtype) if len(args[0].shape) == 2]
    inputs, outputs = [], []
    for op, args, attrs, type in cases:
        if type is None:
            from jtc.dialects.optable import infer
            type = infer(op, args, attrs)
        graph = graph_of(op, args, attrs, type)
        inputs += graph.inputs
        outputs += graph.outputs
    graph = Graph("ops", inputs, outputs)
    text = graph_text(graph)
    result = read_text(text)
    assert graph_text(result) == text
    for node, original in zip(result.outputs, outputs, strict=True):
        assert (node.op, node.attrs, node.type, node.loc) == (original.op, original.attrs, original.type, original.loc)


def test_graph_as_text_and_bytecode():
    graph = mlp()
    text = graph_text(graph)
    for result in (read_text(text), read_bytecode(bytecode(graph))):
        assert graph_text(result) == text
        assert (result.input_names, result.output_names) == (graph.input_names, graph.output_names)
        assert [n.loc for n in result.nodes()] == [n.loc for n in graph.nodes()]
        assert result.constants()[0].attrs == graph.constants()[0].attrs and result.constants()[0].data is None


@pytest.mark.parametrize("name", CASES)
def test_program_as_text_and_bytecode(name):
    program = CASES[name]().program
    if "b" in program.constants:
        program = replace(program, constants={"w": None, "b": 0.25})        # a number that an f32 holds exactly
    assert read_text(program_text(program)) == program
    assert read_bytecode(bytecode(program)) == program


def test_as_mlir_prints_it():
    """What MLIR prints, with its own names and order, reads back the same."""
    for module, text in ((mlp(), graph_text), (softmax(2).program, program_text), (embedding().program, program_text)):
        with mlir.lock, mlir.context():
            printed = str(parse(text(module)))
        assert text(read_text(printed), False) == text(module, False)


def test_unknown_dimensions_and_names():
    x = Node("input", (), {}, TensorType(F32, (-1, 8)))
    graph = Graph("a name", [x], [Node("exp", [x], {}, x.type)], ['a "b"'], ["é"])
    result = read_text(graph_text(graph))
    assert (result.name, result.input_names, result.output_names) == ("a name", ['a "b"'], ["é"])
    assert result.outputs[0].type == x.type


def test_nan_fill():
    program = convolution().program
    kernel = program.kernels[0]
    first, second = kernel.stages[0].reads
    stage = replace(kernel.stages[0], reads=(replace(first, fill=float("nan")), second))
    text = program_text(replace(program, kernels=[replace(kernel, stages=(stage,)), program.kernels[1]]))
    assert program_text(read_text(text)) == text and "0x7FC00000" in text


def test_upstream_passes_know_our_ops():
    """cse merges equal ops and canonicalize drops unused ones, because the dialect says that they are pure."""
    x = Node("input", (), {}, TensorType(F32, (4,)))
    twice = [Node("exp", [x], {}, x.type) for _ in range(2)]
    text = graph_text(Graph("f", [x], [Node("add", twice, {}, x.type)]))
    unused = text.replace("    return", '    %9 = "jtc.sin"(%arg0) : (tensor<4xf32>) -> tensor<4xf32>\n    return')
    with mlir.lock, mlir.context():
        module = parse(unused)
        mlir.passmanager.PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)
        printed = str(module)
    assert printed.count("jtc.exp") == 1 and "jtc.sin" not in printed


# ------------------------------------------------------------------------------------------------ what is refused
def refused(text: str) -> ReadError:
    with pytest.raises(ReadError) as info:
        read_text(text, "bad.mlir")
    return info.value


FUNCTION = """func.func @f(%x: tensor<8xf32>, %y: tensor<9xf32>) -> tensor<8xf32> {{
  %0 = {}
  return %x : tensor<8xf32>
}}"""


@pytest.mark.parametrize("op, message", [
    ('"jtc.add"(%x, %y) : (tensor<8xf32>, tensor<9xf32>) -> tensor<8xf32>',
     "'jtc.add' op add needs arguments of one shape, got (8,) and (9,)"),
    ('"jtc.exp"(%x) : (tensor<8xf32>) -> tensor<9xf32>',
     "'jtc.exp' op exp gives tensor<8xf32>, its type says tensor<9xf32>"),
    ('"jtc.exp"(%x) {fast} : (tensor<8xf32>) -> tensor<8xf32>', "'jtc.exp' op unknown attribute 'fast'"),
    ('"jtc.exp"(%x) : (tensor<8xf32>) -> f32', "'jtc.exp' op exp mixes tensors and scalars: tensor<8xf32> -> f32"),
    ('"jtc.exp"(%x) : (tensor<8xf32>) -> tensor<*xf32>', "'jtc.exp' op tensor<*xf32> is not a ranked tensor type"),
    ('"jtc.reduce"(%x) {fn = "add"} : (tensor<8xf32>) -> tensor<f32>',
     "'jtc.reduce' op needs the attribute axes = array<i64: 0, 1>"),
    ('"jtc.reduce"(%x) {fn = "add", axes = [0]} : (tensor<8xf32>) -> tensor<f32>',
     "'jtc.reduce' op axes must be like array<i64: 0, 1>, got [0]"),
    ('"jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 * d0)>, fill = 0.0 : f32} : (tensor<8xf32>) -> tensor<8xf32>',
     "non-affine expression"),
    ('"jtc.reindex"(%x) {map = affine_map<(d0) -> (d0 ceildiv 2)>, fill = 0.0:f32} : (tensor<8xf32>) -> tensor<8xf32>',
     "'jtc.reindex' op map: d0 ceildiv 2 is neither affine nor a digit of a dimension"),
    ('"jtc.reindex"(%x) {map = affine_map<(d0)[s0] -> (d0 + s0)>, fill = 0.0 : f32} : (tensor<8xf32>) -> tensor<8xf32>',
     "'jtc.reindex' op map must not have symbols, got (d0)[s0] -> (d0 + s0)"),
    ('"jtc.reindex"(%x) {map = affine_map<(d0) -> (d0)>, fill = 0 : i64} : (tensor<8xf32>) -> tensor<8xf32>',
     "'jtc.reindex' op fill must be of type f32, got 0 : i64"),
    ('"jtc.constant"() {value = 1 : i32} : () -> tensor<8xf32>',
     "'jtc.constant' op value must be of type f32, got 1 : i32"),
    ('"jtc.constant"() {value = [1]} : () -> tensor<8xf32>', "'jtc.constant' op value must be a number, got [1]"),
    ('"jtc.reshape"(%x) : (tensor<8xf32>) -> tensor<8xcomplex<f32>>',
     "'jtc.reshape' op complex<f32> is not an element type; it must be one of i1,"),
    ('"jtc.index"() {form = "i"} : () -> i64', "'jtc.index' op must stand directly in a jtc.stage"),
])
def test_wrong_ops_of_a_graph(op, message):
    error = refused(FUNCTION.format(op))
    first = error.diagnostics[0]
    assert (first.file, first.line) == ("bad.mlir", 2)
    assert message in first.message
    assert first.column == 8 or "non-affine" in message
    assert str(first).startswith(f"bad.mlir:2:{first.column}: error: ")


def test_the_users_line_is_shown():
    x = Node("input", (), {}, TensorType(F32, (8,)))
    y = Node("input", (), {}, TensorType(F64, (8,)))
    bad = graph_of("add", [x.type, y.type], {}, x.type)
    error = refused(graph_text(bad))
    assert str(error) == ("'jtc.add' op add needs arguments of one dtype, got float32 and float64\n  at model.py:9\n"
                          "  hint: convert one of them with astype")


@pytest.mark.parametrize("text, message, line", [
    ("", "not a module of jtc: that holds one jtc.program or one func.func, this nothing", 1),
    ("module { module {} }", "this builtin.module", 1),
    ("module attributes {jtc.version = 99 : i64} {}", "written by a newer jtc: its version is 99 : i64", 1),
    ("func.func @f(%x: f32) {\n return\n}", "f32 is not a ranked tensor type", 1),
    ("func.func @f(%x: tensor<8xf32>) -> tensor<8xf32> {\n  %0 = arith.addf %x, %x : tensor<8xf32>\n"
     "  return %0 : tensor<8xf32>\n}", "arith.addf is not an op of a graph", 2),
    ("func.func private @f(tensor<8xf32>)", "a graph is a function of one block", 1),
    ("func.func @f() {\n  what\n}", "", 2),
    ('"foo.bar"() : () -> ()', "unregistered dialect", 1),
    ('"jtc.nothing"() : () -> ()', "unregistered operation 'jtc.nothing'", 1),
])
def test_foreign_text(text, message, line):
    error = refused(text)
    assert message in error.message
    assert error.location is not None and (error.location.file, error.location.line) == ("bad.mlir", line)
    assert isinstance(error, InputError)


def test_damaged_bytecode():
    data = bytecode(mlp())
    for damaged in (data[:60], data[:-20], b"ML\xefR" + b"\0" * 100):
        with pytest.raises(ReadError):
            read_bytecode(damaged, "model.jtc")


def edited(case, edit, kernel: int = 0, stage: int = 0):
    """The case's program with one stage changed by `edit`."""
    program = case().program
    old = program.kernels[kernel]
    stages = list(old.stages)
    stages[stage] = edit(stages[stage])
    kernels = list(program.kernels)
    kernels[kernel] = replace(old, stages=tuple(stages))
    return replace(program, kernels=kernels)


def first_read(**change):
    return lambda s: replace(s, reads=(replace(s.reads[0], **change), *s.reads[1:]))


i, j, k = A("i"), A("j"), A("k")
STAGE_ERRORS = [
    (matmul, first_read(index=(i, A("z"))), "read 0 of x: there is no axis 'z'"),
    (matmul, first_read(index=(i,)), "read 0 of x: 1 indices for 2 dimensions"),
    (matmul, first_read(index=(i, k + 1)), "read 0 of x: the index k + 1 runs from 1 to 5 in a dimension of 5"),
    (matmul, first_read(index=(i, k - 1)), "read 0 of x: the index k - 1 runs from -1 to 3 in a dimension of 5"),
    (matmul, first_read(index=(i, k - 1), guards=(Guard(k, 4),)),
     "read 0 of x: the index k - 1 runs from -1 to 2 in a dimension of 5"),
    (matmul, first_read(shape=(6, 6)), "read 0 of x: it is tensor<6x5xf32>, seen as tensor<6x6xf32>"),
    (matmul, first_read(buffer="nobody"), "read 0 of nobody: there is no such buffer"),
    (matmul, first_read(buffer="y", shape=(6, 8)), "reads y, which nothing has written yet"),
    (matmul, lambda s: replace(s, axes=(*s.axes, s.axes[0])), "the axis 'i' is there twice"),
    (matmul, lambda s: replace(s, reduce=None, epilogue=None), "the reduction axis 'k' needs `reduce`"),
    (matmul, lambda s: replace(s, reduce="sum"), "unknown reduction 'sum'; it must be one of add,"),
    (matmul, lambda s: replace(s, reduce="or"), "cannot reduce float32 with or"),
    (matmul, lambda s: replace(s, epilogue=cast(acc(F32), F64)), "writes f64 values into y, which is f32"),
    (matmul, lambda s: replace(s, epilogue=read(0, F32)), "the epilogue depends on the reduction axis 'k'"),
    (matmul, lambda s: replace(s, epilogue=cast(index(k, I64), F32)), "the epilogue depends on the reduction axis 'k'"),
    (matmul, lambda s: replace(s, body=cast(index(A("q"), I64), F32)), "the body depends on an unknown axis 'q'"),
    (matmul, lambda s: replace(s, write=replace(s.write, index=(i, k))), "the write to y names the reduction axis 'k'"),
    (matmul, lambda s: replace(s, write=access("x", F32, (6, 5), i, 0)), "writes x, an input or a constant"),
    (matmul, lambda s: replace(s, keep=access("y", I32, (6, 8), i, j)), "keeps f32 values in y, which is i32"),
    (matmul, lambda s: replace(s, accumulate=True), "a stage that accumulates has neither an epilogue nor `keep`"),
    (embedding, lambda s: replace(s, reads=(s.reads[0], replace(s.reads[1], gather=((2, read(0, I64)),)))),
     "read 1 of table: gathers in dimension 2 of 2"),
    (embedding, lambda s: replace(s, reads=(s.reads[0], replace(s.reads[1], gather=((0, read(1, F32)),)))),
     "read 1 of table: gathers with f32 values, not integers"),
    (embedding, lambda s: replace(s, reads=(replace(s.reads[0], gather=((0, read(0, I64)),)), s.reads[1])),
     "read 0 of ids gathers with its own value"),
    (convolution, lambda s: replace(s, reduce=None, axes=(*s.axes[:2], replace(s.axes[2], kind="parallel")),
                                    epilogue=const(1, F32)), "an epilogue needs `reduce`"),
    (embedding, lambda s: replace(s, accumulate=True), "`accumulate` needs `reduce`"),
]


@pytest.mark.parametrize("case, edit, message", STAGE_ERRORS, ids=[m for _, _, m in STAGE_ERRORS])
def test_wrong_stages(case, edit, message):
    program = edited(case, edit)
    assert any(p.message.startswith(message) for p in rules.problems(program))
    error = refused(program_text(program))
    assert error.message.startswith("'jtc.stage' op ")
    if next(rules.problems(program)).message.startswith(message):
        assert message in error.message
    if case is matmul:
        assert (error.location.file, error.location.line) == ("net.py", 3)


def test_valid_programs_have_no_problems():
    for case in CASES.values():
        assert list(rules.problems(case().program)) == []


@pytest.mark.parametrize("change, message", [
    ({"inputs": ["x", "q"]}, "'jtc.program' op there is no buffer 'q'"),
    ({"input_names": ["a", "b"]}, "1 inputs with 2 names"),
    ({"outputs": ["z"], "buffers": {**matmul().program.buffers, "z": TensorType(F32, ())}},
     "the output 'z' is never written"),
    ({"kernels": matmul().program.kernels * 2}, "two kernels are called 'matmul_relu'"),
])
def test_wrong_programs(change, message):
    assert message in refused(program_text(replace(matmul().program, **change))).message


def test_wrong_kernels():
    program = softmax(2).program
    kernel = program.kernels[0]

    def message(**change) -> str:
        return refused(program_text(replace(program, kernels=[replace(kernel, **change)]))).message
    assert "the write to top: there is no such buffer" in message(locals=kernel.locals[1:])
    twice = (*kernel.locals, Local("x", TensorType(F32, ())))
    assert "'x' is both a buffer of the program and of the kernel" in message(locals=twice)
    assert "reads top, which nothing has written yet" in message(stages=kernel.stages[1:])
    assert "two stages are called 'top'" in message(stages=(kernel.stages[0], *kernel.stages))
    assert "the shared axis i has size 6, here 5" in message(shared=((replace(kernel.shared[0][0], size=6), 2),))
    wide = ((kernel.shared[0][0], 5),)
    assert "the write to top: the index i runs from 0 to 4 in a dimension of 2" in message(shared=wide)


@pytest.mark.parametrize("old, new, message", [
    ('"i:6"', '"i=6"', "axes: 'i=6' is not like 'i:128'"),
    ('index = ["i", "k"]', 'index = ["i", "k*2"]', "read 0: index: 'k*2' is not like '2*i + k - 1'"),
    ('index = ["i", "k"]', 'index = "i"', 'read 0: index must be like [...], got "i"'),
    ('index = ["i", "k"]}', 'index = ["i", "k"], guards = ["k < 3"]}', "read 0: guards: 'k < 3' is not like"),
    ('index = ["i", "k"]}', 'index = ["i", "k"], fill = 0 : i32}', "read 0: fill must be of type f32, got 0 : i32"),
    ('index = ["i", "k"]}', 'index = ["i", "k"], gather = ["dim 0: offset 0"]}',
     "gather: offset 0 of the 0 in the third region"),
    ('index = ["i", "k"]}', 'index = ["i", "k"], what}', "read 0: unknown attribute 'what'"),
    ('reduce = "add",', 'reduce = 1,', 'reduce must be like "...", got 1 : i64'),
    ('reduce = "add",', 'reduces = "add",', "unknown attribute 'reduces'"),
    ('name = "s0",', "", 'needs the attribute name = "..."'),
    ('inside = "j:8"', 'inside = "j"', "schedule: pack 0: inside: 'j' is not like 'i:8'"),
    ("lanes = 4", "lanes = true", "schedule: lanes must be like 1, got true"),
    ('"jtc.yield"(%0) : (f32)', '"jtc.yield"(%0, %0) : (f32, f32)', "the body yields 2 values, not 1"),
    ("(%acc: f32, %x: f32", "(%acc: f32, %x: f64", "the epilogue takes (f32, f32, f32, f32)"),
    ('"jtc.mul"(%x, %w) : (f32, f32) -> f32', '"arith.mulf"(%x, %w) : (f32, f32) -> f32',
     "arith.mulf cannot stand in a stage"),
    ('%0 = "jtc.mul"', '%1 = "jtc.mul"(%x, %w) : (f32, f32) -> f64\n %0 = "jtc.mul"',
     "mul gives f32, its type says f64"),
    ('"jtc.mul"(%x, %w) : (f32, f32) -> f32', '"jtc.iota"() {axis = 0 : i64} : () -> f32',
     "iota is an op on tensors, not on scalars"),
    ('%0 = "jtc.mul"', '%1 = "jtc.index"() {form = "i i"} : () -> i32\n %0 = "jtc.mul"',
     "form: 'i i' is not an affine form"),
    ('type = tensor<6x5xf32>}', 'type = tensor<6x5xf32>, constant = 1 : i64}', "constant must be of type f32"),
    ('name = "x", type', 'name = "y", type', "buffer 'y' is there twice"),
    ('"it is an \\22output\\22"', "1", "is not like [\"buffer\", \"why\"]"),
])
def test_wrong_notation(old, new, message):
    text = program_text(matmul().program)
    assert old in text
    assert message in refused(text.replace(old, new, 1)).message
