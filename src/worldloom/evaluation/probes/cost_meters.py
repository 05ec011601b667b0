"""Meters for the cost of dreaming: memory and energy, where this machine lets them be read."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

PROCESS = Path("/proc/self")
"""Where Linux tells a process of its memory."""
POWER = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processors (RAPL)."""

Counter: TypeAlias = Callable[[], float]


class Memory:
    """Growth of memory from :meth:`begin` to the most held since, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device if device.type == "cuda" else None
        self.before = 0.0

    def begin(self) -> None:
        """Forget the most held so far."""
        if self.cuda is not None:
            torch.cuda.synchronize(self.cuda)
            torch.cuda.reset_peak_memory_stats(self.cuda)
            self.before = float(torch.cuda.memory_allocated(self.cuda))
            return
        with contextlib.suppress(OSError):  # where it can't be forgotten, growth beyond it is what is measured
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")
        self.before = _resident("VmRSS")

    def growth(self) -> float | None:
        """Bytes; None where this machine does not tell."""
        if self.cuda is not None:
            torch.cuda.synchronize(self.cuda)
            return float(torch.cuda.max_memory_allocated(self.cuda)) - self.before
        most = _resident("VmHWM")
        return None if most == 0 else max(0.0, most - self.before)

    @property
    def meaning(self) -> str:
        """What is measured, in a sentence."""
        if self.cuda is not None:
            return "Most memory of the GPU allocated beyond what was before, the model's weights not counted."
        if _resident("VmHWM"):
            return "Growth of the process's resident memory while dreaming, the model's weights not counted."
        return "Not readable: this system does not tell a process its resident memory in /proc."


def _resident(field: str) -> float:
    """Bytes of a field of /proc/self/status; 0 where there is none."""
    try:
        lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((1024.0 * float(x.split()[1]) for x in lines if x.startswith(f"{field}:")), 0.0)


def energy_counter(device: torch.device) -> tuple[Counter | None, str]:
    """A function that returns joules spent so far, and of what; or None and why there is none."""
    return _gpu_energy(device) if device.type == "cuda" else _processor_energy()


def _processor_energy() -> tuple[Counter | None, str]:
    domains = sorted(POWER.glob("*-rapl:[0-9]*"))
    whole = [d for d in domains if d.name.count(":") == 1]
    if not whole:
        return None, f"Not readable: this system shows no energy counters in {POWER} (RAPL, of Linux)."
    try:
        spans = [float((d / "max_energy_range_uj").read_text(encoding="ascii")) for d in whole]
        last = [float((d / "energy_uj").read_text(encoding="ascii")) for d in whole]
    except (OSError, ValueError) as error:
        return None, f"Not readable: the energy counters in {POWER} can't be read ({type(error).__name__})."
    total = 0.0

    def joules() -> float:
        nonlocal last, total
        now = [float((d / "energy_uj").read_text(encoding="ascii")) for d in whole]
        total += sum((new - old) % span for new, old, span in zip(now, last, spans, strict=True))
        last = now
        return total / 1e6

    return joules, "the processor's packages"


def _gpu_energy(device: torch.device) -> tuple[Counter | None, str]:
    if importlib.util.find_spec("pynvml") is None:
        return None, "Not readable: the energy of a GPU is told by NVML, and the package nvidia-ml-py is not installed."
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        return None, f"Not readable: NVML does not tell this GPU's energy ({error})."
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3, "the GPU"


__all__ = ["Memory", "energy_counter"]
