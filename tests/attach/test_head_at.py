"""Heads that read layers inside the networks."""

import pytest
import torch
from small_networks import VideoCNN
from torch import nn

from msafusion import FusionPoint, fuse
from msafusion.backbones import CNN1d
from msafusion.fusion import HEADS, Concat
from msafusion.streams import FusionError

CHANNELS = {"a": 3, "b": 2}
LAST = {"a": "dropout", "b": "dropout"}
LEVELS = [{"a": "stage1", "b": "stage1"}, LAST]


def networks():
    return {name: CNN1d(count, 5, widths=(4, 8)) for name, count in CHANNELS.items()}


def batch(size=3, steps=12):
    return {name: torch.randn(size, count, steps) for name, count in CHANNELS.items()}


def late(head, head_at=LAST, **more):
    return fuse(networks(), head=head, head_at=head_at, num_outputs=5, example=batch(), **more).eval()


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("sum", "mean", "product", "multiplicative")])
def test_every_method_reads_features_and_leaves_the_networks_as_they_are(name):
    net, inputs = late(name, LEVELS if name == "centralnet" else LAST), batch()
    outputs = net.stream_outputs(inputs)
    assert net.combine(outputs).shape == (3, 5)
    for stream, network in net.networks.items():
        assert torch.equal(outputs[stream], network(inputs[stream]))
    net(inputs).sum().backward()
    assert all(network.stage1[0].weight.grad.abs().sum() > 0 for network in net.networks.values())
    assert net({"a": inputs["a"]}).shape == (3, 5)


def test_concat_sees_exactly_the_vectors_of_the_named_layers():
    net, inputs = late("concat"), batch()
    vectors = [network.get_submodule("stage2") for network in net.networks.values()]
    with torch.no_grad():
        means = [
            stage2(network.stage1(inputs[name])).mean(dim=2)
            for (name, network), stage2 in zip(net.networks.items(), vectors, strict=True)
        ]
    torch.testing.assert_close(net(inputs), net.head.linear(torch.cat(means, dim=1)))


def test_maps_are_averaged_over_real_steps_only():
    net = late("gmu", {"a": "stage2", "b": "stage2"})
    inputs = batch(steps=12)
    padded = {name: torch.cat([values, torch.randn(3, values.shape[1], 4)], dim=2) for name, values in inputs.items()}
    lengths = dict.fromkeys(CHANNELS, torch.tensor([12, 12, 12]))
    torch.testing.assert_close(net(padded, lengths), net(inputs, lengths))


def test_a_sample_without_a_stream_is_read_as_if_the_stream_were_absent():
    net, inputs = late("mfb"), batch()
    here = torch.tensor([True, False, True])
    torch.testing.assert_close(net(inputs, present={"b": here})[1], net({"a": inputs["a"]})[1])
    torch.testing.assert_close(net(inputs, present={"b": here})[here], net(inputs)[here])


def test_fusion_between_layers_and_a_head_go_together():
    point = FusionPoint({"a": "stage1", "b": "stage1"}, fusion="mmtm")
    net = fuse(networks(), point, head="gmu", head_at=LAST, head_options={"hidden": 6}, num_outputs=5, example=batch())
    assert (len(net.fusion_layers), len(net.readings), net.head.hidden) == (1, 1, 6)
    exported = net.eval().export(batch(2)).module()
    inputs = batch(5)
    torch.testing.assert_close(exported(inputs), net(inputs))


def test_levels_are_named_by_network_and_layer():
    assert late("centralnet", LEVELS).head.levels == [["a.stage1", "b.stage1"], ["a.dropout", "b.dropout"]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "gmu", "head_at": LEVELS}, ValueError, 'head="gmu" reads one level, got 2'),
        ({"head": "gmu", "head_options": {"hiden": 3}}, ValueError, "no option 'hiden'; its options are hidden"),
        ({"head": "gmu", "head_at": {"a": "stage9", "b": "stage2"}}, FusionError, "no submodule 'stage9'"),
        ({"head": "gmu", "head_at": {"a": "stage2"}}, FusionError, "head_at names no layer of network 'b'"),
        ({"head": "sum"}, ValueError, 'head="sum" takes the networks\' predictions, got head_at'),
        ({"head": "gmux"}, ValueError, "unknown head 'gmux'; did you mean 'gmu'"),
        ({"head": nn.Identity()}, ValueError, "head_at and head_options are for heads of HEADS"),
        ({"head": "gmu", "num_outputs": None}, ValueError, "no num_outputs"),
    ],
)
def test_mistakes_are_named(options, error, message):
    given = {"head_at": LAST, "num_outputs": 5, "example": batch(), **options}
    with pytest.raises(error, match=message):
        fuse(networks(), **given)


@pytest.mark.usefixtures("without_shape_checks")  # which would say it in their own words
def test_a_layer_without_its_network_is_refused():
    with pytest.raises(TypeError, match=r"head_at holds 'dropout', expected \{network: submodule\} or a FusionPoint"):
        late("gmu", ["dropout"])


def test_outputs_without_what_the_head_reads_are_refused():
    net, inputs = late("concat"), batch()
    with pytest.raises(FusionError, match="give it what stream_outputs"):
        net.combine(dict(net.stream_outputs(inputs)))


def test_a_head_of_ones_own_making_reads_layers_too():
    head = Concat({"a": 8, "b": 8}, 2)
    net = fuse(networks(), head=head, head_at=LAST, example=batch())
    assert net(batch()).shape == (3, 2)
    assert isinstance(fuse({"video": VideoCNN()}).head, HEADS["sum"])


class Transposing(nn.Module):
    """Convolves over what comes last and averages the rest away; sizes of 8 do not tell its axes apart."""

    def __init__(self):
        super().__init__()
        self.mixed, self.output = nn.Identity(), nn.Linear(8, 5)

    def forward(self, x):
        return self.output(self.mixed(x.transpose(1, 2) + x).mean(dim=1))


def test_a_fusion_point_tells_the_axes_of_layers_that_a_head_reads():
    inputs, lengths = {"a": torch.randn(3, 8, 8)}, {"a": torch.tensor([8, 3, 5])}
    options = {"head": "concat", "num_outputs": 5, "example": inputs}
    with pytest.raises(FusionError, match="channel_axis"):
        fuse({"a": Transposing()}, head_at={"a": "mixed"}, **options)
    level = FusionPoint({"a": "mixed"}, channel_axis=-1)
    with pytest.raises(FusionError, match=r"head at a.mixed.*time_axis"):
        fuse({"a": Transposing()}, head_at=level, **options)(inputs, lengths)
    for told, steps in (({"a": 1}, lengths["a"]), ({"a": None}, torch.tensor([8, 8, 8]))):
        net = fuse(
            {"a": Transposing()}, head_at=FusionPoint({"a": "mixed"}, channel_axis=-1, time_axis=told), **options
        )
        mixed = inputs["a"].transpose(1, 2) + inputs["a"]
        means = torch.stack([sample[:count].mean(dim=0) for sample, count in zip(mixed, steps, strict=True)])
        torch.testing.assert_close(net(inputs, lengths), net.head.linear(means))


def test_levels_may_be_fusion_points_and_have_no_fusion_of_their_own():
    levels = [FusionPoint(LEVELS[0], channel_axis={"a": 1}), LAST]
    inputs = batch()
    net, expected = late("centralnet", levels), late("centralnet", LEVELS)
    net.load_state_dict(expected.state_dict())
    torch.testing.assert_close(net(inputs), expected(inputs))
    with pytest.raises(ValueError, match=r"head_at has a fusion method.*none"):
        late("gmu", FusionPoint(LAST, "se"))
