"""Whether what is trained can be saved and loaded again: checked before the first step, not after the last."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from msafusion.attach import FusedNetwork
from msafusion.data.extractors import extractor_from
from msafusion.data.preprocessing import KINDS, preprocessing_from
from msafusion.data.samples import Splits
from msafusion.files.saved_model import check_fit
from msafusion.networks import NETWORKS, NetworkPlan, plan_from
from msafusion.training.testing import build


def check_saved(saved: Mapping[str, Any], plan: NetworkPlan, splits: Splits, net: FusedNetwork) -> None:
    """Refuse a run whose model could not be built again from what is saved with it.

    Args:
        saved: what is going to be saved.
        plan: the network's.
        splits: the data.
        net: the network as built.

    Raises:
        ValueError: a class is not registered; an option is not plain, or is not what the constructor takes.
    """
    _check_known(type(plan), NETWORKS)
    _check_known(type(splits.preprocessing), KINDS)
    try:
        again = json.loads(json.dumps(dict(saved)))
        with torch.random.fork_rng(devices=[]):  # the run's own random numbers stay what they are
            rebuilt = build(plan_from(again["network"]), splits)
        check_fit(
            "the network built again from its options",
            rebuilt.state_dict(),
            {name: tuple(value.shape) for name, value in net.state_dict().items()},
        )
        preprocessing_from(again["preprocessing"])
        for how in again["extraction"].get("streams", {}).values():
            extractor_from(how)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"the model could not be loaded again after training: {' '.join(str(error).split())[:300]}; every "
            f"argument of the constructors ({type(plan).__name__}, {type(splits.preprocessing).__name__}) must be kept "
            "as a plain attribute of its name."
        ) from error


def _check_known(cls: type, known: Mapping[str, type]) -> None:
    """Raise where a class's name would not lead back to it."""
    if known.get(cls.__name__) is not cls:
        raise ValueError(
            f"{cls.__module__}.{cls.__name__} is not registered, so that its model could not be loaded again; put it "
            f"into a module of its own and add --import {cls.__module__} (in Python plugins.use([...]))."
        )
