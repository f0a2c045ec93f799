"""Commands for lit without their start-up: a server that has imported everything forks a process for each.

`python -m MODULE ARGUMENTS` imports MLIR for most of a second, which is most of what the lit tests would take.  `start`
starts a server for one run of lit; `python warm.py SOCKET MODULE ARGUMENTS` then does what `python -m` does, with the
caller's streams, directory, environment and exit code.  tests/lit/tools runs the real commands.
"""
from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
import sys

CRASHED = 134
# What the commands import, but not the modules that are run themselves.
PRELOADED = ("jtc.tools.compile", "jtc.tools.models", "jtc.dialects.reader", "jtc.compiler.driver",
             "jtc.compiler.pipeline", "jtc.compiler.verify", "jtc.compiler.cpu.emit", "jtc.compiler.cpu.lower",
             "jtc.compiler.explain", "filecheck.main")
_LENGTH = struct.Struct("<I")
_server = None                      # kept as long as lit runs; the server ends with the pipe to it


def start() -> str:
    """Start the server; returns its socket's path."""
    global _server
    import subprocess
    import tempfile
    path = os.path.join(tempfile.mkdtemp(prefix="jtc-lit-"), "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        _server = subprocess.Popen([sys.executable, __file__, "--serve", path, str(listening.fileno())],
                                   stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[listening.fileno()],
                                   env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    return path


def serve(path: str, number: int) -> None:
    import importlib
    import signal
    for name in PRELOADED:
        importlib.import_module(name)
    listening = socket.socket(fileno=number)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, 0], [], [])
        if 0 in ready:                                      # lit is gone
            os.unlink(path)
            os.rmdir(os.path.dirname(path))
            return
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
        connection.close()


def answer(connection: socket.socket) -> None:
    """Be the command that is asked for.  Does not return."""
    import runpy
    head, control, _, _ = connection.recvmsg(_LENGTH.size, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i", control[0][2])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    with connection.makefile("rb") as file:
        request = json.loads(file.read(_LENGTH.unpack(head)[0]))
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]
    code = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            code = int(end.code or 0)
    except BaseException:
        import traceback
        traceback.print_exc()
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except BrokenPipeError:
            pass
    connection.sendall(bytes([code]))
    os._exit(code)


def ask(path: str, module: str, arguments: list[str]) -> int:
    """Have the server run the module; its exit code."""
    request = json.dumps({"module": module, "arguments": arguments, "directory": os.getcwd(),
                          "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendmsg([_LENGTH.pack(len(request))],
                           [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
        connection.sendall(request)
        code = connection.recv(1)
        return code[0] if code else CRASHED


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        del sys.path[0]                 # this file's directory: `python -m` has the current one there, lit has none
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2], sys.argv[3:]))
