"""Reads the symbols of a shared object from its file, without loading it.

Loading a foreign or cut file may run its code or crash the process.  Layouts: System V ABI, ELF-64, little endian.
"""
from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from jtc.dialects.errors import InputError
from jtc.dialects.family import by_machine

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
_MAGIC = b"\x7fELF\x02\x01"          # 64 bits, little endian
LOAD, DYNAMIC_SYMBOLS = 1, 11         # kinds of segments, of sections
_DYNAMIC_OBJECT, _NO_BITS = 3, 8


class SharedObject:
    """The exported symbols of a shared object.

    family: the processors that it is for

    Raises InputError where the file is missing, is none, or is cut: every segment and section must lie inside it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < HEADER.size:
                    raise InputError(f"{self.path}: not a compiled module: only {size} bytes", hint=_HINT)
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None
        try:
            self._parse()
        except struct.error:
            raise InputError(f"{self.path}: the file is damaged: a table lies outside of it", hint=_HINT) from None

    def _parse(self) -> None:
        data, size = self._data, len(self._data)
        (ident, type, machine, _, _, segments, sections, _, _, segment_size, segment_count, section_size, section_count,
         _) = HEADER.unpack_from(data)
        if not ident.startswith(_MAGIC) or type != _DYNAMIC_OBJECT:
            raise InputError(f"{self.path}: not a compiled module (no ELF shared object)", hint=_HINT)
        family = by_machine(machine)
        if family is None:
            raise InputError(f"{self.path}: compiled for processors that jtc does not know (ELF machine {machine})",
                             hint=_HINT)
        self.family = family
        rows = []
        self._segments = []
        for i in range(segment_count):
            kind, _, offset, address, _, length, _, _ = SEGMENT.unpack_from(data, segments + i * segment_size)
            rows.append((offset, length))
            if kind == LOAD:
                self._segments.append((address, offset, length))
        tables = []
        for i in range(section_count):
            row = SECTION.unpack_from(data, sections + i * section_size)
            tables.append(row)
            if row[1] != _NO_BITS:
                rows.append((row[4], row[5]))
        for offset, length in rows:
            if offset + length > size:
                raise InputError(f"{self.path}: the file is cut: {size} bytes, {offset + length} are needed",
                                 hint="compile the model again")
        self.symbols: dict[str, tuple[int, int]] = {}
        for row in tables:
            if row[1] == DYNAMIC_SYMBOLS:
                start, names = row[4], tables[row[6]][4] if row[6] < len(tables) else size
                for k in range(row[5] // SYMBOL.size):
                    name, _, _, section, value, length = SYMBOL.unpack_from(data, start + k * SYMBOL.size)
                    if section:
                        end = data.find(b"\0", names + name)
                        self.symbols[data[names + name:end].decode("ascii", "replace")] = (value, length)

    def read(self, symbol: str, size: int) -> bytes:
        """The first `size` bytes at a symbol.  Raises InputError where it is missing or they are not in the file."""
        if symbol not in self.symbols:
            raise InputError(f"{self.path}: not a compiled module: the symbol {symbol} is missing", hint=_HINT)
        address = self.symbols[symbol][0]
        for start, offset, length in self._segments:
            if start <= address and 0 <= size and address + size <= start + length:
                place = offset + address - start
                return self._data[place:place + size]
        raise InputError(f"{self.path}: the file is damaged: {symbol} lies outside of it", hint=_HINT)

    def number(self, symbol: str) -> int:
        """The int64 at a symbol."""
        return struct.unpack("<q", self.read(symbol, 8))[0]


_HINT = "a compiled module is what `jtc compile MODEL.jtc -o MODEL.so` writes"
