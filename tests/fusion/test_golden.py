"""The published code's numbers: outputs, gradients and running statistics (tests/golden, made by running it)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from msafusion import MSAF
from msafusion.reproduce import load_reference

GOLDEN = Path(__file__).parents[1] / "golden"
FIXTURES = sorted(
    path.stem for path in GOLDEN.glob("*.safetensors") if not path.stem.startswith(("network", "unimodal"))
)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def golden(name):
    """Tensors by group ("param", "input", ...), and the module that the reference describes, filled."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 (not a dict)
            group, rest = key.split("/", 1)
            groups.setdefault(group, {})[rest] = file.get_tensor(key)
    channels = {str(i): count for i, count in enumerate(config["in_channels"])}
    module = MSAF(
        channels,
        config["block_channel"],
        reduction=config["reduction_factor"],
        lowest_attention=config["lowest_atten"],
        segments=config["split_block"],
        init="paper",
    )
    return load_reference(module, groups["param"]), groups


def test_all_six_fixtures_are_here():
    assert len(FIXTURES) == 6


@pytest.mark.parametrize("name", FIXTURES)
def test_eval_outputs_equal_the_reference(name):
    module, groups = golden(name)
    outputs = module.eval()(groups["input"])
    for stream, expected in groups["eval"].items():
        torch.testing.assert_close(outputs[stream], expected, **CLOSE)


@pytest.mark.parametrize("name", FIXTURES)
def test_training_step_equals_the_reference(name):
    module, groups = golden(name)
    inputs = {stream: value.requires_grad_() for stream, value in groups["input"].items()}
    outputs = module.train()(inputs)
    for stream, expected in groups["train"].items():
        torch.testing.assert_close(outputs[stream], expected, **CLOSE)
    sum(output.square().sum() for output in outputs.values()).backward()
    for stream, expected in groups["grad"].items():
        torch.testing.assert_close(inputs[stream].grad, expected, **CLOSE)
    # our parameters' gradients, under the reference's names
    gradients = dict(module.named_parameters())
    for key, expected in groups["grad_param"].items():
        _, segment, group, index, kind = key.split(".")
        if group == "dense_group":
            got = gradients[f"block_{kind}"].grad[int(segment), int(index)]
        elif index == "0":
            got = gradients[f"joint_{kind}"].grad[int(segment)]
        else:
            got = gradients[f"norm.{kind}"].grad.unflatten(0, (module.segments, -1))[int(segment)]
        # BatchNorm follows: the joint bias has no gradient but rounding
        close = {"rtol": 0, "atol": 1e-4} if key.endswith("joint_features.0.bias") else CLOSE
        torch.testing.assert_close(got, expected, **close)
    for key, expected in groups["buffer_after"].items():
        _, segment, _, _, kind = key.split(".")
        got = getattr(module.norm, kind)
        if kind != "num_batches_tracked":
            got = got.unflatten(0, (module.segments, -1))[int(segment)]
        torch.testing.assert_close(got, expected, **CLOSE)


def test_load_reference_names_what_is_missing_and_left_over():
    module, groups = golden("block_two_cnn")
    weights = dict(groups["param"])
    weights["blocks.0.dense_group.9.bias"] = weights.pop("blocks.0.dense_group.5.bias")
    with pytest.raises(
        ValueError, match=r"missing blocks\.0\.dense_group\.5\.bias; unexpected blocks\.0\.dense_group\.9\.bias"
    ):
        load_reference(module, weights)


def test_load_reference_names_a_wrong_shape():
    module, groups = golden("block_two_cnn")
    weights = {**groups["param"], "blocks.0.joint_features.0.weight": torch.zeros(3, 8)}
    with pytest.raises(ValueError, match=r"joint_features\.0\.weight has shape \(3, 8\), expected \(2, 8\)"):
        load_reference(module, weights)


def test_load_reference_needs_batch_norm():
    with pytest.raises(ValueError, match='expected norm="batch"'):
        load_reference(MSAF({"a": 8}, 8, norm="layer"), {"a": torch.zeros(1)})
