"""jtc cache: where the disk cache is, what is in it, whether it is sound, and why something is not in it."""
from __future__ import annotations

import argparse

from jtc.dialects.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """verbs:
  dir      print its directory
  stats    entries and bytes
  verify   check every entry, drop damaged ones
  clear    remove every entry
  why      say whether MODEL is in it and, if not, which part of its key differs"""
    parser.add_argument("verb", nargs="?", default="stats", choices=("dir", "stats", "verify", "clear", "why"))
    parser.add_argument("model", nargs="?", help="for `why`: a saved graph")
    parser.add_argument("--target", default="cpu", help="for `why`: as for `jtc compile`")


def run(arguments: argparse.Namespace) -> int:
    from jtc.compiler.cache import current
    cache = current()
    if arguments.verb == "dir":
        print(cache.root)
    elif arguments.verb == "stats":
        for kind, (count, size) in cache.stats().items():
            print(f"{kind}: {count} entries, {size / 1e6:.1f} MB")
        print(f"limit: {cache.limit / 1e6:.0f} MB in {cache.root}")
    elif arguments.verb == "clear":
        print(f"removed {cache.clear()} entries from {cache.root}")
    elif arguments.verb == "verify":
        checked, damaged = cache.verify()
        for path in damaged:
            print(f"dropped {path}")
        print(f"{checked} entries checked, {len(damaged)} damaged")
    else:
        return _why(arguments)
    return 0


def _why(arguments: argparse.Namespace) -> int:
    from jtc.compiler import driver
    from jtc.compiler.cache import current
    from jtc.tools.models import reader
    if arguments.model is None:
        raise UsageError("`jtc cache why` needs a saved graph", hint="jtc cache why MODEL.jtc")
    key = driver.file_key(arguments.model, reader(arguments.model), arguments.target)
    found = current().program(key)
    print(f"in the cache: {found}" if found else current().why(key))
    return 0
