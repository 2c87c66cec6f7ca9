"""What this processor makes of int8 products, and which exports it can be trusted with."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def saturates() -> bool:
    """Whether int8 products overflow on this processor: x86 without VNNI adds pairs of them in 16 bits.

    Weights of 7 bits avoid it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf8")
    except OSError:
        return True
    return "vnni" not in flags


def warn_if_wrong_here(record: Mapping[str, Any], folder: Path) -> None:
    """Say so where an export has int8 weights of 8 bits and this processor overflows with them.

    Args:
        record: The record of the export; one without ``reduced_range`` may be either, and is taken for the worse.
        folder: The folder of the export.
    """
    if record.get("precision") == "int8" and not record.get("reduced_range") and saturates():
        warnings.warn(
            f"the int8 weights of '{folder}' use all 8 bits, and the products of this processor (x86 without VNNI) "
            "overflow with them: its answers may differ from those that were checked. Export the run with --int8 on "
            "this machine; that export answers on others, too.",
            stacklevel=3,
        )
