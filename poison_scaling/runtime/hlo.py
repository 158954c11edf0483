"""Statistics of compiled programs: collectives from their HLO text, and FLOPs from their jaxpr."""

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
    """Return, per kind of collective, how often it runs on one device and the bytes of its results.

    The counts are of one execution of the HLO `text`. The trip count of a loop is taken from the constant in
    its condition, which is exact for loops that come from `scan`.
    """
    computations = _computations(text)
    times = collections.Counter({name: 1 for name, (entry, _) in computations.items() if entry})
    # A computation is printed before its callers, so in reverse order every caller comes first.
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
    # An asynchronous collective is printed several times: its start, its steps and its end.
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
    """Return the computations by name, in the order of the text: whether it is the entry, and its lines."""
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
    """Return the bytes of an array or of a tuple of arrays: 2,048 for "bf16[8,128]{1,0}"."""
    total = 0
    for _, bits, dimensions in _ARRAY.findall(shape):
        total += int(bits) * math.prod(int(n) for n in dimensions.split(",") if n) // 8
    return total


def product_flops(jaxpr: jax.extend.core.Jaxpr, devices: int = 1) -> int:
    """Return the floating-point operations of the matrix products of a jaxpr, on all `devices` together.

    Loops count once per iteration, rematerialised products count each time, and causal attention kernels
    count as if they did not skip masked blocks.
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
