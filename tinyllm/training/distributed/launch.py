"""Starting the processes of a training, and reporting how one of them failed.

The launcher is that of `torchrun`: each process runs the stage's command again, with RANK and
WORLD_SIZE in its environment. You can start them with `torchrun` as well.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyllm.common.console import cause
from tinyllm.common.errors import RunAgain
from tinyllm.settings.hardware import Hardware
from tinyllm.training.compiled import keep_kernels
from tinyllm.training.distributed.processes import ALONE, Processes

PORT = 29500  # as for torchrun
MEETING_PATIENCE = 3600  # seconds to wait for the other machines
STOP_PATIENCE = 600  # seconds for a step and its save after a request to stop
LOSS_PATIENCE = 5.0  # seconds in which the launcher finds a dead rank before the others report it
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # where the launcher looks for why a rank failed
INTERRUPTED = 130  # exit status of an interrupted rank
RUN_AGAIN = 75  # exit status of a rank that failed with RunAgain

Work = Callable[[Processes], None]


def run(work: Work, settings: Hardware, module: str) -> None:
    """Run a stage in this process, or in as many processes as the settings require.

    Args:
        module: the stage's module, run again as `python -m MODULE` with this process's arguments.

    Raises:
        ValueError: the settings don't fit the machine.
        OSError: a rank failed or was killed.
    """
    if settings.compile:
        keep_kernels()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        run_rank(work, settings)
        return
    count = processes_here(settings)
    if count * settings.nodes > 1:
        start(settings, count, module)
        return
    work(ALONE)


def processes_here(settings: Hardware) -> int:
    """How many processes of a training the settings ask for on this machine.

    Raises:
        ValueError: the device is not available, or there is only one process to share a model.
    """
    count = settings.processes or max(1, gpus(settings))
    if count * settings.nodes == 1 and settings.sharding != "none":
        raise ValueError(f"hardware.sharding = {settings.sharding!r}: needs more than one process")
    return count


def gpus(settings: Hardware) -> int:
    """The number of CUDA devices that training may use."""
    import torch

    from tinyllm.compute import find_device

    return torch.cuda.device_count() if find_device(settings.device) == "cuda" else 0


def start(settings: Hardware, count: int, module: str) -> None:
    """Start this machine's processes and wait until they exit; raises as `run` does."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # the launcher would log every failure too
    # STARTER_EXITED is excluded: it ends this process, and the ranks stop on their own. If the
    # launcher forwarded it, a second signal would end the ranks in the middle of a step.
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not nohup
        signals.append(signal.SIGHUP)
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=settings.nodes,
            max_nodes=settings.nodes,
            nproc_per_node=count,
            run_id="tinyllm",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=",".join(each.name for each in signals),
            shutdown_timeout=STOP_PATIENCE,
            **meeting(settings.nodes),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *sys.argv[1:])
        except ChildFailedError as failed:
            rank, failure = next(iter(failed.failures.items()))  # the first one found
            raise_failure(rank, failure.exitcode, failure.message)
        except SignalException:  # forwarded to the ranks, which have exited
            for file in sorted(Path(folder).rglob("error.json")):
                raise_failure(0, 1, json.loads(file.read_text())["message"])
            sys.exit(INTERRUPTED)


def meeting(nodes: int) -> dict[str, Any]:
    """The rendezvous of all machines' launchers, as arguments of LaunchConfig.

    Raises:
        ValueError: MASTER_ADDR is missing, or NODE_RANK is not a valid number.
    """
    if nodes == 1:
        local = "127.0.0.1"
        return {"rdzv_backend": "c10d", "rdzv_endpoint": f"{local}:0", "local_addr": local}
    address, node = os.environ.get("MASTER_ADDR"), os.environ.get("NODE_RANK", "0")
    if not address:
        raise ValueError(
            f"hardware.nodes = {nodes}: set the variable MASTER_ADDR to the first machine's address"
        )
    if not node.isdecimal() or int(node) >= nodes:
        raise ValueError(f"NODE_RANK = {node}: must be this machine's number, 0 to {nodes - 1}")
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{address}:{os.environ.get('MASTER_PORT', PORT)}",
        "rdzv_configs": {"rank": int(node), "timeout": MEETING_PATIENCE},
    }


def raise_failure(rank: int, status: int, message: str) -> None:
    """Raise an error that describes how the first failed rank failed."""
    if status == INTERRUPTED:
        sys.exit(INTERRUPTED)  # the first rank has printed why
    if status < 0:
        name = signal.Signals(-status).name
        message = f"was killed by {name}; run the command again to resume from the last checkpoint"
        raise ChildProcessError(f"rank {rank} {message}")
    if status == RUN_AGAIN:
        raise RunAgain(f"rank {rank}: {message}")
    *trace, last = message.splitlines()
    if "Traceback" in message:
        print(*trace, sep="\n", file=sys.stderr)
        raise ChildProcessError(f"rank {rank} failed: {last}")
    raise ChildProcessError(f"rank {rank}: {message}")


def run_rank(work: Work, settings: Hardware) -> None:
    """Run the work as one of several processes, and write a failure to the launcher's file."""
    from tinyllm.training.distributed.ddp import lost_another
    from tinyllm.training.distributed.rendezvous import joined

    try:
        with joined(settings) as processes:
            work(processes)
    except KeyboardInterrupt:
        if os.environ["RANK"] == "0":
            raise
        sys.exit(INTERRUPTED)
    except Exception as error:  # the launcher reports every kind
        message = cause(error)
        if lost_another(error):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(LOSS_PATIENCE)  # the launcher ends this process if the other was local
            message = "a process on another machine exited; see that machine's output for the cause"
        if not (file := os.environ.get(ERROR_FILE)):
            raise
        content = {"message": message or traceback.format_exc(), "timestamp": time.time()}
        Path(file).write_text(json.dumps(content))
        sys.stdout.flush()
        sys.stderr.flush()
        # Without the interpreter's end, at which a thread of gloo's that still runs aborts the
        # process ("terminate called without an active exception").
        os._exit(RUN_AGAIN if isinstance(error, RunAgain) else 1)
