"""The device mesh, one table from logical axes to mesh axes, and the shardings that follow from it.

Computations are `jax.jit` with NamedSharding, which is what pjit is called today. The mesh axes are Auto:
the compiler places what the table does not.
"""

from __future__ import annotations

import jax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from poison_scaling.errors import InputError

AXES = ("data", "fsdp", "tensor")

RULES = {
    "rows": ("data", "fsdp"),  # of a batch
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocabulary": "tensor",
}


def mesh(shape: tuple[int, int, int] | None = None) -> Mesh:
    """The mesh of all devices; by default all of them along "data".

    Raises InputError when `shape` does not multiply to the number of devices.
    """
    devices = jax.device_count()
    shape = shape or (devices, 1, 1)
    product = shape[0] * shape[1] * shape[2]
    if product != devices:
        raise InputError(
            f"machine.mesh={shape}: it takes {product} devices, and there are {devices}."
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh, batch_rows: int) -> NamedSharding:
    """Rows of a batch over the data and fsdp axes.

    Raises InputError when they do not divide the batch.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_rows % shards:
        raise InputError(
            f"train.batch_rows={batch_rows}: the mesh deals rows to {shards} groups of devices, "
            "and that must divide them."
        )
    return NamedSharding(mesh, PartitionSpec(RULES["rows"]))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def parameter_shardings(parameters: nnx.State, mesh: Mesh) -> dict:
    """A sharding for each parameter, by the logical axes it was made with: a tree of plain dicts.

    Raises InputError when a mesh axis does not divide an axis that is dealt over it.
    """

    def sharding(path, parameter):
        axes = parameter.get_metadata("axes")
        for size, axis in zip(parameter.shape, axes, strict=True):
            if size % mesh.shape[RULES[axis]]:
                raise InputError(
                    f"machine.mesh: its {RULES[axis]} axis of {mesh.shape[RULES[axis]]} does not divide "
                    f"the {size} of axis {axis!r} of {'.'.join(map(str, path))}."
                )
        return NamedSharding(mesh, PartitionSpec(*(RULES[axis] for axis in axes)))

    flat = {path: sharding(path, p) for path, p in nnx.to_flat_state(parameters)}
    return nnx.traversals.unflatten_mapping(flat)
