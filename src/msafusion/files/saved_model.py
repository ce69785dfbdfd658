"""Saved models: weights as safetensors, configuration as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msafusion.files.json_file import write_json
from msafusion.files.reading import read_json, reading

Shapes = Mapping[str, tuple[int, ...]]
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class ModelError(ValueError):
    """A saved model is missing, broken or of another version; the message says which file and what to do.

    Examples:
        >>> from msafusion.checkpoints import read_weights
        >>> read_weights("no_such_file.pth")
        Traceback (most recent call last):
            ...
        msafusion.files.saved_model.ModelError: no file 'no_such_file.pth'...
    """


class WeightsMismatch(ModelError):
    """Weights do not fit a module.

    Attributes:
        missing: keys that the module needs and the weights lack.
        unexpected: keys that the weights have beside.
        wrong_shape: key -> (shape in the weights, shape in the module).

    Examples:
        >>> from msafusion.backbones import MFCCNet
        >>> from msafusion.checkpoints import WeightsMismatch, load_pretrained
        >>> weights = MFCCNet().state_dict()
        >>> del weights["conv1.weight"]
        >>> try:
        ...     load_pretrained(MFCCNet(), weights)
        ... except WeightsMismatch as error:
        ...     print(error.missing, error.unexpected, error.wrong_shape)
        ['conv1.weight'] [] {}
    """

    def __init__(self, what: str, missing: list[str], unexpected: list[str], wrong_shape: dict[str, tuple]) -> None:
        self.missing, self.unexpected, self.wrong_shape = missing, unexpected, wrong_shape
        problems = [f"missing {key}" for key in missing] + [f"unexpected {key}" for key in unexpected]
        problems += [f"{key} has shape {got}, expected {expected}" for key, (got, expected) in wrong_shape.items()]
        counts = f"{len(missing)} keys missing, {len(unexpected)} unexpected, {len(wrong_shape)} of another shape"
        super().__init__(
            f"the weights do not fit {what} ({counts}): " + "; ".join(problems[:10]) + ("; ..." * (len(problems) > 10))
        )


def check_fit(what: str, weights: Mapping[str, Tensor], expected: Shapes) -> None:
    """Refuse weights whose keys or shapes differ from those expected.

    Raises:
        WeightsMismatch: they do; it names every key.
    """
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    wrong_shape = {
        key: (tuple(weights[key].shape), shape)
        for key, shape in expected.items()
        if key in weights and tuple(weights[key].shape) != shape
    }
    if missing or unexpected or wrong_shape:
        raise WeightsMismatch(what, missing, unexpected, wrong_shape)


def save_model(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` (what is needed to build the network again) into `folder`.

    Both are moved into place when they are whole.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from msafusion.backbones import CNN1d
        >>> from msafusion.checkpoints import save_model
        >>> with TemporaryDirectory() as folder:
        ...     save_model(Path(folder), CNN1d(3, 7), {"in_channels": 3, "num_outputs": 7})
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['config.json', 'model.safetensors']
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

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from msafusion.backbones import CNN1d
        >>> from msafusion.checkpoints import read_model, save_model
        >>> with TemporaryDirectory() as folder:
        ...     save_model(Path(folder), CNN1d(3, 7), {"in_channels": 3})
        ...     config, weights = read_model(Path(folder))
        >>> config, weights["fc.weight"].shape
        ({'in_channels': 3}, torch.Size([7, 128]))
    """
    check_files(folder, "a saved model; give the folder of a finished training run")
    weights = read_state(folder, "train again or restore the file")
    return read_config(folder, "train again or restore the file"), weights


def check_files(folder: Path, expected: str) -> None:
    """Refuse a folder without the two files of a saved model; `expected` says what it should be, and the remedy.

    Raises:
        ModelError: one is missing.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"no {name} in '{folder}', expected {expected}.")


def read_state(folder: Path, remedy: str) -> dict[str, Tensor]:
    """The weights of a saved model.

    Raises:
        ModelError: the file is broken.
    """
    with reading(folder / WEIGHTS, "the weights of a saved model", remedy, ModelError):
        return load_file(folder / WEIGHTS)


def read_config(folder: Path, remedy: str) -> dict[str, Any]:
    """The configuration of a saved model.

    Raises:
        ModelError: the file is broken.
    """
    config = read_json(folder / CONFIG, remedy, ModelError)
    if not isinstance(config, dict):
        raise ModelError(f"'{folder / CONFIG}' holds a {type(config).__name__}, expected a configuration; {remedy}.")
    return config
