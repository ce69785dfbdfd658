"""What all runs of one comparison share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from msafusion.compare.tables import SINGLE
from msafusion.data.dataset import Dataset
from msafusion.fusion import FUSIONS, HEADS
from msafusion.networks import NetworkPlan
from msafusion.streams import nearest
from msafusion.training.stage_options import StageOptions

ALIASES = {"none": "sum", "late_sum": "sum", "late_mean": "mean", "late_product": "product"}
ALL = "all"
"""Every method and variant."""
STAGE_OPTIONS = ("learning_rate", "fusion_learning_rate", "weight_decay", "per_stream_loss", "stream_dropout")
"""Options of the second stage that a method may have of its own: by tuning, or in a variant."""


@dataclass(frozen=True)
class Method:
    """One contender: a fusion method with its options.

    Attributes:
        name: in tables.
        fusion: in `FUSIONS` or `HEADS`.
        options: of the method, of the network's plan ("fuse_at"), or of the second stage (`STAGE_OPTIONS`).
    """

    name: str
    fusion: str
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str, variants: Mapping[str, Mapping[str, Any]]) -> "Method":
        """A method by its name, or a variant by its own.

        Args:
            text: a name in FUSIONS or HEADS, "none" for the late sum, or a key of `variants`.
            variants: name -> {"fusion": method, option: value, ...}.

        Raises:
            ValueError: the method or variant is unknown; the variant names no method.
        """
        options = dict(variants.get(text, {}))
        if text in variants and "fusion" not in options:
            raise ValueError(f"the variant '{text}' names no method; add one, such as {{fusion: msaf, ...}}.")
        fusion = str(options.pop("fusion", text))
        fusion = ALIASES.get(fusion, fusion)
        if fusion not in FUSIONS and fusion not in HEADS:
            raise ValueError(f"unknown fusion {fusion!r}; {nearest(fusion, (*FUSIONS, *HEADS, *variants))}")
        return cls(text, fusion, options)

    def plan(self, plan: NetworkPlan) -> NetworkPlan:
        """The network of this contender."""
        own = {name: value for name, value in self.options.items() if name not in STAGE_OPTIONS}
        if fuse_at := own.pop("fuse_at", None):
            options = {**vars(plan), "fuse_at": fuse_at}
            plan = type(plan)(**options)
        return plan.with_fusion(self.fusion, own)

    def stage(self, stage: StageOptions) -> StageOptions:
        """Its second stage."""
        return replace(stage, **{name: value for name, value in self.options.items() if name in STAGE_OPTIONS})


def check_names(variants: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse variants whose names cannot be those of files, or mean something else.

    Raises:
        ValueError: one has such a name.
    """
    for name in variants:
        if not re.fullmatch(r"\w[\w .,+-]*", name) or name.endswith(SINGLE):
            raise ValueError(f"a variant cannot be called '{name}', expected letters, digits, spaces and . , + - _.")
        if name in (*FUSIONS, *HEADS, *ALIASES, ALL, SINGLE.strip()):
            raise ValueError(f"a variant cannot be called '{name}', which means something else; rename it.")


@dataclass(frozen=True)
class ComparisonConfig:
    """What all runs of a comparison share.

    Attributes:
        folder: of the comparison; every run writes below it.
        name: of the data, for titles.
        data: the data set.
        network: the networks; their fusion is replaced.
        unimodal, multimodal: the two stages.
        init: where the second stage starts: from the networks of the first, or from scratch.
        trainer: options of Lightning's Trainer.
        robustness: also test with streams missing, noisy and late.
        on: the samples on which finished networks are compared: the test's, or those of validation, for choices that
            must not see the test (an ablation).
        imports: modules with classes of the user's own, for the processes in which runs work.
        folds: number of folds, over which every sample, or group of samples, is tested once; 0: the data's own split.
        simple_models: also fit scikit-learn's, of each stream and of all.
    """

    folder: Path
    name: str
    data: Dataset
    network: NetworkPlan
    unimodal: StageOptions
    multimodal: StageOptions
    init: Literal["unimodal", "scratch"]
    trainer: Mapping[str, Any]
    robustness: bool = True
    on: Literal["test", "valid"] = "test"
    imports: tuple[str, ...] = ()
    folds: int = 0
    simple_models: bool = True

    @property
    def key(self) -> str:
        """Tells one comparison's data from another's in a process that serves several."""
        return str(self.folder.resolve())

    @property
    def fold_numbers(self) -> list[int | None]:
        """Of the divisions; None: the data's own split."""
        return list(range(self.folds)) if self.folds else [None]
