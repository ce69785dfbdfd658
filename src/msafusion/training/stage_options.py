"""How one stage of training goes: the options people set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from msafusion.training.metrics import MAIN, Task, monitored

UPDATES = 40
"""Of `min_updates`, for each of which there is at least one epoch."""


@dataclass
class StageOptions:
    """How one stage trains.

    Attributes:
        epochs: passes over the training samples; 0: the stage leaves the weights as they are; none: as many as
            `min_updates` take, but at least one for every 40 of them (20, or 10 in the second stage).
        min_updates: updates of the weights, where `epochs` is none: the fewer the samples, the more passes these take.
        batch_size: samples per step (on each device).
        learning_rate: of the networks, at the start.
        fusion_learning_rate: of the fusion modules and the head, where there are any.
        weight_decay: of the optimizer.
        optimizer: adamw, or adam (its decay is an L2 penalty), as the paper has it.
        schedule: cosine decays the learning rate to zero over the stage; constant keeps it, except for `decay_after`.
        decay_after: epochs after which a constant learning rate is divided by ten.
        losses: joint (of the prediction, and `per_stream_loss`), or separate: every network has its own loss and
            optimizer, each with the fusion's parameters too, from one forward pass (the paper's on NTU RGB+D).
        per_stream_loss: weight of each network's own loss beside that of the prediction.
        stream_dropout: probability in [0, 1) that a training sample lacks a stream, drawn for each (one always stays).
        ema: decay of an exponential moving average of the weights, which is then what is validated and kept; 0: none.
        monitor: the validation metric that chooses the best epoch; auto: accuracy, or mae for regression.
        keep: the weights of the last epoch, when the cosine schedule has reached zero, or of the best one by `monitor`.
    """

    epochs: int | None = None
    min_updates: int = 800
    batch_size: int = 32
    learning_rate: float = 1e-3
    fusion_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    decay_after: Sequence[int] = field(default_factory=list)
    losses: Literal["joint", "separate"] = "joint"
    per_stream_loss: float = 1.0
    stream_dropout: float = 0.0
    ema: float = 0.0
    monitor: str = "auto"
    keep: Literal["best", "last"] = "last"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("min_updates", 1), ("batch_size", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more.")
        for name in ("learning_rate", "fusion_learning_rate", "weight_decay", "per_stream_loss"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a finite number of 0 or more.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, expected 0 (none) or a decay below 1 such as 0.999.")
        if not 0 <= self.stream_dropout < 1:
            raise ValueError(f"stream_dropout is {self.stream_dropout}, expected 0 or a probability below 1.")
        known = {"auto", *monitored("classification"), *monitored("regression")}
        if self.monitor not in known:
            raise ValueError(f"monitor is {self.monitor!r}, expected one of {', '.join(sorted(known))}.")
        if self.decay_after and self.schedule != "constant":
            raise ValueError(
                f"decay_after is {list(self.decay_after)} with schedule {self.schedule}, expected it with constant "
                "only; set schedule to constant, or leave decay_after out."
            )

    def for_samples(self, number: int) -> "StageOptions":
        """The same options with `epochs` filled in for `number` training samples.

        Examples:
            >>> from msafusion.training.stage_options import StageOptions
            >>> [StageOptions().for_samples(number).epochs for number in (120, 1200, 12000)]
            [267, 22, 20]
        """
        if self.epochs is not None:
            return self
        updates = max(1, number // self.batch_size)
        return replace(self, epochs=max(self.min_updates // UPDATES, math.ceil(self.min_updates / updates)))

    def metric(self, num_classes: int) -> str:
        """The validation metric that chooses the epoch.

        Raises:
            ValueError: it is of another kind of labels.
        """
        task: Task = "classification" if num_classes else "regression"
        if self.monitor == "auto":
            return MAIN[task]
        known = monitored(task)
        if self.monitor not in known:
            raise ValueError(f"monitor is {self.monitor}, expected one of {', '.join(known)} for these labels.")
        return self.monitor
