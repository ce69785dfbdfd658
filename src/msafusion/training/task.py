"""The Lightning module: how a fused network trains, whatever its networks and its fusion."""

import math
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from msafusion.attach import FusedNetwork
from msafusion.attach.network import prediction_in
from msafusion.samples import Batch
from msafusion.training.metrics import running_metrics


class ClassificationTask(lightning.LightningModule):
    """Cross entropy of the prediction and, weighted, of each network's own output; AdamW; cosine schedule.

    Args:
        network: takes a batch's inputs; a network of one stream trains alone.
        num_classes: of the labels.
        rates: learning rates by part, as of `FusedNetwork.parameter_groups`.
        learning_rate: of the parts not in `rates`.
        weight_decay: of AdamW.
        per_stream_loss: weight of each network's own cross entropy beside the prediction's.
        seed: of dropout; the random state is set anew for every step, so that a resumed run draws the same.
    """

    def __init__(
        self,
        network: FusedNetwork,
        num_classes: int,
        *,
        rates: Mapping[str, float],
        learning_rate: float,
        weight_decay: float,
        per_stream_loss: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.rates, self.learning_rate, self.weight_decay = dict(rates), learning_rate, weight_decay
        self.per_stream_loss, self.seed = per_stream_loss, seed
        self.valid_metrics = running_metrics(num_classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits (batch, classes)."""
        return self.network(inputs)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the prediction's logits (batch, classes)."""
        outputs = self.network.stream_outputs(batch["inputs"])
        logits = self.network.combine(outputs)
        loss = functional.cross_entropy(logits, batch["label"])
        if self.per_stream_loss and len(outputs) > 1:
            own = [
                functional.cross_entropy(prediction_in(output, name), batch["label"])
                for name, output in outputs.items()
            ]
            loss = loss + self.per_stream_loss * torch.stack(own).sum()
        return loss, logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the random state of this step."""
        torch.manual_seed(self.seed + 1_000_003 * self.global_step + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss, _ = self.losses(batch)
        self._finite = self._finite & torch.isfinite(loss.detach())
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["id"]), sync_dist=True)
        return loss

    def on_train_epoch_start(self) -> None:
        """Watch the losses of this epoch."""
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)

    def on_train_epoch_end(self) -> None:
        """Stop a run that has diverged.

        Raises:
            ValueError: a loss was NaN or infinite.
        """
        if not self._finite:
            raise ValueError(
                f"the loss became NaN or infinite in epoch {self.current_epoch + 1} (networks: "
                f"{', '.join(self.network.networks)}); lower the learning rate, or clean the data."
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Follow loss and metrics on the validation samples."""
        loss, logits = self.losses(batch)
        self.valid_metrics.update(logits, batch["label"])
        self.log("valid/loss", loss, batch_size=len(batch["id"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics, those that choose the model."""
        for name, value in self.valid_metrics.compute().items():
            self.log(f"valid/{name}", value, sync_dist=True)
        self.valid_metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate for each part, and a cosine to zero over the stage."""
        groups = self.network.parameter_groups(self.rates, self.learning_rate)
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))

        def factor(step: int) -> float:
            return 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
