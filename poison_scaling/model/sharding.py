"""The device mesh, the table from logical axes to mesh axes, and the shardings that follow from it.

Computations use `jax.jit` with NamedSharding. Mesh axes are of type Auto: the compiler chooses the sharding
of what the table leaves open.
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
    "batch": ("data", "fsdp"),
    "groups": "data",  # of sequences, in an array with another axis over fsdp
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocabulary": "tensor",
}


def platform(mesh: Mesh | None) -> str:
    """Return the platform of the mesh's devices, "cpu", "gpu" or "tpu"; without a mesh, JAX's default."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """Return the compiler options of a train step for the mesh's generation of chips."""
    return chips.compiler_options(mesh.devices.flat[0].device_kind)


def spec(*axes: str | None) -> PartitionSpec:
    """Return the PartitionSpec of logical axes; None is an axis that is not sharded."""
    return PartitionSpec(*(axis and RULES[axis] for axis in axes))


def constrain(x: jax.Array, axes: tuple[str | None, ...], mesh: Mesh | None) -> jax.Array:
    """Constrain the sharding of `x`, within jit, by its logical axes. Without a mesh, return `x` as it is."""
    if mesh is None or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(*axes)))


def replicate(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Replicate `x` over all devices, within jit, so that every process can read it."""
    return constrain(x, (None,) * x.ndim, mesh)


def mesh(
    shape: tuple[int, int, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Return a mesh of `devices`, by default all of them, along the data axis unless `shape` is given.

    One part of `shape` may be -1, which takes what the others leave. With several TPU slices, the data axis
    is the one that spans slices, because the network between them is the slowest. Raises InputError if
    `shape` does not multiply to the number of devices.
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


def check_heads(heads: int, mesh: Mesh | None) -> None:
    """Raise InputError if heads of keys and values, which queries share, cannot be split over the mesh."""
    if mesh is not None and heads % mesh.shape[RULES["heads"]]:
        raise InputError(
            f"machine.mesh: its {RULES['heads']} axis of {mesh.shape[RULES['heads']]} does not divide the "
            f"{heads} heads of keys and values."
        )


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """Return the sharding of a batch over data and fsdp axes. Raises InputError if they do not divide it."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % shards:
        raise InputError(
            f"train.batch_size={batch_size}: the mesh splits a batch over {shards} groups of devices, "
            "which must divide it."
        )
    return NamedSharding(mesh, spec("batch"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def parameter_shardings(parameters: nnx.State, mesh: Mesh) -> dict:
    """Return the sharding of each parameter, by its logical axes, as a tree of plain dicts.

    Raises InputError if a mesh axis does not divide an axis that is sharded over it.
    """

    def sharding(path, parameter):
        axes = parameter.get_metadata("axes")
        # Parameters of scanned blocks have a leading axis of layers, which is not sharded.
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
