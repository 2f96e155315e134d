"""How the processes of a training find each other."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
import torch.distributed as dist

from tinyllm.compute import find_device
from tinyllm.settings.hardware import Hardware
from tinyllm.training.distributed.ddp import DDP, Group


@contextmanager
def joined(settings: Hardware) -> Iterator[Group]:
    """Join the process group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe.

    Raises:
        ValueError: their number differs from the settings, or there are too few devices.
    """
    device, local_rank = find_device(settings.device), int(os.environ.get("LOCAL_RANK", "0"))
    size = int(os.environ["WORLD_SIZE"])
    if settings.processes is not None and size != settings.processes * settings.nodes:
        raise ValueError(
            f"hardware.processes = {settings.processes}, hardware.nodes = {settings.nodes}: "
            f"{size} processes were started instead"
        )
    if device == "mps" or (device == "cuda" and local_rank >= torch.cuda.device_count()):
        raise ValueError(f"hardware.processes: no {device} device for process {local_rank}")
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    if interface := interface_towards(address, int(port)):
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    group = make_group(settings.sharding)
    yield group
    group.leave()


def make_group(sharding: str) -> Group:
    """This process as a member of the group, for the value of hardware.sharding."""
    if sharding == "none":
        return DDP()
    from tinyllm.training.distributed.fsdp import FSDP  # takes half a second

    return FSDP()


def interface_towards(address: str, port: int) -> str | None:
    """The network interface that reaches an address; gloo by default resolves the host's name."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)  # a datagram socket: sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.split("%")[0] == own for each in addresses):
            return name
    return None
