"""State that a program replaces: the kernels through which an input's values become those of its update.

A step makes w1 of w0 in one kernel; several steps in one program make w1 of w0, w2 of w1...  All of them may lie in one
place, if every kernel on the way may write over what it reads (`dialects/in_place.py`).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jtc.dialects.in_place import refusal
from jtc.dialects.kernel import Kernel


@dataclass(frozen=True)
class Link:
    """Kernel number `kernel` makes `new` of `old`, element by element."""

    kernel: int
    new: str
    old: str


def makers_of(kernels: Sequence[Kernel]) -> dict[str, int | None]:
    """Buffer -> number of the kernel that writes it; None where several do."""
    makers: dict[str, int | None] = {}
    for number, kernel in enumerate(kernels):
        for name in kernel.written:
            makers[name] = None if name in makers else number
    return makers


def links(kernels: Sequence[Kernel], makers: Mapping[str, int | None], new: str, old: str,
          fits: Callable[[Link], bool]) -> list[Link]:
    """The way from `old` to `new`, in the order of the kernels; none where there is none.

    makers: of the kernels; fits: whether a link may be part of the way
    """
    dead: set[str] = set()                          # what no way leads to from `old`

    def back(name: str) -> list[Link] | None:
        number = makers.get(name)
        if number is None or name in dead:
            return None
        found = [Link(number, name, read) for read in kernels[number].read]
        for link in sorted(found, key=lambda link: link.old != old):
            if (link.old == old or makers.get(link.old) is not None) and fits(link) \
                    and not refusal(kernels[number], name, link.old):
                way = [] if link.old == old else back(link.old)
                if way is not None:
                    return [*way, link]
        dead.add(name)
        return None

    return back(new) or []
