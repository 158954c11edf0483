"""What a compiled program does, read from its text (XLA's HLO) and from the program it was made of."""

from __future__ import annotations

import collections
import math
import re
from typing import Any

import jax
import jax.extend.core

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"([a-z]+)(\d+)(?:e\w+)?\[([\d,]*)\]")


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """Of one execution on one device: how often each kind of collective runs, and the bytes it gives.

    A loop counts as often as its condition's constant says, which is exact for those that `scan` makes.
    """
    computations = _computations(text)
    times = collections.Counter({name: 1 for name, (entry, _) in computations.items() if entry})
    # Callers stand after what they call, so going backwards meets every caller first.
    for name in reversed(computations):
        for line in computations[name][1]:
            loop = _WHILE.search(line)
            if loop:
                condition = "".join(computations[loop[1]][1])
                trips = max(map(int, _CONSTANT.findall(condition)), default=1)
                times[loop[2]] += times[name] * trips
            else:
                for called in _CALLED.findall(line):
                    times[called] += times[name]
    # A collective that runs beside computation is written several times: as its start, steps, and end.
    once = {}
    for name, (_, lines) in computations.items():
        for line in lines:
            found = _COLLECTIVE.search(line)
            if found and times[name]:
                channel = re.search(r"channel_id=(\d+)", line)
                key = channel[1] if channel else line
                once[key] = (found[2], times[name], _bytes(found[1]))
    total: dict[str, tuple[int, int]] = {}
    for kind, count, size in once.values():
        before = total.get(kind, (0, 0))
        total[kind] = (before[0] + count, before[1] + count * size)
    return total


def _computations(text: str) -> dict[str, tuple[bool, list[str]]]:
    """Each computation's name -> whether it is the entry, and its lines; in the order of the text."""
    computations: dict[str, tuple[bool, list[str]]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            lines = []
            computations[start[2]] = (bool(start[1]), lines)
        else:
            lines.append(line)
    return computations


def _bytes(shape: str) -> int:
    """Of an array, or of the arrays of a tuple: "bf16[8,128]{1,0}" has 2,048."""
    total = 0
    for _, bits, dimensions in _ARRAY.findall(shape):
        total += int(bits) * math.prod(int(n) for n in dimensions.split(",") if n) // 8
    return total


def product_flops(jaxpr: jax.extend.core.Jaxpr, devices: int = 1) -> int:
    """Floating-point operations of the matrix products of a traced program, on all `devices` together.

    Loops count as often as they run, what is computed again counts again, and causal attention kernels
    count as if they did not skip what is masked.
    """
    total = 0
    for equation in jaxpr.eqns:
        parameters, name = equation.params, equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left: Any = equation.invars[0].aval
            out: Any = equation.outvars[0].aval
            total += 2 * math.prod(left.shape[i] for i in contracted) * out.size
            continue
        inner = [
            getattr(value, "jaxpr", value)
            for parameter in parameters.values()
            for value in (parameter if isinstance(parameter, (tuple, list)) else (parameter,))
            if hasattr(getattr(value, "jaxpr", value), "eqns")
        ]
        flops = [product_flops(body, devices) for body in inner]
        if name == "scan":
            total += parameters["length"] * sum(flops)
        elif name == "shard_map":
            total += devices * sum(flops)
        elif name == "pallas_call":
            total += math.prod(parameters["grid_mapping"].grid) * sum(flops)
        elif name == "cond":
            total += max(flops)
        else:
            total += sum(flops)
    return total
