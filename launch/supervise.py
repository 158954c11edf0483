"""Run a command on a worker of a slice, tell how it goes, and keep its exit code; on_vm.sh starts it.

    python3 supervise.py URL JOB WORKER WORKERS COMMAND...

The command's output goes to JOB/log and its state, one line as in on_vm.sh, to JOB/state; both are copied to
URL/WORKER.log and URL/WORKER.state. SIGTERM is passed on to the command. Needs nothing but Python 3.8, which
every image of a TPU VM has. (In bash, a signal at the command's end makes `wait` lose its exit code.)
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ALIVE = Path(os.environ.get("POISON_ALIVE", "/var/tmp/poison_scaling.alive"))  # for watchdog.sh
BEAT_SECONDS = float(os.environ.get("BEAT_SECONDS", "60"))
# Without a step, an evaluation or prepared data for so long, the command hangs.
STALL_SECONDS = float(os.environ.get("STALL_SECONDS", "7200"))
INTERRUPTED = 75


def main(url: str, job: str, worker: str, workers: str, *command: str) -> None:
    log, state, progress = (Path(job) / name for name in ("log", "state", "progress"))
    killed = threading.Event()
    ended = threading.Event()
    signalled = threading.Event()

    def tell(condition: str, code: object = "", beat: int = 0) -> None:
        partial = state.with_name(".state")
        partial.write_text(
            f"worker={worker} of={workers} state={condition} code={code} beat={beat}\n"
        )
        partial.replace(state)  # whole or not at all

    def upload() -> bool:
        for file, target in ((log, f"{url}/{worker}.log"), (state, f"{url}/{worker}.state")):
            code = subprocess.call(["gcloud", "storage", "cp", "--quiet", str(file), target])
        return code == 0  # the state's, which babysit.sh waits for

    signal.signal(signal.SIGTERM, lambda *_: signalled.set())
    # Changed by poison-scaling whenever it makes progress; other commands leave it alone.
    if command[0] == "poison-scaling":
        progress.touch()
    with log.open("wb") as output:
        # bash has words for a command that is not there.
        child = subprocess.Popen(
            ["bash", "-c", 'exec "$@"', "bash", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "POISON_SCALING_HEARTBEAT": str(progress)},
        )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    if signalled.is_set():
        child.terminate()

    def kill_when_it_hangs() -> None:
        if killed.is_set() or not progress.exists():
            return
        if time.time() - progress.stat().st_mtime > STALL_SECONDS:
            with log.open("a") as f:
                f.write(
                    f"supervise: no progress for {STALL_SECONDS:g} s; the command is killed, and "
                    "resumes from its last checkpoint.\n"
                )
            killed.set()
            child.kill()

    def beat() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                ALIVE.touch()
            except OSError as e:
                print(f"{ALIVE}: {e}", file=sys.stderr)
            tell("running", beat=number)
            upload()
            kill_when_it_hangs()
            ended.wait(BEAT_SECONDS)

    tell("running")
    beats = threading.Thread(target=beat)
    beats.start()
    code = child.wait()
    ended.set()
    beats.join()  # between two uploads, so that none overtakes the last one
    if killed.is_set():
        code = INTERRUPTED
    elif code < 0:
        code = 128 - code
    tell("exited", code)
    for _ in range(5):
        if upload():
            return
        time.sleep(5)


if __name__ == "__main__":
    main(*sys.argv[1:])
