"""Configuration of the lit tests: `lit tests/lit`.  RUN lines may use jtc-opt, jtc, FileCheck, not and %python.

Commands are run by a server that has MLIR imported (warm.py), those of tests/lit/tools as they are.
"""
import os
import sys

import lit.formats

sys.path.insert(0, os.path.dirname(__file__))
import warm  # noqa: E402

config.name = "jtc"                                                 # noqa: F821  (lit defines `config`)
config.test_format = lit.formats.ShTest(execute_external=False)     # noqa: F821  (lit's own shell has `not`)
config.suffixes = [".mlir"]                                         # noqa: F821
config.test_source_root = os.path.dirname(__file__)                 # noqa: F821
config.test_exec_root = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"jtc-lit-{os.getuid()}")    # noqa: F821

# Before a tool's name may stand a space or a pipe, not a part of a path or of another name.
TOOLS = {"jtc-opt": "jtc.tools.opt", "jtc": "jtc.tools.cli", "[Ff]ile[Cc]heck": "filecheck"}


def substitutions(run):
    """The tools' names -> the command line that runs them; run: what stands before the module."""
    return [("%python", sys.executable),
            *((rf"(?<![\w./-]){name}(?![\w./-])", f"{run} {module}") for name, module in TOOLS.items())]


config.substitutions += substitutions(f"{sys.executable} -IS {warm.__file__} {warm.start()}")       # noqa: F821
config.real_commands = substitutions(f"{sys.executable} -m")                                        # noqa: F821
for name in ("PYTHONPATH", "HOME", "XDG_CACHE_HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]                 # noqa: F821
