"""The Lightning module: how a fused network trains, whatever its networks and its fusion."""

import math
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from msafusion.attach import FusedNetwork
from msafusion.attach.reading import NetworkOutputs, prediction_in
from msafusion.data.preprocessing import Preprocessing
from msafusion.data.samples import Batch
from msafusion.training.metrics import running_metrics
from msafusion.training.stage_options import StageOptions


class DivergedError(ValueError):
    """A loss became NaN or infinite."""


class FusionTask(lightning.LightningModule):
    """Trains a fused network to predict classes (cross entropy) or values (squared error), as `StageOptions` specifies.

    Args:
        network: takes a batch's inputs; a network of one stream trains alone.
        num_classes: of the labels; 0: they are values.
        options: losses, optimizer, learning rates.
        preprocessing: from stored streams to inputs; its random changes are drawn in the training step, so that a
            resumed run draws the same.
        seed: of dropout and of the random changes; the random state is set for every batch.
    """

    def __init__(
        self,
        network: FusedNetwork,
        num_classes: int,
        options: StageOptions,
        preprocessing: Preprocessing,
        seed: int,
    ) -> None:
        super().__init__()
        self.network, self.num_classes, self.options = network, num_classes, options
        self.preprocessing, self.seed = preprocessing, seed
        self.valid_metrics = running_metrics(num_classes)
        self.validated_at = -1
        self.automatic_optimization = not self.separate

    @property
    def separate(self) -> bool:
        """Whether each network has a loss and an optimizer of its own."""
        return self.options.losses == "separate" and len(self.network.networks) > 1

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits (batch, classes), or values (batch, 1)."""
        return self.network(inputs)

    def _outputs(
        self, batch: Batch, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[NetworkOutputs, Tensor]:
        """Each network's output, and the prediction."""
        outputs = self.network.stream_outputs(inputs, batch["lengths"], present)
        return outputs, self.network.combine(outputs)

    def _typed(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """In the trainer's precision, which preprocessing may have left."""
        return self.trainer.precision_plugin.convert_input(inputs)

    def _present(self, num_samples: int, lengths: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Which training samples keep which stream, of those that they have (those of length 0 they lack)."""
        names = list(self.network.networks)
        if not self.options.stream_dropout or len(names) < 2:
            return None
        everyone = torch.ones(num_samples, dtype=torch.long)
        had = torch.stack([lengths.get(name, everyone).cpu() > 0 for name in names], dim=1)
        kept = (torch.rand(num_samples, len(names)) >= self.options.stream_dropout) & had
        drawn = torch.randint(len(names), (num_samples, 1))  # where all would go; the next one if that one is lacking
        turn = (torch.arange(len(names)) - drawn) % len(names)
        one = turn.masked_fill(~had, len(names)).argmin(dim=1)
        kept[torch.arange(num_samples), one] |= ~kept.any(dim=1)
        return {name: kept[:, index].to(self.device) for index, name in enumerate(names)}

    def _loss(self, output: Tensor, label: Tensor) -> Tensor:
        if self.num_classes:
            return functional.cross_entropy(output, label)
        return functional.mse_loss(output.flatten(), label)

    def _own_losses(self, outputs: NetworkOutputs, label: Tensor) -> dict[str, Tensor]:
        """Each network's loss by its own output, on the samples that have its stream."""
        losses = {}
        for name, output in outputs.items():
            own, mine = prediction_in(output, name), label
            if name in outputs.present:
                own, mine = own[outputs.present[name]], label[outputs.present[name]]
            losses[name] = self._loss(own, mine) if len(mine) else own.sum()
        return losses

    def _total_loss(self, outputs: NetworkOutputs, prediction: Tensor, label: Tensor) -> Tensor:
        """The loss to minimise, or to follow where the networks have their own."""
        if self.separate:
            return torch.stack(list(self._own_losses(outputs, label).values())).mean()
        own_rule = getattr(self.network.head, "loss", None)  # of heads whose paper has one
        loss = (
            own_rule(prediction, label) if own_rule is not None and self.num_classes else self._loss(prediction, label)
        )
        if self.options.per_stream_loss and len(outputs) > 1:
            own = torch.stack(list(self._own_losses(outputs, label).values()))
            loss = loss + self.options.per_stream_loss * own.sum()
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the random state of this batch.

        Batches are counted, not steps: several make one step where gradients are accumulated.
        """
        done = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        seed = self.seed + 1_000_003 * done + self.global_rank
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed takes a millisecond, for devices that are not there
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        if self.separate and isinstance(self.trainer.model, nn.parallel.DistributedDataParallel):
            self.trainer.model.require_backward_grad_sync = False  # Lightning sets it again after every step

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """The loss of a batch; with losses="separate" also the networks' steps."""
        present = self._present(len(batch["id"]), batch["lengths"])
        outputs, prediction = self._outputs(batch, self._typed(self.preprocessing.augmented(batch["inputs"])), present)
        if self.separate:
            losses = self._own_losses(outputs, batch["label"])
            self._step_separately(losses)
            loss = torch.stack(list(losses.values())).mean()
        else:
            loss = self._total_loss(outputs, prediction, batch["label"])
        self._finite = self._finite & torch.isfinite(loss.detach())
        self._losses += len(batch["id"]) * torch.stack(
            [loss.detach().float(), torch.ones_like(loss, dtype=torch.float)]
        )
        return None if self.separate else loss

    def _step_separately(self, losses: Mapping[str, Tensor]) -> None:
        """One step of each network's optimizer by its own loss; the fusion is in all of them (arXiv 2012.07175, 4.3).

        All gradients come from one forward pass, so they are taken before any step changes a weight.
        """
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        gradients: list[list[Tensor | None]] = []
        for name, optimizer in zip(self._trained, optimizers, strict=True):
            parameters = _parameters(optimizer)
            self.manual_backward(losses[name], inputs=parameters, retain_graph=name != self._trained[-1])
            gradients.append([self._averaged(parameter.grad) for parameter in parameters])
            for parameter in parameters:  # what the next loss adds to the fusion is its own
                parameter.grad = None
        for optimizer, taken in zip(optimizers, gradients, strict=True):
            for parameter, gradient in zip(_parameters(optimizer), taken, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad()
        for schedule in self._schedules:
            schedule.step()

    def _averaged(self, gradient: Tensor | None) -> Tensor | None:
        """The mean over devices."""
        if gradient is None or self.trainer.world_size == 1:
            return gradient
        return self.trainer.strategy.reduce(gradient, reduce_op="mean")

    def on_train_start(self) -> None:
        """Average separate gradients ourselves: DistributedDataParallel expects one backward pass per step.

        Raises:
            ValueError: separate losses under another distributed strategy.
        """
        if not self.separate or self.trainer.world_size == 1:
            return
        if not isinstance(self.trainer.model, nn.parallel.DistributedDataParallel):
            raise ValueError(
                f"losses=separate got the strategy {type(self.trainer.strategy).__name__}, expected ddp on several "
                "devices; set --trainer.strategy ddp, or losses to joint."
            )

    def on_train_epoch_start(self) -> None:
        """Watch the losses of this epoch."""
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._losses = torch.zeros(2, device=self.device)

    def on_train_epoch_end(self) -> None:
        """Stop a run that has diverged.

        Raises:
            DivergedError: a loss was NaN or infinite.
        """
        if not self._finite:
            raise DivergedError(
                f"the loss became NaN or infinite in epoch {self.current_epoch + 1} (networks: "
                f"{', '.join(self.network.networks)}); lower the learning rate, or clean the data."
            )
        # once an epoch: Lightning takes milliseconds for every metric that it logs
        self.log("train/loss", self._losses[0] / self._losses[1].clamp(min=1), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Start the sum of the losses."""
        self._valid_losses = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Follow loss and metrics on the validation samples."""
        outputs, prediction = self._outputs(batch, self._typed(self.preprocessing.inputs(batch["inputs"])))
        loss = self._total_loss(outputs, prediction, batch["label"])
        self.valid_metrics.update(prediction if self.num_classes else prediction.flatten(), batch["label"])
        self._valid_losses += len(batch["id"]) * torch.stack([loss.float(), torch.ones_like(loss, dtype=torch.float)])

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics, those that choose the model."""
        # sums and counts are gathered: Lightning's mean over devices would weigh uneven shares alike
        total, count = self.trainer.strategy.reduce(self._valid_losses, reduce_op="sum")
        for name, value in {**self.valid_metrics.compute(), "loss": total / count}.items():
            self.log(f"valid/{name}", value, sync_dist=True)
        self.valid_metrics.reset()
        self.validated_at = self.global_step

    def configure_optimizers(self) -> Any:
        """One optimizer with a learning rate for each part, or one for each network with the fusion's parameters."""
        options = self.options
        rates = {"fusion": options.fusion_learning_rate, "head": options.fusion_learning_rate}
        groups = self.network.parameter_groups(rates, options.learning_rate)
        if not self.separate:
            optimizer = self._optimizer(groups)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"},
            }
        shared = [group for group in groups if group["name"] not in self.network.networks]
        own = {group["name"]: group for group in groups if group["name"] in self.network.networks}
        self._trained = list(own)
        optimizers = [self._optimizer([dict(group) for group in (mine, *shared)]) for mine in own.values()]
        self._schedules = [self._schedule(optimizer) for optimizer in optimizers]
        return optimizers, self._schedules

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.options.optimizer]
        return kind(groups, weight_decay=self.options.weight_decay)

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """A factor of the learning rate for each step."""
        options = self.options
        steps = max(1, int(self.trainer.estimated_stepping_batches))

        def factor(step: int) -> float:
            if options.schedule == "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
            epoch = step * (self.trainer.max_epochs or 1) // steps
            return 0.1 ** sum(epoch >= after for after in options.decay_after)

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _parameters(optimizer: Any) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def check_predictions(outputs: Mapping[str, Any], num_outputs: int) -> None:
    """Refuse networks that give features rather than a prediction where each is to have a loss of its own.

    Raises:
        ValueError: one does.
    """
    for name, output in outputs.items():
        width = prediction_in(output, name).shape[1:]
        if tuple(width) != (num_outputs,):
            raise ValueError(
                f"network '{name}' gives (batch, {', '.join(map(str, width))}), expected a prediction (batch, "
                f"{num_outputs}) for a loss of its own; set --multimodal.per_stream_loss 0 and --multimodal.losses "
                "joint."
            )
