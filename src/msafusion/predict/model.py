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
from msafusion.preprocessing import Preprocessing, preprocessing_from


@dataclass(frozen=True)
class TrainedModel:
    """A network with its preprocessing and classes.

    Attributes:
        network: in eval mode; takes a batch as the preprocessing gives it.
        preprocessing: from a raw recording ({stream: (time, channels)} for signals, to a batch of its windows).
        classes: names of the outputs; none: the output is a value.
    """

    network: FusedNetwork
    preprocessing: Preprocessing
    classes: list[str]

    @torch.inference_mode()
    def __call__(self, recording: Mapping[str, np.ndarray | Tensor]) -> Float[Tensor, "windows outputs"]:
        """Class probabilities (or values) of each window of one raw recording; a stream may be absent.

        Raises:
            DataError: the recording does not fit the preprocessing.
        """
        device = next(self.network.parameters()).device
        inputs = {name: values.to(device) for name, values in self.preprocessing(recording).items()}
        outputs = self.network(inputs)
        return torch.softmax(outputs, dim=1) if self.classes else outputs


def load(run: str | Path) -> TrainedModel:
    """The model of a training run (its folder, or the `model` folder inside).

    Raises:
        ModelError: there is no model, or its files are broken or do not fit this version.
    """
    folder = Path(run)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    config, state = read_model(folder)
    if "stream" in config:
        raise ModelError(
            f"'{folder}' holds the network of the stream '{config['stream']}' alone, expected a whole run; give the "
            "run's folder, or read these weights by checkpoints.load_pretrained."
        )
    try:
        preprocessing = preprocessing_from(config["preprocessing"])
        network = plan_from(config["network"]).build(preprocessing.num_channels(), len(config["classes"]) or 1)
        network.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the model in '{folder}' does not fit this version of msafusion (made by "
            f"{config.get('msafusion', 'an unknown one')}): {' '.join(str(error).split())[:300]}; "
            "use that version, or train again."
        ) from error
    return TrainedModel(network.eval(), preprocessing, config["classes"])
