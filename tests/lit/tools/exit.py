"""Run a command, check its exit code, and pass its messages on to stdout:  exit.py CODE COMMAND ARGUMENTS..."""
import subprocess
import sys

code, *command = sys.argv[1:]
done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
print(done.stderr, end="")
sys.exit(0 if done.returncode == int(code) else f"exit code {done.returncode}, not {code}")
