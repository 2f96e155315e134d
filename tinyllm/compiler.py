"""torch's compiler: checking that it works on this machine, and compiling functions."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compile a function at its first call, for each shape of its arguments.

    Without `deterministic`, torch selects the variant of a kernel that is fastest at its first run,
    and variants sum in different orders.
    """
    return torch.compile(function, fullgraph=True, dynamic=False, options={"deterministic": True})


def obstacle(device: str) -> str | None:
    """Why torch can't compile for a device on this machine; None if it can.

    Compiles a trivial function, because an installed compiler may lack headers or fail to link.
    The result is cached with the kernels of training, so that it is fast the next time.
    """
    if (reason := missing(device)) is not None:
        return reason
    try:
        compiled(_trivial)(torch.zeros(64, device=device))
    except Exception as error:  # of any kind: training would fail too
        reason = _first_cause(str(error)) or type(error).__name__
        if " " in sys.prefix:
            reason += (
                f" (torch does not quote paths, and this environment's has a space: {sys.prefix})"
            )
        return reason
    return None


def missing(device: str) -> str | None:
    """What torch's compiler needs for a device and does not find; None: nothing that is looked for.

    Compiles nothing, so that it takes no time.
    """
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if device == "cpu" and shutil.which(cpp_compiler()) is None:
        return f"there is no C++ compiler ({cpp_compiler()})"
    return None


def cpp_compiler() -> str:
    """The command that torch uses to compile for a CPU; it may not exist."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def cpp_compiler_version() -> str:
    """What that compiler says of its version, such as "g++ (Debian 12.2.0-14) 12.2.0".

    Raises:
        OSError: there is no such compiler.
    """
    command = [cpp_compiler(), "--version"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return done.stdout.partition("\n")[0]


def _trivial(x: Tensor) -> Tensor:
    return 2 * x + 1


def _first_cause(message: str) -> str:
    """The line of a compiler's output that states the error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = (
        line for line in lines if re.search(r"error: |cannot find|No working|Failed to", line)
    )
    return next(telling, next(iter(lines), ""))
