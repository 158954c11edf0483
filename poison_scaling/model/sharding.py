"""The device mesh, one table from logical axes to mesh axes, and the shardings that follow from it.

Computations are `jax.jit` with NamedSharding, which is what pjit is called today. The mesh axes are Auto:
the compiler places what the table does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from flax import nnx
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poison_scaling.runtime import chips
from poison_scaling.runtime.errors import InputError

AXES = ("data", "fsdp", "tensor")

RULES = {
    "batch": ("data", "fsdp"),  # of a batch
    "groups": "data",  # of rows, where fsdp holds something else of them
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocabulary": "tensor",
}


def platform(mesh: Mesh | None) -> str:
    """Of the devices of the mesh: "cpu", "gpu" or "tpu"; without one, of JAX's own."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """For jax.jit of a train step: what the generation of the mesh's chips supports."""
    return chips.compiler_options(mesh.devices.flat[0].device_kind)


def spec(*axes: str | None) -> PartitionSpec:
    """Where logical axes lie on the mesh; None is an axis that every device has whole."""
    return PartitionSpec(*(axis and RULES[axis] for axis in axes))


def constrain(x: jax.Array, axes: tuple[str | None, ...], mesh: Mesh | None) -> jax.Array:
    """Within jit: `x`, laid out on `mesh` by its logical axes. Without a mesh, `x` as it is."""
    if mesh is None or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(*axes)))


def replicate(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Within jit: `x`, whole on every device, so that every process can read it."""
    return constrain(x, (None,) * x.ndim, mesh)


def mesh(
    shape: tuple[int, int, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh of `devices`, all there are unless given; by default all of them along "data".

    One part of `shape` may be -1: what the others leave. When the devices are in several TPU slices, the
    data axis runs over the slices first, because the network between them is the slowest.
    Raises InputError when `shape` does not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    given = shape or (-1, 1, 1)
    known = math.prod(part for part in given if part != -1)
    data, fsdp, tensor = (len(devices) // known if part == -1 else part for part in given)
    if data * fsdp * tensor != len(devices):
        takes = known if -1 not in given else f"a multiple of {known}"
        raise InputError(
            f"machine.mesh={given}: it takes {takes} devices, and there are {len(devices)}."
        )
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        if data % slices:
            raise InputError(
                f"machine.mesh={given}: its data axis of {data} must be a multiple of the {slices} "
                "slices."
            )
        within = (data // slices, fsdp, tensor)
        array = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), devices)
    else:
        array = mesh_utils.create_device_mesh((data, fsdp, tensor), devices)
    return Mesh(array, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Sequences of a batch over the data and fsdp axes.

    Raises InputError when they do not divide the batch.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % shards:
        raise InputError(
            f"train.batch_size={batch_size}: the mesh deals rows to {shards} groups of devices, "
            "and that must divide them."
        )
    return NamedSharding(mesh, spec("batch"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def parameter_shardings(parameters: nnx.State, mesh: Mesh) -> dict:
    """A sharding for each parameter, by the logical axes it was made with: a tree of plain dicts.

    Raises InputError when a mesh axis does not divide an axis that is dealt over it.
    """

    def sharding(path, parameter):
        axes = parameter.get_metadata("axes")
        # Those of scanned blocks have an axis of layers in front, which every device has whole.
        layers = (None,) * (len(parameter.shape) - len(axes))
        for size, axis in zip(parameter.shape[len(layers) :], axes, strict=True):
            if size % mesh.shape[RULES[axis]]:
                raise InputError(
                    f"machine.mesh: its {RULES[axis]} axis of {mesh.shape[RULES[axis]]} does not divide "
                    f"the {size} of axis {axis!r} of {'.'.join(map(str, path))}."
                )
        return NamedSharding(mesh, spec(*layers, *axes))

    flat = {path: sharding(path, p) for path, p in nnx.to_flat_state(parameters)}
    return nnx.traversals.unflatten_mapping(flat)
