"""Configuration of the lit tests: `lit tests/lit`.  RUN lines may use jtc-opt, jtc, FileCheck, not and %python."""
import os
import sys

import lit.formats

config.name = "jtc"                                                 # noqa: F821  (lit defines `config`)
config.test_format = lit.formats.ShTest(execute_external=False)     # noqa: F821  (lit's own shell has `not`)
config.suffixes = [".mlir"]                                         # noqa: F821
config.test_source_root = os.path.dirname(__file__)                 # noqa: F821
config.test_exec_root = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"jtc-lit-{os.getuid()}")    # noqa: F821

# Before a tool's name may stand a space or a pipe, not a part of a path or of another name.
python, start = sys.executable, r"(?<![\w./-])"
config.substitutions += [                                           # noqa: F821
    ("%python", python),
    (start + r"jtc-opt(?![\w./-])", f"{python} -m jtc.tools.opt"),
    (start + r"jtc(?![\w./-])", f"{python} -m jtc.tools.cli"),
    (start + r"[Ff]ile[Cc]heck(?![\w./-])", f"{python} -m filecheck"),
]
for name in ("PYTHONPATH", "HOME", "XDG_CACHE_HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]                 # noqa: F821
