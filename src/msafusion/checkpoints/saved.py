"""Saved models: weights as safetensors, configuration as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class ModelError(ValueError):
    """A saved model is missing, broken or of another version; the message says which file and what to do."""


def save_model(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` (what is needed to build the network again) into `folder`.

    Both are moved into place when they are whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    seen: set[int] = set()
    for name, tensor in state.items():  # shared weights have several keys, and safetensors wants no shared memory
        if tensor.numel() and tensor.untyped_storage().data_ptr() in seen:
            state[name] = tensor.clone()
        seen.add(state[name].untyped_storage().data_ptr())
    scratch = folder / f".{WEIGHTS}"
    scratch.unlink(missing_ok=True)
    scratch.touch()
    mode = scratch.stat().st_mode  # by the user's umask; safetensors makes files that only their owner can read
    save_file(state, scratch)
    scratch.chmod(mode)
    scratch.replace(folder / WEIGHTS)
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
    remedy = "train again or restore the file"
    with reading(folder / WEIGHTS, "the weights of a saved model", remedy, ModelError):
        weights = load_file(folder / WEIGHTS)
    config = read_json(folder / CONFIG, remedy, ModelError)
    if not isinstance(config, dict):
        raise ModelError(f"'{folder / CONFIG}' holds a {type(config).__name__}, expected a configuration; {remedy}.")
    return config, weights
