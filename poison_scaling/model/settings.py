"""Settings of the model that all sizes of a study share."""

from __future__ import annotations

import dataclasses
from typing import Literal

from poison_scaling.config.ranges import Count
from poison_scaling.model.architectures.architecture import Architecture
from poison_scaling.model.architectures.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class Model:
    """The architecture of a study's models and how to compute them; dimensions follow from a rung's size."""

    architecture: Architecture = Decoder()
    # of matrix products and activations; parameters are float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    segment_mask: bool = False  # documents packed into one sequence do not attend to each other
    attention: Literal["plain", "fused"] = "plain"  # fused: the accelerator's own kernel, if any
    scan_layers: bool = False  # compile one layer instead of each; slower on CPU
    remat: Literal["none", "dots", "full"] = "none"  # what is rematerialised in the backward pass
    # positions of a sequence whose logits exist at a time; None: all
    loss_chunk: Count | None = None
