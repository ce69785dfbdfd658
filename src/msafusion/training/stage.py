"""One stage of training: a network, its data, its options, and files from which it can be resumed exactly."""

import math
import signal
import threading
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from msafusion.attach import FusedNetwork
from msafusion.data.samples import Sample, Splits, as_dataset, collate, with_streams
from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading
from msafusion.files.torch_file import check_tensor, check_torch_file
from msafusion.training.logs import EpochLog, StageProgress
from msafusion.training.metrics import higher_is_better
from msafusion.training.stage_options import StageOptions
from msafusion.training.task import FusionTask
from msafusion.training.trainer_options import check_numbers

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")
"""Those whose weights, and so the optimizer's, have 32 bits at least."""
REPEAT = "delete its folder and --resume again to repeat this stage"


@dataclass(frozen=True)
class RunContext:
    """Where a run keeps its files.

    Attributes:
        folder: of the run.
        trainer: options for Lightning's Trainer.
        num_workers: processes that load samples.
        seed: of weights, order and dropout.
        resume: continue what the folder holds.
        console: where progress is shown.
    """

    folder: Path
    trainer: Mapping[str, Any]
    num_workers: int
    seed: int
    resume: bool
    console: Console


def loader(
    samples: Sequence[Sample], streams: Collection[str], batch_size: int, num_workers: int, **options: Any
) -> DataLoader[Any]:
    """Batches of some streams of the samples; nothing in it is drawn at random unless the options say so.

    Args:
        samples: read by `num_workers` processes, or as they are asked for where there are none; must pickle.
        streams: those to read.
        batch_size: samples of a batch.
        num_workers: processes, kept from one epoch to the next.
        options: of torch's DataLoader.
    """
    return DataLoader(
        as_dataset(with_streams(samples, streams)),
        batch_size=batch_size,
        # a method would take the trainer along to processes that are spawned
        collate_fn=partial(collate, streams=frozenset(streams)),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        **options,
    )


class _Loaders(lightning.LightningDataModule):
    """Batches in an order that depends on seed and epoch alone, divided among the devices."""

    def __init__(self, splits: Splits, streams: set[str], options: StageOptions, context: RunContext) -> None:
        super().__init__()
        self.splits, self.options, self.context, self.streams = splits, options, context, streams

    def _loader(self, samples: Sequence[Sample], **options: Any) -> DataLoader[Any]:
        return loader(samples, self.streams, self.options.batch_size, self.context.num_workers, **options)

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        order = DistributedSampler(
            as_dataset(self.splits.train),
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            seed=self.context.seed,
        )
        full = len(order) >= self.options.batch_size  # a last batch of one sample would stop batch norm
        return self._loader(self.splits.train, sampler=order, drop_last=full)

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return self._loader(self.splits.valid[self.trainer.global_rank :: self.trainer.world_size])


class _SigtermAsBefore(Callback):
    """Restores the SIGTERM handler that was in place before Lightning installed its own.

    Lightning's handler passes the signal on by a collective operation: in the middle of a step, processes that train
    together then wait for each other forever.
    """

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the earlier handler back, if there was one."""
        if callable(self._before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)


def run_stage(
    name: str, network: FusedNetwork, splits: Splits, options: StageOptions, context: RunContext
) -> dict[str, float | None]:
    """Train a network, and leave it with the weights of its last epoch, or its best on the validation samples.

    Files under the run's folder: `checkpoints/<name>/{last,best}.ckpt`, `logs/<name>/` with metrics.csv and
    TensorBoard events.

    Returns:
        Validation metrics of that epoch; none if the stage has no epochs; None where one is not defined.
    """
    checkpoints, logs = context.folder / "checkpoints" / name, context.folder / "logs" / name
    finished = checkpoints / "finished.json"
    if context.resume and finished.is_file():
        _load_kept(network, checkpoints, options)
        with reading(finished, "the metrics of this stage", REPEAT, ValueError):
            return dict(read_json(finished))
    metric = options.metric(len(splits.classes))
    if options.epochs == 0:
        return {}
    options = options.for_samples(len(splits.train))
    task = FusionTask(network, len(splits.classes), options, splits.preprocessing, context.seed)
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor=f"valid/{metric}",
        mode="max" if higher_is_better(metric) else "min",
        enable_version_counter=False,
    )
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    # the last checkpoint holds what the best one knew, so it comes after it
    keeping = [best, last] if options.keep == "best" else [last]
    callbacks: list[Callback] = [StageProgress(name, context.console, metric), _SigtermAsBefore(), *keeping]
    if options.ema:
        callbacks.append(EMAWeightAveraging(decay=options.ema))
    with warnings.catch_warnings():
        # Lightning 2.6 and torch 2.13 internals, and advice that does not fit samples held in memory
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", message=".*bf16.*", category=UserWarning, module="lightning")
        trainer = _trainer(
            **context.trainer,
            max_epochs=options.epochs,
            logger=[EpochLog(logs), TensorBoardLogger(logs, name="", version="")],
            callbacks=callbacks,
            default_root_dir=context.folder,
        )
        _check_precision(trainer, network)
        _check_samples(trainer, splits)
        resume_from = checkpoints / "last.ckpt"
        resuming = context.resume and resume_from.is_file()
        if resuming:
            _read_checkpoint(resume_from)
        loaders = _Loaders(splits, set(network.networks.keys()), options, context)
        try:
            trainer.fit(task, datamodule=loaders, ckpt_path=resume_from if resuming else None, weights_only=True)
            if options.keep == "last" and task.validated_at != trainer.global_step:
                trainer.validate(task, datamodule=loaders, verbose=False)
        except SystemExit:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from None
        except MisconfigurationException as error:
            raise ValueError(f"the trainer options do not work here: {error} Correct --trainer.*.") from error
    kept = best.best_model_score if options.keep == "best" else trainer.callback_metrics.get(f"valid/{metric}")
    if (kept is None and not best.best_model_path) or not (checkpoints / f"{options.keep}.ckpt").is_file():
        raise ValueError(
            f"stage {name} ended without a validation, expected one to choose the epoch by; leave the limits "
            "of --trainer.limit_train_batches, limit_val_batches and check_val_every_n_epoch out."
        )
    metrics: dict[str, float | None] = {"epoch": _load_kept(network, checkpoints, options)}
    metrics[metric] = None if kept is None or not math.isfinite(kept) else float(kept)
    trainer.strategy.barrier()
    rank_zero_only(write_json)(finished, metrics)
    return metrics


def _trainer(**options: Any) -> lightning.Trainer:
    """Lightning's Trainer, without what the recipe does itself.

    Raises:
        ValueError: it refuses the options.
    """
    check_numbers(options)
    ours = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    try:
        return lightning.Trainer(**options, **ours, use_distributed_sampler=False, log_every_n_steps=1)
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ValueError(f"the trainer options do not work here: {error} Correct --trainer.*.") from error


def _check_samples(trainer: lightning.Trainer, splits: Splits) -> None:
    """Refuse devices that would have nothing to do, which distributed training waits for in vain.

    Raises:
        ValueError: more devices than samples of a split.
    """
    for name, samples in (("training", splits.train), ("validation", splits.valid)):
        if (count := len(samples)) < trainer.world_size:
            raise ValueError(
                f"the {name} split has {count} {'samples' if count > 1 else 'sample'} for {trainer.world_size} "
                "devices, expected one for each at least; set --trainer.devices to "
                f"{count}{' or less' if count > 1 else ''}, or give more samples."
            )


def _check_precision(trainer: lightning.Trainer, network: nn.Module) -> None:
    """Refuse what does not train well, and what oneDNN computes wrongly (torch 2.13; docs/log.md): bf16 gradients of 3D
    kernels longer than the clip.

    Raises:
        ValueError: a precision with weights of 16 bits or fewer; bf16 on a CPU for a network with 3D convolutions,
            or with LSTMs where that CPU has none in bf16.
    """
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"precision {trainer.precision} keeps the weights in 16 bits or fewer, in which small steps are lost, "
            f"expected one of {', '.join(PRECISIONS)}; set --trainer.precision to one of them."
        )
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and "bf16" in str(trainer.precision) and any(isinstance(part, nn.Conv3d) for part in network.modules()):
        raise ValueError(
            f"precision {trainer.precision} on a CPU gives wrong gradients of 3D convolutions, expected a GPU or "
            "float32; add --trainer.precision 32-true."
        )
    lstms = any(isinstance(part, nn.LSTM) for part in network.modules())
    if on_cpu and "bf16" in str(trainer.precision) and lstms and not bf16_lstms_run():
        raise ValueError(
            f"this CPU cannot compute LSTMs in precision {trainer.precision}, expected a GPU or float32; add "
            "--trainer.precision 32-true."
        )


@lru_cache(maxsize=1)
def bf16_lstms_run() -> bool:
    """Whether this CPU computes LSTMs in bf16: oneDNN has no such primitive for some, and tells only when asked."""
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """A stage's checkpoint.

    Raises:
        ValueError: the file is missing or broken.
    """
    with reading(path, "a checkpoint of this stage", REPEAT, ValueError):
        check_torch_file(path, REPEAT)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        for name, tensor in checkpoint["state_dict"].items():
            check_tensor(name, tensor)
        return checkpoint


def _load_kept(network: FusedNetwork, checkpoints: Path, options: StageOptions) -> float:
    """Give a network the weights that a stage keeps; returns their epoch."""
    checkpoint = _read_checkpoint(checkpoints / f"{options.keep}.ckpt")
    state, prefix = checkpoint["state_dict"], "network."
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    network.cpu()
    return float(checkpoint["epoch"])
