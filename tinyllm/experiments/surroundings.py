"""Whether this machine computes what a run computed: processor, threads, precision, versions."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyllm.compute import Compute, choose
from tinyllm.experiments.check import Machine
from tinyllm.experiments.recorded import Recorded
from tinyllm.experiments.run_files import environment
from tinyllm.settings.hardware import Hardware
from tinyllm.settings.train import Train
from tinyllm.training.distributed.launch import processes_here

# What decides the bits of a result, as `Compute` names it, and how the messages name it.
NAMES = {
    "device": "device",
    "device_name": "processor",
    "instruction_set": "instruction set",
    "threads": "threads",
    "precision": "precision",
    "world_size": "processes",
    "sharding": "sharding",
    "compiled": "compiled",
    "cpp_compiler": "C++ compiler",
    "torch_version": "torch",
    "numpy_version": "numpy",
}
# A setting that leaves the choice to the machine: its value then, and what the run recorded.
FREE = {
    "device": ("auto", "device"),
    "precision": ("auto", "precision"),
    "threads": (None, "threads"),
    "processes": (None, "world_size"),
    "compile": ("auto", "compiled"),
}
SHOWN = 6  # packages named in a message


def compute_here(hardware: dict[str, Any], train: dict[str, Any]) -> Compute:
    """What a training with these settings would compute with on this machine.

    Args:
        hardware, train: sections of params.yaml.

    Raises:
        ValueError: the device or the compiler in the settings is not available.
    """
    settings = Hardware.model_validate(hardware)
    here = processes_here(settings)
    machine = Machine(local_size=here, size=here * settings.nodes, first=False)
    return choose(settings, machine, Train.model_construct(**train).flops)


def pinned(
    hardware: dict[str, Any], train: dict[str, Any], resolved: dict[str, str]
) -> dict[str, Any]:
    """The settings of the hardware that make this machine choose what the run chose.

    A setting that already gives the same here keeps its value, and so does one whose recorded
    value is not available here.

    Args:
        hardware, train: sections of params.yaml.
        resolved: what the run computed with; see `Recorded.resolved`.
    """
    result = dict(hardware)
    for key, (free, name) in FREE.items():
        if key in result and result[key] == free and name in resolved:
            here = asdict(compute_here(result, train))[name]
            if str(here) != resolved[name]:
                attempt = result | {key: type(here)(_value(resolved[name], here))}
                try:
                    compute_here(attempt, train)
                except ValueError:  # no such device here, say
                    continue
                result = attempt
    return result


def _value(text: str, like: object) -> Any:
    return text == "True" if isinstance(like, bool) else text


def differences(run: Recorded, here: Compute, root: Path) -> list[str]:
    """In what this machine differs from the one that made a run, one line for each.

    Args:
        here: what the reproduction computes with.
        root: the project.
    """
    there = run.resolved
    found = [
        f"{name}: {there[key]}, here {value}"
        for key, name in NAMES.items()
        if key in there and there[key] != (value := str(asdict(here)[key]))
    ]
    if not run.environment:
        return found
    now = environment(root)
    for key in ("processor", "python", "system", "libc"):
        then, this = run.environment.get(key), now[key]
        if then != this and not (key == "processor" and any(f.startswith(key) for f in found)):
            found.append(f"{key}: {then}, here {this}")
    return [*found, *_packages(run.environment.get("packages", {}), now["packages"])]


def _packages(then: dict[str, str], now: dict[str, str]) -> list[str]:
    shown = {"torch", "numpy"}  # named by `NAMES`
    changed = [
        f"{name} {then.get(name, 'missing')}, here {now.get(name, 'missing')}"
        for name in sorted((then.keys() | now.keys()) - shown)
        if then.get(name) != now.get(name)
    ]
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return [f"packages: {'; '.join(changed[:SHOWN])}{more}"] if changed else []
