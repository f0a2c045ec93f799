"""Writes relocatable ELF objects that hold data under symbols: how a plan and weights get into a module.

An assembler could do it, but would be one more tool to find, and 100 MB would pass through it.
Layout: System V ABI gABI chapter 4, ELF-64, little endian; what differs by processor is in dialects/family.py.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jtc.dialects.family import Family

ALIGN = 64
_RELOCATABLE = 1
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_ALLOC = 0x2
_GLOBAL_OBJECT = (1 << 4) | 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True)
class Data:
    """One symbol: its size in bytes and its content: chunks (offset, bytes-like) in rising order, zeros between.

    far: it may lie farther from the code than instructions reach: the code never refers to it
    """

    symbol: str
    size: int
    chunks: Iterable[tuple[int, bytes | memoryview]]
    far: bool = False

    @staticmethod
    def of(symbol: str, content: bytes) -> Data:
        return Data(symbol, len(content), [(0, content)])


def write_object(path: Path, items: Sequence[Data], family: Family) -> None:
    """An object for a family of processors: one read-only, 64-byte aligned section for each item.

    Equal items give equal files.
    """
    names = b"\0.shstrtab\0.strtab\0.symtab\0.note.GNU-stack\0.rodata\0.lrodata\0"
    strings = b"\0" + b"".join(item.symbol.encode() + b"\0" for item in items)
    sections = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    symbols = [_SYMBOL.pack(0, 0, 0, 0, 0, 0)]

    def name(text: str) -> int:
        return names.index(b"\0" + text.encode() + b"\0") + 1

    with open(path, "wb") as file:
        file.write(bytes(ALIGN))
        for number, item in enumerate(items, start=1):
            start = _pad(file)
            at = 0
            for offset, chunk in item.chunks:
                file.write(bytes(offset - at))
                at = offset + file.write(chunk)
            file.write(bytes(item.size - at))
            section, flags = (".lrodata", _ALLOC | family.far_flag) if item.far else (".rodata", _ALLOC)
            sections.append((name(section), _PROGBITS, flags, 0, start, item.size, 0, 0, ALIGN, 0))
            place = strings.index(b"\0" + item.symbol.encode() + b"\0") + 1
            symbols.append(_SYMBOL.pack(place, _GLOBAL_OBJECT, 0, number, 0, item.size))
        sections.append((name(".note.GNU-stack"), _PROGBITS, 0, 0, _pad(file), 0, 0, 0, 1, 0))    # no executable stack
        strtab = len(items) + 3
        for text, kind, content, link, info, entry in (
                (".symtab", _SYMTAB, b"".join(symbols), strtab, 1, _SYMBOL.size),
                (".strtab", _STRTAB, strings, 0, 0, 0), (".shstrtab", _STRTAB, names, 0, 0, 0)):
            start = _pad(file)
            file.write(content)
            sections.append((name(text), kind, 0, 0, start, len(content), link, info, 8, entry))
        table = _pad(file)
        for row in sections:
            file.write(_SECTION.pack(*row))
        file.seek(0)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        file.write(_HEADER.pack(ident, _RELOCATABLE, family.machine, 1, 0, 0, table, 0, _HEADER.size, 0, 0,
                                _SECTION.size, len(sections), len(sections) - 1))


def _pad(file: BinaryIO) -> int:
    """Fill up to the alignment; the place that is reached."""
    place = file.tell()
    file.write(bytes(-place % ALIGN))
    return place + -place % ALIGN
