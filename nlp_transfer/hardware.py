"""What this machine computes with, and what that means for precision.

torch is loaded where it is asked, not with this module: exports predict without it.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Precision:
    """The number format of a training run.

    Args:
        bf16: Whether matrix products are computed in bfloat16 (weights stay fp32).
        reason: One line that says why.
    """

    bf16: bool
    reason: str


def choose_precision(wanted: str) -> Precision:
    """Decide between fp32 and bf16 autocast.

    On a CPU without native bfloat16, half precision is emulated and about a hundred times slower; with it (AVX512_BF16,
    AMX) training is two to three times faster.

    Args:
        wanted: ``auto``, ``fp32`` or ``bf16``.
    """
    native = native_bf16()
    if wanted == "fp32":
        return Precision(False, "fp32, as the recipe says")
    if wanted == "bf16":
        return Precision(
            True, "bf16, as the recipe says" + ("" if native else " (this hardware emulates it: very slow)")
        )
    if native:
        return Precision(True, "bf16 (native here)")
    return Precision(False, "fp32 (this hardware has no native bf16)")


def native_bf16() -> bool:
    """Whether the device that trains computes bfloat16 natively."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes files and talks."""
    return os.environ.get("RANK", "0") == "0"


def default_device() -> str:
    """Return the device of this process: its own GPU if there is one, else the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def idle_gpus() -> int:
    """Number of visible GPUs that a run without a launcher would leave idle."""
    import torch

    return max(0, torch.cuda.device_count() - 1) if world_size() == 1 else 0


def describe() -> dict[str, object]:
    """Return the hardware for the run's record."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "processes": world_size(),
        "native_bf16": native_bf16(),
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
