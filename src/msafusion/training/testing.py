"""Building a network for a data set, and predicting its samples with a trained one."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from msafusion.attach import FusedNetwork
from msafusion.data.preprocessing import Preprocessing
from msafusion.data.samples import Sample, Splits, as_dataset, collate, with_streams
from msafusion.files.bounds import at_most, memory
from msafusion.networks import NetworkPlan

StreamInputs = dict[str, Tensor]
Condition = Callable[[StreamInputs, Mapping[str, Tensor]], StreamInputs]
"""(a batch's inputs, lengths) -> the inputs to test with."""


def fit_plan(plan: NetworkPlan, splits: Splits) -> NetworkPlan:
    """The plan with what it leaves open decided by a data set's first training sample."""
    inputs = splits.preprocessing.inputs(collate([splits.train[0]])["inputs"])
    return plan.fitted({stream: tuple(values.shape[1:]) for stream, values in inputs.items()}, splits.channels)


def build(plan: NetworkPlan, splits: Splits) -> FusedNetwork:
    """A network with new weights, and as many CPU threads as it is worth.

    Raises:
        NetworkTooLarge: this machine has not the memory for it.
    """
    if plan.cpu_threads is not None:
        torch.set_num_threads(plan.cpu_threads)
    with at_most(memory(), "this machine's memory"):
        return plan.build(splits.channels, splits.num_outputs)


def keep_inputs(inputs: StreamInputs, lengths: Mapping[str, Tensor]) -> StreamInputs:
    """The condition of an ordinary test."""
    return inputs


@torch.inference_mode()
def predict_dataset(
    network: FusedNetwork,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    conditions: Mapping[str, Condition] | None = None,
    batch_size: int = 32,
) -> tuple[dict[str, Tensor], Tensor]:
    """A network's outputs for samples, in their order, in float32, in eval mode, on a GPU if there is one.

    Args:
        network: takes some or all of the samples' streams.
        samples: at least one.
        preprocessing: from stored streams to inputs.
        conditions: name -> change of the inputs; each batch is read once and passes through all of them. None: only
            "" for the inputs as they are.
        batch_size: samples of a batch.

    Returns:
        Condition -> outputs (samples, ...), and the labels (samples,).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.eval().to(device)
    conditions = {"": keep_inputs} if conditions is None else conditions
    outputs: dict[str, list[Tensor]] = {name: [] for name in conditions}
    labels: list[Tensor] = []
    for batch in DataLoader(as_dataset(with_streams(samples, network.networks)), batch_size, collate_fn=collate):
        stored = {name: values.to(device) for name, values in batch["inputs"].items() if name in network.networks}
        lengths = {name: values.to(device) for name, values in batch["lengths"].items() if name in stored}
        inputs = preprocessing.inputs(stored)
        for name, condition in conditions.items():
            given = condition(inputs, lengths)
            known = {stream: length for stream, length in lengths.items() if stream in given}
            outputs[name].append(network(given, known).float().cpu())
        labels.append(batch["label"])
    return {name: torch.cat(parts) for name, parts in outputs.items()}, torch.cat(labels)
