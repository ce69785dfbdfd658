"""Weights in and out: saved models, and importers for weights published elsewhere."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msafusion.fusion import MSAF

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class ModelError(ValueError):
    """A saved model is missing, broken or of another version; the message says which file and what to do."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON at once: an interruption leaves the old file or the new one, never half of one."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    scratch.replace(path)


def save_model(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` (what is needed to build the network again) into `folder`.

    Both are moved into place when they are whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / f".{WEIGHTS}")
    (folder / f".{WEIGHTS}").replace(folder / WEIGHTS)
    write_json(folder / CONFIG, dict(config))


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights that `save_model` wrote.

    Raises:
        ModelError: a file is missing or broken.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"no {name} in '{folder}', expected a saved model; give the folder of a finished training run."
            )
    try:
        return json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"'{folder / CONFIG}' is broken ({error}), expected JSON; train again or restore the file."
        ) from None
    except SafetensorError as error:
        raise ModelError(f"'{folder / WEIGHTS}' is broken ({error}); train again or restore the file.") from None


def load_reference(module: MSAF, state_dict: Mapping[str, Tensor]) -> MSAF:
    """Fill an `MSAF` from the parameter names of the published code (anita-hu/MSAF).

    Its keys are `blocks.<segment>.joint_features.<0: linear, 1: batch norm>.*` and
    `blocks.<segment>.dense_group.<block>.{weight,bias}`, blocks counted over streams in their order.

    Args:
        module: with norm="batch", and the streams in the order of the published code's list.
        state_dict: of the published code's `MSAF`, whole.

    Returns:
        The module, filled.

    Raises:
        ValueError: keys are missing or left over, or a shape differs; all of them are named.
    """
    if not isinstance(module.norm, nn.BatchNorm1d):
        raise ValueError(f'module has norm="{module.norm_kind}", expected norm="batch" as the published code has.')
    total_blocks, channels = module.block_weight.shape[1], module.block_channels
    joint = module.joint_bias.shape[1]
    used: set[str] = set()
    problems: list[str] = []

    def take(key: str, shape: tuple[int, ...]) -> Tensor:
        used.add(key)
        if key not in state_dict:
            problems.append(f"missing {key}")
            return torch.zeros(shape)
        if tuple(state_dict[key].shape) != shape:
            problems.append(f"{key} has shape {tuple(state_dict[key].shape)}, expected {shape}")
            return torch.zeros(shape)
        return state_dict[key]

    filled: dict[str, list[Tensor]] = {}
    for segment in range(module.segments):
        prefix = f"blocks.{segment}."
        shapes = {"joint_weight": ("0.weight", (joint, channels)), "joint_bias": ("0.bias", (joint,))}
        shapes |= {
            f"norm.{name}": (f"1.{name}", (joint,)) for name in ("weight", "bias", "running_mean", "running_var")
        }
        for ours, (theirs, shape) in shapes.items():
            filled.setdefault(ours, []).append(take(f"{prefix}joint_features.{theirs}", shape))
        counter = take(f"{prefix}joint_features.1.num_batches_tracked", ())
        filled.setdefault("norm.num_batches_tracked", []).append(counter)
        for ours, name, shape in (("block_weight", "weight", (channels, joint)), ("block_bias", "bias", (channels,))):
            parts = [take(f"{prefix}dense_group.{block}.{name}", shape) for block in range(total_blocks)]
            filled.setdefault(ours, []).append(torch.stack(parts))
    problems += [f"unexpected {key}" for key in state_dict if key not in used]
    if problems:
        segments = len({match[1] for key in state_dict if (match := re.match(r"blocks\.(\d+)\.", key))})
        raise ValueError(
            f"the weights do not fit this MSAF ({module.segments} segments, {total_blocks} blocks of {channels}; the "
            f"weights have {segments} segments): " + "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        )
    counters = filled.pop("norm.num_batches_tracked")
    ours = {key: torch.cat(parts) if key.startswith("norm.") else torch.stack(parts) for key, parts in filled.items()}
    module.load_state_dict({**ours, "norm.num_batches_tracked": counters[0]})
    return module
