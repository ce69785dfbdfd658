"""The two-stage recipe (arXiv 2012.07175, sec. 4): each network alone, then all of them fused and fine-tuned."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console

from msafusion import plugins
from msafusion.attach import FusedNetwork
from msafusion.attach.tracing import evaluating
from msafusion.checkpoints import load_pretrained, save_model
from msafusion.data.dataset import Dataset
from msafusion.data.samples import Splits, collate
from msafusion.files.json_file import write_json
from msafusion.networks import NetworkPlan
from msafusion.streams import nearest
from msafusion.training.evaluation import (
    Metrics,
    best_simple_model,
    calibration_line,
    choose_temperature,
    evaluate,
    table,
)
from msafusion.training.folder import MODEL, holds_anything, lock, remove_written
from msafusion.training.loadable import check_saved
from msafusion.training.same_samples import SAMPLES, check_same_samples
from msafusion.training.stage import RunContext, run_stage
from msafusion.training.stage_options import StageOptions
from msafusion.training.task import check_predictions
from msafusion.training.testing import build, fit_plan
from msafusion.version import __version__

_FILES = (
    *("config.yaml", SAMPLES, "metrics.json", "evaluation.json", "predictions.jsonl", "*.log"),
    *(f"{folder}/{name}" for folder in ("model", "unimodal/*") for name in MODEL),
    *(f"checkpoints/*/{name}" for name in ("best.ckpt", "last.ckpt", "finished.json")),
    *(f"logs/*/{name}" for name in ("metrics.csv", "metrics.partial", "hparams.yaml", "events.out.tfevents.*")),
)
FILES = (*_FILES, *(f"fold-*/{name}" for name in _FILES))
"""What a run writes into its folder, `evaluate` and `predict` included."""


def train(
    data: Dataset,
    network: NetworkPlan,
    unimodal: StageOptions,
    multimodal: StageOptions,
    *,
    folder: Path,
    config: str,
    trainer: Mapping[str, Any],
    weights: Mapping[str, Path] | None = None,
    init: Literal["unimodal", "scratch"] = "unimodal",
    seed: int = 0,
    num_workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    simple_models: bool = False,
    console: Console | None = None,
) -> Metrics:
    """Train in two stages, test once, and write everything into `folder`.

    Files: `config.yaml`, `samples.json`, `metrics.json`, `model/`, `unimodal/<stream>/`, `checkpoints/<stage>/`,
    `logs/<stage>/`.

    Args:
        data: the data set.
        network: what is trained.
        unimodal: first stage, for each network by itself.
        multimodal: second stage, all networks with their fusion.
        folder: of the run; new, unless `resume` or `overwrite`.
        config: complete configuration, kept as `config.yaml`.
        trainer: options of Lightning's Trainer.
        weights: stream -> file of pretrained weights, from which its network starts the first stage.
        init: where the second stage starts: from the networks that the first has trained, or from scratch.
        seed: of weights, order and dropout.
        num_workers: processes that load samples.
        resume: continue an interrupted run.
        overwrite: delete the run that the folder holds first.
        simple_models: also fit scikit-learn models, and add the one that is best on validation data to the table.
        console: where progress and the table go.

    Returns:
        What `metrics.json` holds: per row of the table its validation and test metrics.

    Raises:
        ValueError: the folder is in use, the data or the weights are not as expected.
    """
    check_folder(folder, resume=resume, overwrite=overwrite)
    with lock(folder):
        prepare_folder(folder, config, resume=resume, overwrite=overwrite)
        context = RunContext(folder, trainer, num_workers, seed, resume, console or Console())
        return _train(data, network, unimodal, multimodal, context, weights or {}, init, simple_models)


def _train(
    data: Dataset,
    network: NetworkPlan,
    unimodal: StageOptions,
    multimodal: StageOptions,
    context: RunContext,
    weights: Mapping[str, Path],
    init: Literal["unimodal", "scratch"],
    simple_models: bool,
) -> Metrics:
    folder, seed, console = context.folder, context.seed, context.console
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    splits = data.splits()
    check_same_samples(folder, splits, resume=context.resume)
    lightning.seed_everything(seed, workers=True, verbose=False)
    network = fit_plan(network, splits)
    net = _start(network, splits, weights)
    _check_stages(net, splits, unimodal, multimodal)
    saved = {"msafusion": __version__, "network": network.as_dict(), "classes": splits.classes}
    saved["preprocessing"], saved["extraction"] = splits.preprocessing.as_dict(), dict(splits.extraction)
    saved["imports"] = plugins.required_modules(saved)
    check_saved(saved, network, splits, net)
    rows: dict[str, Metrics] = {}
    for stream in net.networks:
        single = network.unimodal(net, stream, splits.num_outputs)
        best = run_stage(f"unimodal-{stream}", single, splits, unimodal, context)
        rank_zero_only(save_model)(folder / "unimodal" / stream, single.networks[stream], {**saved, "stream": stream})
        rows[f"{stream} alone"] = {"valid": best}
    if init == "scratch":
        lightning.seed_everything(seed, workers=True, verbose=False)
        net = _start(network, splits, weights)
    rows["fused"] = {"valid": run_stage("multimodal", net, splits, multimodal, context)}
    if getattr(rank_zero_only, "rank", 0) == 0:
        saved["temperature"] = choose_temperature(net, splits)
        save_model(folder / "model", net, saved)
        tested = evaluate(folder, splits)
        for name, row in rows.items():
            row["test"] = tested[name]
        if simple_models:
            rows |= best_simple_model(splits, seed, console)
        chosen_on_test = splits.chosen_on_test and "best" in (unimodal.keep, multimodal.keep)
        result: Metrics = {
            "seed": seed,
            "num_samples": {p: len(getattr(splits, p)) for p in ("train", "valid", "test")},
            "chosen_on_test": chosen_on_test,
        }
        result["rows"] = rows
        write_json(folder / "metrics.json", result)
        how = "EPOCH CHOSEN ON THE TEST SPLIT (published protocol)" if chosen_on_test else "held-out test"
        shown = {f"{name} ({row['model']})" if "model" in row else name: row["test"] for name, row in rows.items()}
        console.print(table(shown, title=f"{how}, seed {seed}"))
        if line := calibration_line(tested["fused"]):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"results in {folder / 'metrics.json'}, model in {folder / 'model'}")
        return result
    return {"rows": rows}


def _start(plan: NetworkPlan, splits: Splits, weights: Mapping[str, Path]) -> FusedNetwork:
    """The network as the first stage finds it.

    Raises:
        ValueError: weights for a stream that there is not, or that do not fit.
    """
    net = build(plan, splits)
    for stream, file in weights.items():
        if stream not in net.networks:
            raise ValueError(f"weights for the unknown stream '{stream}'; {nearest(stream, net.networks)}")
        load_pretrained(net.networks[stream], file)
    return net


def _check_stages(net: FusedNetwork, splits: Splits, unimodal: StageOptions, multimodal: StageOptions) -> None:
    """Refuse before the first stage what would stop the second.

    Raises:
        ValueError: a metric that these labels do not have; losses of networks that give no prediction.
    """
    for options in (unimodal, multimodal):
        options.metric(len(splits.classes))
    if (
        multimodal.epochs != 0
        and len(net.networks) > 1
        and (multimodal.losses == "separate" or multimodal.per_stream_loss)
    ):
        batch = collate([splits.train[0]])
        with evaluating(net):
            outputs = net.stream_outputs(splits.preprocessing.inputs(batch["inputs"]), batch["lengths"])
        check_predictions(outputs, splits.num_outputs)


@rank_zero_only
def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Check whether a run can start, or continue, in a folder; nothing is changed.

    Raises:
        ValueError: the folder holds something already, or nothing to resume.
    """
    is_run = (folder / "config.yaml").is_file()
    if resume:
        if not is_run:
            raise ValueError(f"no run to resume in '{folder}' (no config.yaml); start it without --resume.")
    elif holds_anything(folder) and not (is_run and len(list(folder.glob("[!.]*"))) == 1):
        if not overwrite:
            raise ValueError(
                f"'{folder}' exists already; choose another --out, continue it by --resume, or --overwrite it."
            )
        if not is_run:
            raise ValueError(
                f"'{folder}' is not the folder of a run (no config.yaml), so it is not overwritten; choose another."
            )


@rank_zero_only
def prepare_folder(folder: Path, config: str, *, resume: bool, overwrite: bool) -> None:
    """Write a new run's `config.yaml`; what an earlier run has left is deleted where that is wanted.

    Raises:
        ValueError: see `check_folder` and `remove_written`.
    """
    check_folder(folder, resume=resume, overwrite=overwrite)  # again: another process may have been faster
    if resume:
        return
    try:
        if overwrite:
            remove_written(folder, FILES)
        (folder / "config.yaml").write_text(config)
    except OSError as error:
        raise ValueError(f"cannot write into '{folder}' ({error.strerror}); choose another --out.") from None
