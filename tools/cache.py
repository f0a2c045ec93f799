"""jtc cache: where the disk cache is, what is in it, whether it is sound, and why something is not in it."""
from __future__ import annotations

import argparse
import time
from typing import Any

from jtc.dialects.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """verbs:
  dir      print its directory
  stats    entries and bytes (the default)
  list     compiled programs: name, size, when it was used last
  verify   check every entry, drop damaged ones
  clear    remove every entry
  why      say whether MODEL is in it and, if not, which part of its key differs

examples:
  jtc cache
  jtc cache why model.jtc
JTC_CACHE_DIR says where it is, JTC_CACHE_LIMIT how large it may be, JTC_CACHE=off turns it off."""
    parser.add_argument("verb", nargs="?", default="stats", choices=("dir", "stats", "list", "verify", "clear", "why"),
                        metavar="VERB", help="see below")
    parser.add_argument("model", nargs="?", help="for `why`: a saved graph")
    parser.add_argument("--target", default="cpu", help="for `why`: as for `jtc compile`")


def run(arguments: argparse.Namespace) -> int:
    from jtc.compiler.cache import current
    from jtc.tools.progress import count_text, size_text
    cache = current()
    if arguments.model is not None and arguments.verb != "why":
        raise UsageError(f"`jtc cache {arguments.verb}` takes no model, got {arguments.model}")
    if arguments.verb == "dir":
        print(cache.root)
    elif arguments.verb == "stats":
        for kind, (count, size) in cache.stats().items():
            print(f"{kind}: {count_text(count, 'entry')}, {size_text(size)}")
        print(f"limit: {size_text(cache.limit)} in {cache.root}")
    elif arguments.verb == "list":
        _list(cache)
    elif arguments.verb == "clear":
        print(f"removed {count_text(cache.clear(), 'entry')} from {cache.root}")
    elif arguments.verb == "verify":
        checked, damaged = cache.verify()
        for path in damaged:
            print(f"dropped {path}")
        print(f"{count_text(checked, 'entry')} checked, {len(damaged)} damaged")
    else:
        return _why(arguments)
    return 0


def _list(cache: Any) -> None:
    """Print the compiled programs, the one used last first."""
    from jtc.tools.progress import size_text
    rows = []
    for path, note in cache.notes():
        try:
            found = path.stat()
        except OSError:                            # dropped meanwhile
            continue
        rows.append((found.st_mtime, found.st_size, note, path))
    for used, size, note, path in sorted(rows, key=lambda row: -row[0]):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(used))
        print(f"{when}  {size_text(size):>9}  {note['name']}({note['parts'].get('inputs', '')})  {path.name}")


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
