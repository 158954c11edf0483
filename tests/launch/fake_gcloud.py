"""A cloud in a folder, which behaves as gcloud does: queued resources, ssh, storage, and their failures.

`cloud.py` puts it into PATH as `gcloud`. It knows the flags of gcloud 528 that launch/ uses and refuses
others, as gcloud would. A resource moves through ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING and ACTIVE
with time; workers are folders with a HOME of their own, and commands sent to them are real processes.

FAKE_CLOUD/script.json says what goes wrong: lists of words that are used up from the front, a call each.
  create     ok, quota, denied, failed, preempted, lost (accepted, but the answer does not arrive),
             slow (PROVISIONING for 3 s, in which it cannot be deleted)
  ssh        ok, drop (before the command), cut (after it), partly (all workers but the last)
  delete     ok, error, ignored
  describe   ok, error
  cat        ok, partly (of several files, not the last)
While `offline` is true, no call from outside the cloud gets through.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

CLOUD = Path(os.environ["FAKE_CLOUD"])
STEP = 0.06  # seconds in each state on the way

FLAGS = {
    ("compute", "tpus", "queued-resources", "create"): (
        *("project", "zone", "accelerator-type", "runtime-version", "node-id", "node-count"),
        *("node-prefix", "spot", "reserved", "valid-until-duration", "scopes", "service-account"),
        *("metadata-from-file", "async", "quiet", "data-disk", "network", "subnetwork"),
        *("internal-ips", "labels", "tags"),
    ),
    ("compute", "tpus", "queued-resources", "describe"): ("project", "zone", "format"),
    ("compute", "tpus", "queued-resources", "delete"): (
        *("project", "zone", "force", "async", "quiet"),
    ),
    ("compute", "tpus", "queued-resources", "ssh"): (
        *("project", "zone", "node", "worker", "batch-size", "command", "quiet", "ssh-flag"),
        "tunnel-through-iap",
    ),
    ("storage", "cp"): ("quiet",),
    ("storage", "cat"): (),
    ("storage", "ls"): (),
    ("storage", "rsync"): ("recursive", "exclude", "quiet"),
    ("fake", "preempt"): ("hard",),  # the cloud takes a slice away
    ("fake", "list"): (),
}


class Refused(Exception):
    """What gcloud prints before it exits with 1."""


# ------------------------------------------------------------------------------------------- state


@contextlib.contextmanager
def locked():
    with (CLOUD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def script() -> dict:
    return json.loads((CLOUD / "script.json").read_text())


def next_word(name: str) -> str:
    """What the script says of this call."""
    with locked():
        words = script()
        left = words.get(name, [])
        word = left.pop(0) if left else "ok"
        save(CLOUD / "script.json", words)
    return word


def save(path: Path, value) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value))
    partial.replace(path)


def resource_file(name: str) -> Path:
    return CLOUD / "resources" / f"{quote(name, safe='')}.json"


def found(name: str, verb: str) -> dict:
    """The resource as it is now. The caller holds the lock."""
    file = resource_file(name)
    if file.exists():
        resource = advance(json.loads(file.read_text()))
        if resource:
            return resource
    raise Refused(
        f"ERROR: (gcloud.compute.tpus.queued-resources.{verb}) NOT_FOUND: Resource "
        f"'projects/p/locations/z/queuedResources/{name}' was not found"
    )


def advance(resource: dict) -> dict | None:
    """Let time have passed."""
    on_the_way = {
        "ACCEPTED": "WAITING_FOR_RESOURCES",
        "WAITING_FOR_RESOURCES": "PROVISIONING",
        "PROVISIONING": {"failed": "FAILED", "preempted": "SUSPENDING"}.get(
            resource["fate"], "ACTIVE"
        ),
        "SUSPENDING": "SUSPENDED",
        "DELETING": None,
    }
    while resource["state"] in on_the_way and time.time() >= resource["since"] + step(resource):
        state = on_the_way[resource["state"]]
        if state is None:
            resource_file(resource["name"]).unlink()
            return None
        move(resource, state, resource["since"] + step(resource))
        if state == "ACTIVE":
            boot(resource)
    return resource


def step(resource: dict) -> float:
    """Seconds that a resource spends in its state."""
    return 3 if resource["fate"] == "slow" and resource["state"] == "PROVISIONING" else STEP


def move(resource: dict, state: str, when: float) -> None:
    resource.update(state=state, since=when)
    save(resource_file(resource["name"]), resource)
    log({"resource": resource["name"], "state": state})


def log(record: dict) -> None:
    with (CLOUD / "log.jsonl").open("a") as f:
        f.write(json.dumps({"time": time.time(), **record}) + "\n")


# ------------------------------------------------------------------------------------------ workers


def boot(resource: dict) -> None:
    """Empty machines, each with the resource's startup script running."""
    for machine in resource["machines"]:
        home = Path(machine["home"])
        (home / "bin").mkdir(parents=True)
        write_program(home / "bin" / "gcloud", (CLOUD / "bin" / "gcloud").read_text())
        write_program(home / "bin" / "python3.11", PYTHON.replace("PYTHON", sys.executable))
        metadata = home / "metadata"
        metadata.mkdir()
        (metadata / "agent-worker-number").write_text(str(machine["worker"]))
        (metadata / "worker-network-endpoints").write_text(
            ",".join(f"unknown:unknown:10.0.0.{i}" for i in range(machine["of"]))
        )
        (metadata / "tpu-env").write_text(
            f"NODE_ID: 'n'\nMEGASCALE_NUM_SLICES: '{machine['slices']}'\n"
            f"MEGASCALE_SLICE_ID: '{machine['slice']}'\nWORKER_ID: '{machine['worker']}'\n"
        )
        curl = '#!/bin/bash\nurl="${*: -1}"\nexec cat "$HOME/metadata/${url##*/}"\n'
        write_program(home / "bin" / "curl", curl)
        if resource["startup"]:
            (home / "startup.sh").write_text(resource["startup"])
            subprocess.Popen(
                ["bash", str(home / "startup.sh")],
                env=environment(machine),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            ).wait()


# Makes environments without installing anything, and counts how often it is asked to.
PYTHON = """#!/bin/bash
set -e
[[ $1 == -m && $2 == venv ]]
sleep "${INSTALL_SECONDS:-0}"
mkdir -p "$3/bin"
printf '#!/bin/bash\\nexec PYTHON "$@"\\n' > "$3/bin/python"
printf '#!/bin/bash\\nexec PYTHON %s "$@"\\n' "${TRAINER:--m poison_scaling.cli}" > "$3/bin/poison-scaling"
printf '#!/bin/bash\\necho "$@" >> "$HOME/pip.log"\\n' > "$3/bin/pip"
chmod +x "$3/bin/"*
"""


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def environment(machine: dict) -> dict[str, str]:
    home = machine["home"]
    return {
        "PATH": f"{home}/bin:/usr/bin:/bin",
        "HOME": home,
        "FAKE_CLOUD": str(CLOUD),
        "FAKE_MACHINE": home,
        "POISON_ALIVE": f"{home}/alive",
        **script().get("environment", {}),
    }


def kill(resource: dict, number: int) -> None:
    """A signal to every process of the workers."""
    homes = {f"FAKE_MACHINE={machine['home']}".encode() for machine in resource["machines"]}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if homes & set((process / "environ").read_bytes().split(b"\0")):
                os.kill(int(process.name), number)


# ----------------------------------------------------------------------------------- queued resources


def create(names: list[str], flags: dict) -> None:
    (name,) = names
    word = next_word("create")
    head = "ERROR: (gcloud.compute.tpus.queued-resources.create) "
    if word == "quota":
        raise Refused(head + "RESOURCE_EXHAUSTED: Quota limit 'TPUV5PPerProjectPerZone' exceeded.")
    if word == "denied":
        raise Refused(head + "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied.")
    if ("node-id" in flags) == ("node-count" in flags):
        raise Refused(head + "Exactly one of --node-id, --node-count must be specified.")
    slices = int(flags.get("node-count", 1))
    hosts = script().get("hosts", 1)
    with locked():
        if resource_file(name).exists():
            raise Refused(head + f"ALREADY_EXISTS: Resource '{name}' already exists")
        startup = flags.get("metadata-from-file", "").partition("startup-script=")[2]
        number = len(list((CLOUD / "machines").iterdir()))
        machines = [
            {"slice": s, "slices": slices, "worker": w, "of": hosts}
            for s in range(slices)
            for w in range(hosts)
        ]
        for i, machine in enumerate(machines, number):
            machine["home"] = str(CLOUD / "machines" / str(i))
            Path(machine["home"]).mkdir()
        resource = {
            "name": name,
            "fate": word,
            "owner": flags.get("labels", "").partition("=")[2],
            "machines": machines,
            "startup": Path(startup).read_text() if startup else "",
        }
        move(resource, "ACCEPTED", time.time())
    if word == "lost":
        raise Refused("ERROR: gcloud crashed (ConnectionError): ('Connection aborted.')")


def describe(names: list[str], flags: dict) -> None:
    if next_word("describe") == "error":
        raise Refused(
            "ERROR: (gcloud.compute.tpus.queued-resources.describe) UNAVAILABLE: try again"
        )
    with locked():
        resource = found(names[0], "describe")
    if "labels" in flags["format"]:
        print(resource["owner"])
    elif "failedData" in flags["format"]:
        print("there is no more capacity of this type in the zone")
    else:
        print(resource["state"])


def delete(names: list[str], flags: dict) -> None:
    word = next_word("delete")
    if word == "error":
        raise Refused("ERROR: (gcloud.compute.tpus.queued-resources.delete) INTERNAL: try again")
    with locked():
        resource = found(names[0], "delete")
        if word == "ignored":
            return
        if resource["state"] == "PROVISIONING":
            raise Refused("FAILED_PRECONDITION: the queued resource is being provisioned")
        if "force" not in flags and resource["state"] == "ACTIVE":
            raise Refused("FAILED_PRECONDITION: the queued resource has nodes; use --force")
        kill(resource, signal.SIGKILL)
        if resource["state"] != "DELETING":
            move(resource, "DELETING", time.time())


def preempt(names: list[str], flags: dict) -> None:
    with locked():
        resource = found(names[0], "describe")
        if "hard" not in flags:
            kill(resource, signal.SIGTERM)
            time.sleep(1.0)  # the real cloud gives 30 s
        kill(resource, signal.SIGKILL)
        move(resource, "SUSPENDING", time.time())


def list_resources(names: list[str], flags: dict) -> None:
    """Every resource that exists, after time has passed: what the tests look at in the end."""
    with locked():
        for file in sorted((CLOUD / "resources").glob("[!.]*.json")):
            resource = advance(json.loads(file.read_text()))
            if resource:
                print(json.dumps({"name": resource["name"], "state": resource["state"]}))


def ssh(names: list[str], flags: dict) -> int:
    word = next_word("ssh")
    if word == "drop":
        print("ssh: connect to host 10.0.0.1 port 22: Connection timed out", file=sys.stderr)
        return 255
    with locked():
        resource = found(names[0], "ssh")
    if resource["state"] != "ACTIVE":
        raise Refused(f"ERROR: TPU node is in state {resource['state']}")
    machines = resource["machines"]
    if flags.get("worker") != "all" or flags.get("node") != "all":
        machines = machines[:1]
    if word == "partly":
        print("Could not prepare all nodes, attempting to ssh into the rest.", file=sys.stderr)
        machines = machines[:-1]
    processes = [
        subprocess.Popen(
            ["bash", "-c", flags["command"]],
            cwd=machine["home"],
            env=environment(machine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for machine in machines
    ]
    codes = []
    for process in processes:
        output, _ = process.communicate()  # as ssh does, until nothing holds the output open
        sys.stdout.buffer.write(output)
        codes.append(process.returncode)
    return 255 if word == "cut" else max(codes, key=abs)


# ----------------------------------------------------------------------------------------- storage


def local(url: str) -> Path:
    if not url.startswith("gs://"):
        return Path(url)
    bucket, _, rest = url[len("gs://") :].partition("/")
    if not (CLOUD / "buckets" / bucket).is_dir():
        raise Refused(f"ERROR: (gcloud.storage) gs://{bucket} not found: 404.")
    return CLOUD / "buckets" / bucket / rest


def matching(url: str) -> list[Path]:
    """Files of a URL, * being any characters within a part of it."""
    path = local(url)
    if "*" not in url:
        return [path] if path.is_file() else []
    pattern = re.escape(str(path)).replace(r"\*", "[^/]*")
    files = (Path(f) / name for f, _, names in os.walk(CLOUD / "buckets") for name in names)
    return sorted(file for file in files if re.fullmatch(pattern, str(file)))


def copy(names: list[str], flags: dict) -> None:
    source, target = map(local, names)
    if not source.is_file():
        raise Refused(f"ERROR: (gcloud.storage.cp) no URLs matched: {names[0]}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial)
    partial.replace(target)


def cat(names: list[str], flags: dict) -> None:
    for name in names:
        files = matching(name)
        if len(files) > 1 and next_word("cat") == "partly":
            files = files[:-1]
        if not files:
            raise Refused(f"ERROR: (gcloud.storage.cat) no URLs matched: {name}")
        for file in files:
            sys.stdout.buffer.write(file.read_bytes())


def list_folder(names: list[str], flags: dict) -> None:
    folder = local(names[0])
    if not folder.is_dir():
        raise Refused(f"ERROR: (gcloud.storage.ls) no URLs matched: {names[0]}")
    for path in sorted(folder.iterdir()):
        print(names[0].rstrip("/") + "/" + path.name + ("/" if path.is_dir() else ""))


def rsync(names: list[str], flags: dict) -> None:
    source, target = map(local, names)
    if not source.is_dir():
        raise Refused(f"ERROR: (gcloud.storage.rsync) no such container: {names[0]}")
    for folder, _, files in os.walk(source):
        for file in files:
            relative = str((Path(folder) / file).relative_to(source))
            if "exclude" in flags and re.match(flags["exclude"], relative):
                continue
            goal = target / relative
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / relative, goal)


VERBS = {
    "create": create,
    "describe": describe,
    "delete": delete,
    "ssh": ssh,
    "cp": copy,
    "cat": cat,
    "ls": list_folder,
    "rsync": rsync,
    "preempt": preempt,
    "list": list_resources,
}


def main(arguments: list[str]) -> int:
    log({"call": arguments, "machine": os.environ.get("FAKE_MACHINE")})
    command = next(c for c in FLAGS if tuple(arguments[: len(c)]) == c)
    names, flags = [], {}
    if script().get("offline") and "FAKE_MACHINE" not in os.environ and command[0] != "fake":
        print("ERROR: gcloud crashed (ConnectionError): Network is unreachable", file=sys.stderr)
        return 1
    for argument in arguments[len(command) :]:
        if argument.startswith("--"):
            name, _, value = argument[2:].partition("=")
            if name not in FLAGS[command]:
                print(
                    f"ERROR: ({'.'.join(command)}) unrecognized arguments: {argument}",
                    file=sys.stderr,
                )
                return 2
            flags[name] = value
        else:
            names.append(argument)
    try:
        return VERBS[command[-1]](names, flags) or 0
    except Refused as e:
        print(e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
