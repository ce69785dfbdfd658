"""The options of Lightning's Trainer that a run may set: plain values and names, none of which creates an object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# fmt: off
Precision = Literal[
    "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "32", "16", "bf16", "64", 32, 16, 64
]
Strategy = Literal[
    "auto", "single_device", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "ddp_spawn",
    "ddp_spawn_find_unused_parameters_true", "ddp_spawn_find_unused_parameters_false", "ddp_fork",
    "ddp_fork_find_unused_parameters_true", "ddp_fork_find_unused_parameters_false", "ddp_notebook",
    "fsdp", "fsdp_cpu_offload",
]
# fmt: on


@dataclass
class TrainerOptions:
    """Options of Lightning's Trainer; what they mean is in its documentation.

    Attributes:
        accelerator: what computes; auto: a GPU if there is one.
        strategy: how several devices work together.
        devices: how many, or which; -1 or auto: all.
        num_nodes: machines.
        precision: of the computation.
        limit_train_batches: batches (int) or part (float) of the training samples in an epoch.
        limit_val_batches: the same of the validation samples.
        overfit_batches: train and validate on this many batches (int) or this part (float) of the training samples.
        val_check_interval: validate after this many batches (int), this part of an epoch (float), or this time
            ("DD:HH:MM:SS").
        check_val_every_n_epoch: epochs from one validation to the next.
        accumulate_grad_batches: batches for one step of the optimizer.
        gradient_clip_val: largest norm (or value) of the gradients.
        gradient_clip_algorithm: norm or value.
        deterministic: deterministic algorithms only.
        benchmark: let cuDNN choose by trying.
        detect_anomaly: stop where a gradient becomes NaN.
        sync_batchnorm: batch norms of all devices together.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    strategy: Strategy = "auto"
    devices: list[int] | int | str = 1
    num_nodes: int = 1
    precision: Precision | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    overfit_batches: int | float = 0.0
    val_check_interval: int | float | str | dict[str, int] | None = None
    check_val_every_n_epoch: int | None = 1
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    sync_batchnorm: bool = False


MINIMUM = {"num_nodes": 1, "check_val_every_n_epoch": 1, "accumulate_grad_batches": 1, "gradient_clip_val": 0}
"""Option -> its least value; Lightning takes smaller ones, and does something else."""


def check_numbers(options: Mapping[str, Any]) -> None:
    """Refuse numbers that are too small.

    Raises:
        ValueError: there is one.
    """
    for name, least in MINIMUM.items():
        value = options.get(name)
        if value is not None and not value >= least:
            raise ValueError(f"--trainer.{name} is {value}, expected {least} or more; correct it or leave it out.")
