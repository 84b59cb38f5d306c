"""Where figures come from: the machine, in general terms, and the versions of what computes."""

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

MEASURED_PACKAGES = ("numpy", "scipy", "torch", "jax", "numdifftools")


def describe_machine() -> dict[str, str | int | None]:
    """Model of the processor, and its cores."""
    described = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", described.read_text(), re.MULTILINE) if described.exists() else []
    return {"cpu": models[0] if models else platform.processor() or platform.machine(), "cores": os.cpu_count()}


def list_versions(names: Sequence[str] = MEASURED_PACKAGES) -> dict[str, str]:
    """Of Python, and of those of the packages that are installed."""
    installed = {distribution.metadata["Name"]: distribution.version for distribution in metadata.distributions()}
    return {"python": platform.python_version()} | {name: installed[name] for name in names if name in installed}
