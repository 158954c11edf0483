"""A real SLURM on this machine: controller, node and client on 127.0.0.1, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=30
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=3600
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=cpu Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Say why there can be no SLURM here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"SLURM is not installed (apt-get install slurm-wlm munge): no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "SLURM's daemons start as root alone"


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def cluster(folder: pathlib.Path) -> Generator[dict[str, str]]:
    """Start SLURM in `folder`; yield the environment in which its commands find it; stop it."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(32))
    key.chmod(0o400)
    ports = {"controller": _free_port(), "node": _free_port()}
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, **ports))
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": _path()}

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run(
            *("munged", "--force", f"--key-file={key}", f"--socket={folder}/munge/socket"),
            *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munge/log"),
            f"--seed-file={folder}/munge/seed",
        )
        run("slurmctld", "-f", str(config))
        run("slurmd", "-f", str(config), "-N", "localhost")
        for _ in range(600):
            found = subprocess.run(
                ["sinfo", "--noheader"], env=environment, capture_output=True, text=True
            )
            if "idle" in found.stdout:
                break
            time.sleep(0.2)
        else:
            raise AssertionError((folder / "slurmctld.log").read_text()[-2000:])
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        time.sleep(2)
        for name in ("slurmd", "slurmctld", "munged"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)
