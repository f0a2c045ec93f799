"""Failing passes and failing code generation leave a file, and the file replays the failure."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from kernels import chain, scale

from jtc.compiler import codegen, pipeline, reproducer
from jtc.compiler.driver import settings_for
from jtc.compiler.phases import Code
from jtc.dialects.dtypes import F64
from jtc.dialects.errors import InputError, InternalError
from jtc.dialects.graph import Graph, Node, TensorType
from jtc.passes.base import Pass, PassError
from jtc.runtime import knobs
from jtc.tools import opt


@dataclass(frozen=True)
class Crash(Pass):
    """Fails with whatever it is told."""

    name: ClassVar[str] = "graph-crash"
    how: str = "key"
    count: int = 1

    def run(self, module):
        if self.how == "keep":
            return module
        if self.how == "refuse":
            raise PassError("not this graph", hint="another one")
        if self.how == "break":
            out = module.outputs[0]
            return replace(module, outputs=[Node(out.op, out.args, out.attrs, TensorType(F64, out.shape))])
        raise KeyError("d3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from jtc.passes import base
    registered = {**base.registry(), "graph-crash": Crash}
    monkeypatch.setattr(base, "registry", lambda: registered)
    with knobs.use(reproducer_dir=tmp_path):
        yield tmp_path


def test_a_crash_leaves_a_file_that_replays_it(folder, capsys):
    with pytest.raises(InternalError, match="pass graph-crash failed: KeyError: 'd3'") as caught:
        pipeline.run(chain(), [Crash(count=5)], settings_for())
    error = caught.value
    assert error.command == f"jtc opt --run-reproducer {error.reproducer}"
    found = reproducer.read(error.reproducer)
    assert found.pipeline == "graph-crash{count=5}" and "jtc.exp" in found.text
    assert opt.main(["--run-reproducer", error.reproducer]) == 70
    assert "KeyError: 'd3'" in capsys.readouterr().err


def test_broken_ir_is_blamed_on_the_pass(folder):
    with pytest.raises(InternalError, match="pass graph-crash failed: VerifyError: add gives") as caught:
        pipeline.run(chain(), [Crash(how="break")], settings_for())
    _, _, ir = reproducer.read(caught.value.reproducer).text.partition("module")
    assert "f32" in ir and "f64" not in ir                                  # as it was before the pass


def test_passes_that_nothing_is_wrong_with_are_verified_together(folder, monkeypatch):
    verified, seen = [], []
    monkeypatch.setattr(pipeline, "verify", lambda module, settings: verified.append(module))
    settings = replace(settings_for(), watch=lambda kind, name, seconds, value: seen.append(value))
    made = pipeline.run(chain(), [Crash(how="keep"), Crash(how="keep")], settings)
    assert verified == [made] and len(seen) == 2


@pytest.mark.parametrize("later", ["keep", "crash", "refuse"])
def test_broken_ir_is_blamed_on_the_first_pass_that_leaves_it(folder, later):
    """Whatever a later one does with it."""
    with pytest.raises(InternalError, match="pass graph-crash failed: VerifyError: add gives") as caught:
        pipeline.run(chain(), [Crash(how="keep"), Crash(how="break"), Crash(how=later)], settings_for())
    assert reproducer.read(caught.value.reproducer).pipeline.count("graph-crash") == 2
    assert len(list(folder.iterdir())) == 1


def test_who_watches_may_fail(folder):
    def full(kind, name, seconds, value):
        raise OSError("no space left")
    with pytest.raises(OSError, match="no space left"):
        pipeline.run(chain(), [Crash(how="keep")], replace(settings_for(), watch=full))


def test_without_verification_broken_ir_passes(folder):
    made = pipeline.run(chain(), [Crash(how="break")], replace(settings_for(), verify=False))
    assert isinstance(made, Graph) and made.outputs[0].dtype is F64


def test_a_refusal_is_no_bug(folder):
    with pytest.raises(PassError, match="not this graph"):
        pipeline.run(chain(), [Crash(how="refuse")], settings_for())
    assert list(folder.iterdir()) == []


def test_lowering_failures(folder, capsys):
    bad = Code("scale2", 2, str(scale(2).data).replace("arith.mulf", "arith.mulx"))
    with pytest.raises(InternalError, match="making llvm of kernel scale2 failed") as caught:
        codegen.to_llvm(bad, settings_for())
    assert opt.main(["--run-reproducer", caught.value.reproducer]) == 70
    good = codegen.to_llvm(scale(2), settings_for())
    with pytest.raises(InternalError, match="making obj of kernel scale2 failed") as caught:
        codegen.to_object(replace(good, data=good.data.replace("fmul", "fmulx")), settings_for())
    assert caught.value.reproducer.endswith(".ll")
    capsys.readouterr()
    assert opt.main(["--run-reproducer", caught.value.reproducer]) == 70
    assert "making obj of kernel scale2 failed" in capsys.readouterr().err


def test_a_mended_bug_is_said_to_be_mended(folder, capsys):
    with pytest.raises(InternalError) as caught:
        pipeline.run(chain(), [Crash()], settings_for())
    path = caught.value.reproducer
    text = open(path).read().replace("pipeline: graph-crash", "pipeline: graph-crash{how=same}")
    open(path, "w").write(text)
    assert opt.main(["--run-reproducer", path]) == 70
    open(path, "w").write(text.replace("// pipeline: graph-crash{how=same}\n", ""))
    assert opt.main(["--run-reproducer", path]) == 0
    assert "does not fail any more" in capsys.readouterr().err


def test_unwritable_directory_falls_back(folder):
    (folder / "file").write_text("")
    with knobs.use(reproducer_dir=folder / "file"), pytest.raises(InternalError) as caught:
        pipeline.run(chain(), [Crash()], settings_for())
    assert reproducer.read(caught.value.reproducer).pipeline == "graph-crash"


def test_foreign_files(tmp_path, capsys):
    other = tmp_path / "other.mlir"
    other.write_text("module {}\n")
    with pytest.raises(InputError, match="not a reproducer"):
        reproducer.read(other)
    assert opt.main(["--run-reproducer", str(tmp_path / "absent")]) == 1
    assert "No such file" in capsys.readouterr().err
