"""A trained model in Python: `msafusion.load(run)` gives the network and its preprocessing back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from msafusion.attach import FusedNetwork
from msafusion.checkpoints import ModelError, read_model
from msafusion.networks import plan_from
from msafusion.samples import Windows


@dataclass(frozen=True)
class TrainedModel:
    """A network with its preprocessing and classes.

    Attributes:
        network: in eval mode; takes {stream: (batch, channels, steps)} as the preprocessing gives it.
        preprocessing: from a raw recording, {stream: (time, channels)}, to {stream: (windows, channels, steps)}.
        classes: names of the outputs.
    """

    network: FusedNetwork
    preprocessing: Windows
    classes: list[str]

    @torch.inference_mode()
    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> Float[Tensor, "windows classes"]:
        """Class probabilities of each window of one raw recording; a stream may be absent.

        Raises:
            DataError: the recording does not fit the preprocessing.
        """
        device = next(self.network.parameters()).device
        inputs = {name: values.to(device) for name, values in self.preprocessing(recording).items()}
        return torch.softmax(self.network(inputs), dim=1)


def load(run: str | Path) -> TrainedModel:
    """The model of a training run (its folder, or the `model` folder inside).

    Raises:
        ModelError: there is no model, or its files are broken or do not fit this version.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config, state = read_model(folder)
    try:
        preprocessing = Windows(**config["preprocessing"])
        channels = {name: len(values) for name, values in preprocessing.mean.items()}
        network = plan_from(config["network"]).build(channels, len(config["classes"]))
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the model in '{folder}' does not fit this version of msafusion (made by "
            f"{config.get('msafusion', 'an unknown one')}): {error}; use that version, or train again."
        ) from error
    return TrainedModel(network.eval(), preprocessing, config["classes"])
