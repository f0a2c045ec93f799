"""The logger `jtc` under the knob `log`.  A program that configures logging itself keeps its own handlers."""
from __future__ import annotations

import logging

from jtc.runtime import knobs


def start() -> None:
    """Messages go to stderr from the level of the knob on.  Raises UsageError where JTC_LOG is not a level."""
    logger = logging.getLogger("jtc")
    logger.setLevel(str(knobs.get("log")).upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))
        logger.addHandler(handler)
