"""Memory that XLA takes and frees at every step is not cleared by the kernel every time."""

import os
import subprocess
import sys

import pytest

from poison_scaling import cli
from tests.support.runs import SMOKE

SCRIPT = """
import ctypes, resource, sys
from poison_scaling.runtime.memory import keep_freed

if sys.argv[1] == "keep":
    keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for turn in range(6):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    piece = libc.malloc(ctypes.c_size_t(64 * 2**20))
    ctypes.memset(piece, 1, 64 * 2**20)
    libc.free(piece)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="is about glibc")
def test_freed_memory_is_kept_where_the_cpu_computes(monkeypatch):
    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", SCRIPT, how]
        return int(
            subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
        )

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert page_faults("keep") < 1000 < page_faults("leave")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu,cuda")
    assert page_faults("keep") > 1000


HUGE = """
from poison_scaling.runtime.memory import keep_freed

keep_freed()
print(*(line for line in open("/proc/self/smaps") if line.startswith("VmFlags")))
"""


@pytest.mark.skipif(
    not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="the kernel has none"
)
def test_kept_memory_is_to_lie_in_huge_pages(monkeypatch):
    def asked() -> bool:
        command = [sys.executable, "-c", HUGE]
        flags = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
        return "hg" in flags.split()

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert asked()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu,cuda")
    assert not asked()


@pytest.mark.parametrize(
    ("command", "arguments", "asks"),
    [
        ("sizes", (), False),
        ("compile", (SMOKE, "--size", "none", "--topology", "v5p:2x2x1"), False),
        ("train", (SMOKE, "--workdir", "none", "--run", "none"), True),
    ],
)
def test_only_commands_that_compute_keep_freed_memory(monkeypatch, command, arguments, asks):
    """The compiler for TPUs allocates in many threads: one arena between them doubles its CPU time."""
    asked = []
    monkeypatch.setattr(cli, "keep_freed", lambda: asked.append(command))
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["poison-scaling", command, *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert asked == [command] * asks
