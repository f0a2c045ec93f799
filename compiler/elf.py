"""Writes relocatable ELF objects that hold data under symbols, and fills symbols of linked ones: how a plan and weights
get into a module.

An assembler could do the first, but would be one more tool to find.  Linkers copy all data twice, so weights go past
them.
Layout: System V ABI gABI chapter 4, ELF-64, little endian; what differs by processor is in dialects/family.py.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jtc.dialects.errors import InternalError
from jtc.dialects.family import Family
from jtc.runtime.elf import DYNAMIC_SYMBOLS, HEADER, LOAD, SECTION, SEGMENT, SYMBOL

ALIGN = 64
_RELOCATABLE = 1
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_WRITE, _ALLOC = 0x1, 0x2
_GLOBAL_OBJECT = (1 << 4) | 1
_SECTIONS = 0x28                # where the header says where the table of sections is


@dataclass(frozen=True)
class Data:
    """One symbol and its content.  last: it ends what is linked (behind all that is read-only), for `fill`."""

    symbol: str
    content: bytes
    last: bool = False


def write_object(path: Path, items: Sequence[Data], family: Family) -> None:
    """An object for a family of processors: one 64-byte aligned section for each item.

    Equal items give equal files.
    """
    names = b"\0.shstrtab\0.strtab\0.symtab\0.note.GNU-stack\0.rodata\0.weights\0"
    strings = b"\0" + b"".join(item.symbol.encode() + b"\0" for item in items)
    sections = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    symbols = [SYMBOL.pack(0, 0, 0, 0, 0, 0)]

    def name(text: str) -> int:
        return names.index(b"\0" + text.encode() + b"\0") + 1

    with open(path, "wb") as file:
        file.write(bytes(ALIGN))
        for number, item in enumerate(items, start=1):
            start, size = _pad(file), file.write(item.content)
            section, flags = (".weights", _ALLOC | _WRITE) if item.last else (".rodata", _ALLOC)
            sections.append((name(section), _PROGBITS, flags, 0, start, size, 0, 0, ALIGN, 0))
            place = strings.index(b"\0" + item.symbol.encode() + b"\0") + 1
            symbols.append(SYMBOL.pack(place, _GLOBAL_OBJECT, 0, number, 0, size))
        sections.append((name(".note.GNU-stack"), _PROGBITS, 0, 0, _pad(file), 0, 0, 0, 1, 0))    # no executable stack
        strtab = len(items) + 3
        for text, kind, content, link, info, entry in (
                (".symtab", _SYMTAB, b"".join(symbols), strtab, 1, SYMBOL.size),
                (".strtab", _STRTAB, strings, 0, 0, 0), (".shstrtab", _STRTAB, names, 0, 0, 0)):
            start = _pad(file)
            file.write(content)
            sections.append((name(text), kind, 0, 0, start, len(content), link, info, 8, entry))
        table = _pad(file)
        for row in sections:
            file.write(SECTION.pack(*row))
        file.seek(0)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        file.write(HEADER.pack(ident, _RELOCATABLE, family.machine, 1, 0, 0, table, 0, HEADER.size, 0, 0,
                               SECTION.size, len(sections), len(sections) - 1))


def fill(path: Path, symbol: str, size: int, chunks: Iterable[tuple[int, bytes | memoryview]]) -> None:
    """Give a symbol that is the last thing in the memory of a shared object its contents, in the place of what it has.

    chunks   (offset, bytes-like) in rising order, zeros between;  size: of all of them
    Raises InternalError where the symbol is not the last thing, OSError where the file cannot be written.
    """
    image = bytearray(path.read_bytes())
    _, _, _, _, _, segments, table, _, _, _, segment_count, _, section_count, _ = HEADER.unpack_from(image)
    loaded = [at for at in range(segments, segments + segment_count * SEGMENT.size, SEGMENT.size)
              if SEGMENT.unpack_from(image, at)[0] == LOAD]
    last = max(loaded, key=lambda at: SEGMENT.unpack_from(image, at)[3])        # at the highest address
    kind, flags, offset, address, physical, length, memory, align = SEGMENT.unpack_from(image, last)
    rows = [SECTION.unpack_from(image, table + i * SECTION.size) for i in range(section_count)]
    at = _symbol(image, rows, symbol)
    *named, section, value, held = SYMBOL.unpack_from(image, at)
    start, end = offset + value - address, offset + length
    if value + held != address + memory or length != memory or table < end:
        raise InternalError(f"the linker put something behind {symbol}")
    grown = size + -size % ALIGN - held
    SEGMENT.pack_into(image, last, kind, flags, offset, address, physical, length + size - held, memory + size - held,
                      align)
    SYMBOL.pack_into(image, at, *named, section, value, size)
    for i, row in enumerate(rows):
        place = row[4] + grown if row[4] >= end else row[4]
        SECTION.pack_into(image, table + i * SECTION.size, *row[:4], place, size if i == section else row[5], *row[6:])
    struct.pack_into("<Q", image, _SECTIONS, table + grown)
    with open(path, "wb") as file:
        file.write(image[:start])
        _write(file, size, chunks)
        file.write(bytes(-size % ALIGN) + image[end:])


def _symbol(image: bytearray, rows: Sequence[tuple[int, ...]], symbol: str) -> int:
    """Where in the file the entry of an exported symbol is."""
    for row in rows:
        if row[1] == DYNAMIC_SYMBOLS:
            names = rows[row[6]]
            for at in range(row[4], row[4] + row[5], SYMBOL.size):
                name = names[4] + SYMBOL.unpack_from(image, at)[0]
                if image.startswith(symbol.encode() + b"\0", name):
                    return at
    raise InternalError(f"the linker dropped {symbol}")


def _write(file: BinaryIO, size: int, chunks: Iterable[tuple[int, bytes | memoryview]]) -> None:
    at = 0
    for offset, chunk in chunks:
        file.write(bytes(offset - at))
        at = offset + file.write(chunk)
    file.write(bytes(size - at))


def _pad(file: BinaryIO) -> int:
    """Fill up to the alignment; the place that is reached."""
    place = file.tell()
    file.write(bytes(-place % ALIGN))
    return place + -place % ALIGN
