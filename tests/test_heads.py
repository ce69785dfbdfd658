"""Heads: one contract for all of HEADS, and values computed by hand."""

import pytest
import torch
from torch import nn

from msafusion import fuse
from msafusion.fusion import HEADS

A, B = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[5.0, 1.0], [4.0, 6.0]])
ONLY_FIRST = {"b": torch.tensor([True, False])}


@pytest.fixture(params=HEADS)
def head(request):
    return HEADS[request.param]({"a": 3, "b": 3}, 3).eval()


def outputs(batch=4):
    return {"a": torch.randn(batch, 3, requires_grad=True), "b": torch.randn(batch, 3, requires_grad=True)}


def test_every_head_gives_one_prediction_a_sample_and_passes_gradients(head):
    given = outputs()
    prediction = head(given)
    assert prediction.shape == (4, 3)
    prediction[:, 0].sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in given.values())


def test_every_head_treats_samples_separately(head):
    given = outputs()
    single = head({name: tensor[1:2] for name, tensor in given.items()})
    torch.testing.assert_close(head(given)[1:2], single)


def test_every_head_takes_any_missing_network(head):
    given = outputs()
    assert head({"a": given["a"]}).shape == (4, 3)
    assert head({"b": given["b"]}).shape == (4, 3)


def test_a_missing_row_counts_as_a_missing_network(head):
    given, here = outputs(), torch.tensor([True, False, True, False])
    zeroed = {"a": given["a"], "b": given["b"].masked_fill(~here.unsqueeze(1), 0)}
    prediction = head(zeroed, None, {"b": here})
    torch.testing.assert_close(prediction[~here], head({"a": given["a"]})[~here])
    torch.testing.assert_close(prediction[here], head(given)[here])


def test_every_head_saves_its_weights(head):
    other = type(head)({"a": 3, "b": 3}, 3).eval()
    other.load_state_dict(head.state_dict())
    given = outputs()
    assert torch.equal(other(given), head(given))


def test_sum():
    assert HEADS["sum"]({})({"a": A, "b": B}).tolist() == [[6.0, 4.0], [4.0, 8.0]]


def test_mean_divides_by_the_networks_present():
    assert HEADS["mean"]({})({"a": A, "b": B}).tolist() == [[3.0, 2.0], [2.0, 4.0]]
    missing = B * torch.tensor([[1.0], [0.0]])
    assert HEADS["mean"]({})({"a": A, "b": missing}, None, ONLY_FIRST).tolist() == [[3.0, 2.0], [0.0, 2.0]]


def test_product_multiplies_probabilities():
    got = HEADS["product"]({})({"a": A, "b": B}).exp()
    expected = torch.softmax(A, dim=1) * torch.softmax(B, dim=1)
    torch.testing.assert_close(got, expected / expected.sum(dim=1, keepdim=True))
    got = HEADS["product"]({})({"a": A, "b": torch.zeros(2, 2)}, None, ONLY_FIRST).exp()
    torch.testing.assert_close(got[1], torch.softmax(A[1], dim=0))


def test_concat_is_a_linear_map_of_outputs_side_by_side():
    head = HEADS["concat"]({"a": 2, "b": 2}, 1)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        head.linear.bias.fill_(0.5)
    assert head({"a": A, "b": B}).tolist() == [[1531.5], [6420.5]]
    assert head({"b": B}).tolist() == [[1500.5], [6400.5]]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_product_of_a_single_output_is_an_error(shape):
    with pytest.raises(ValueError, match=r"product head got logits of shape .*two classes.*two outputs"):
        HEADS["product"]({})({"a": torch.randn(shape)})


def test_concat_without_num_outputs_is_an_error():
    with pytest.raises(ValueError, match=r'head="concat" got no num_outputs.*pass num_outputs='):
        HEADS["concat"]({"a": 3})


@pytest.mark.parametrize("name", ["sum", "mean", "concat"])
def test_predictions_of_every_step_go_through_heads(name):
    networks = {"a": nn.Linear(5, 3), "b": nn.Linear(2, 3)}
    inputs = {"a": torch.randn(4, 7, 5), "b": torch.randn(4, 7, 2)}
    net = fuse(networks, head=name, num_outputs=3 if name == "concat" else None, example=inputs)
    output = net(inputs, present={"a": torch.tensor([True, False, True, True])})
    assert output.shape == (4, 7, 3)
    torch.testing.assert_close(output[1], net({"b": inputs["b"]})[1])


class Gap(nn.Module):
    """A head of the user's own."""

    def __init__(self):
        super().__init__()
        self.seen = None

    def forward(self, outputs):
        self.seen = outputs
        return outputs["a"]["hidden"] - outputs["b"]


class TwoTensors(nn.Linear):
    def forward(self, x):
        hidden = super().forward(x)
        return {"hidden": hidden, "squared": hidden.square()}


def test_a_head_of_ones_own_gets_the_outputs_as_they_are():
    inputs = {"a": torch.randn(4, 5), "b": torch.randn(4, 2)}
    net = fuse({"a": TwoTensors(5, 3), "b": nn.Linear(2, 3)}, head=Gap())
    outputs = net.stream_outputs(inputs)
    assert torch.equal(net(inputs), outputs["a"]["hidden"] - outputs["b"])
    net(inputs, present={"a": torch.tensor([True, True, False, True])})
    assert net.head.seen["a"]["squared"][2].eq(0).all()
    assert torch.equal(net.head.seen["a"]["squared"][3], outputs["a"]["squared"][3])
