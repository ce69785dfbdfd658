"""What a training stage shows and keeps: a progress bar, and one row per epoch in a CSV file that survives resuming."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from msafusion.training.metrics import METRICS


class EpochLog(Logger):
    """`metrics.csv` with one row per epoch; a resumed run continues the same file, replacing the epochs it repeats.

    Lightning's CSVLogger overwrites the file whenever it is opened.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        """Of the logger, as Lightning asks."""
        return "epochs"

    @property
    def version(self) -> str:
        """Of the log: there is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Merge into the row of metrics["epoch"]."""
        if "epoch" not in metrics:
            return
        if self._rows is None:
            self._rows = self._read()
        epoch = int(metrics["epoch"])
        self._rows.setdefault(epoch, {}).update({**metrics, "epoch": epoch, "step": step})
        columns = ["epoch", "step", *sorted({key for row in self._rows.values() for key in row} - {"epoch", "step"})]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".partial")
        with scratch.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows[epoch] for epoch in sorted(self._rows))
        scratch.replace(self.path)

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self.path.exists():
            return {}
        with self.path.open(newline="") as file:
            return {int(row["epoch"]): row for row in csv.DictReader(file)}


class StageProgress(Callback):
    """One bar for a whole stage, with the epoch and the latest validation metric."""

    def __init__(self, stage: str, console: Console, metric: str) -> None:
        columns = TextColumn("{task.description:<20}"), BarColumn(20), TextColumn("{task.fields[news]}")
        columns = (*columns, TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=console.quiet)
        self._stage, self._metric = stage, metric
        self._task = self._bar.add_task(stage, total=None, news="")

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, where a resumed run stands."""
        assert trainer.max_epochs is not None
        total = trainer.max_epochs * int(trainer.num_training_batches)
        self._bar.update(self._task, total=total, completed=trainer.current_epoch * int(trainer.num_training_batches))
        self._bar.start()

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step further."""
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        self._bar.update(self._task, completed=done)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the epoch's result."""
        latest = float(trainer.callback_metrics.get(f"valid/{self._metric}", float("nan")))
        percent = self._metric in METRICS and METRICS[self._metric].unit == "%"
        shown = f"{100 * latest:.1f} %" if percent else f"{self._metric} {latest:.3f}"
        news = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, valid {shown}"
        self._bar.update(self._task, news=news)

    @rank_zero_only
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the finished bar."""
        self._bar.stop()
