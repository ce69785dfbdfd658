"""Mistakes: each an error that says which network, which point and what to do, and leaves the networks as they were."""

import re

import pytest
import torch
from small_networks import (
    AudioCNN,
    Chain,
    Recurrent,
    RecurrentWithLengths,
    VideoCNN,
    cnn_example,
    fused_chains,
    fused_cnns,
    num_hooks,
    pair,
)
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


def fuse_cnns(streams=None, *, example=None, networks=None, point=None, **options):
    """fuse() with one thing wrong; checks that no hook stays and that modes are as before."""
    networks = networks or {"video": VideoCNN().eval(), "audio": AudioCNN()}
    modules = [module for network in networks.values() for module in network.modules()]
    modes = [module.training for module in modules]
    example = cnn_example() if example is None else example
    try:
        point = point or FusionPoint(streams or {"video": "layer1", "audio": "relu1"}, block_channels=4)
        return fuse(networks, [point], example=example, **options)
    finally:
        assert num_hooks(*networks.values()) == 0
        assert [module.training for module in modules] == modes


class Returns(nn.Module):
    """A submodule "odd" that returns something else than a tensor; the network copes with it."""

    def __init__(self, value):
        super().__init__()
        self.odd = nn.Identity()
        self.value = value

    def forward(self, x):
        self.odd(self.value(x))
        return x.mean(dim=2)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(5, 5, 3, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x)).mean(dim=2)


MISTAKES = {
    "unknown submodule": (
        {"streams": {"video": "layer3", "audio": "relu1"}},
        r"network 'video' \(VideoCNN\) has no submodule 'layer3'; did you mean '.*layer1'",
    ),
    "unknown network": (
        {"streams": {"vidio": "layer1", "audio": "relu1"}},
        r"fusion point vidio.layer1 \+ audio.relu1 names the unknown network 'vidio'; did you mean 'video'",
    ),
    "unknown head": ({"head": "summ"}, r"unknown head 'summ'; did you mean 'sum'\?"),
    "concat without num_outputs": ({"head": "concat"}, r'head="concat" got no num_outputs.*pass num_outputs'),
    "no input in the example": (
        {"example": {"video": torch.randn(2, 3, 4, 6, 6)}}, "example has no input .* audio; give",
    ),
    "unknown name in the example": ({"example": {**cnn_example(), "text": 1}}, "inputs for the unknown network 'text'"),
    "example without tensors": (
        {"example": {**cnn_example(), "audio": {"path": "a.wav"}}}, "input is a dict, expected a tensor",
    ),
    "other batch sizes": (
        {"example": {**cnn_example(3), "audio": torch.randn(2, 5, 9)}},
        r"fusion point video.layer1 \+ audio.relu1: stream 'audio' has a batch of 2, expected 3",
    ),
    "head shapes differ": (
        {"networks": {"video": VideoCNN(), "audio": nn.Sequential(nn.Conv1d(5, 6, 3), nn.Flatten())},
         "streams": {"video": "layer1", "audio": "0"}},
        r"outputs have shapes .*'video': \(3, 4\), 'audio': \(3, 42\).*head=\"concat\"",
    ),
    "no prediction for the head": (
        {"networks": {"video": VideoCNN(), "audio": nn.GRU(9, 4, batch_first=True)},
         "streams": {"video": "layer1"}},
        "network 'audio' gives a tuple .*expected a tensor or `logits` for the head; give",
    ),
    "time_axis of an unknown network": ({"time_axis": {"vid": 2}}, "time_axis names the unknown network 'vid'"),
    "twice in one forward": (
        {"networks": {"video": VideoCNN(), "audio": Twice()}, "streams": {"video": "layer1", "audio": "conv"}},
        r"network 'audio' at fusion point .*ran twice in one forward call.*returns a dict or tuple",
    ),
    "two submodules of one network": (
        {"streams": {"video": {"one": "layer1", "two": "layer2"}}},
        "network 'video' offers streams of the submodules 'layer1' and 'layer2'.*fuse at a module that returns both",
    ),
    "two streams of one name": (
        {"streams": {"video": {"x": "layer1"}, "audio": {"x": "relu1"}}}, "two streams called 'x'; give them different",
    ),
    "fusion refuses an option": (
        {"point": FusionPoint({"video": "layer1", "audio": "relu1"}, block_channels=4, reduction=9)},
        r"fusion point video.layer1 \+ audio.relu1: reduction is 9, expected at most",
    ),
    "nonsense in a name": ({"networks": {"a.b": VideoCNN()}, "streams": {"a.b": "layer1"}}, "cannot be called 'a.b'"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_names_what_where_and_the_remedy(mistake):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        fuse_cnns(**arguments)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (lambda x: x.shape, "a Size of int, int, int"),
        (lambda x: "text", "a str"),
        (lambda x: {"count": 3}, "a dict with keys count"),
        (lambda x: (x.long(),), "a tuple of Tensor"),
        (lambda x: None, "a NoneType"),
    ],
)
def test_an_output_without_features_is_an_error(value, found):
    networks = {"a": Returns(value), "b": Chain()}
    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    point = FusionPoint({"a": "odd", "b": "first"}, block_channels=4)
    message = rf"submodule 'odd' of network 'a' \(fusion point a.odd \+ b.first\) gives {found}, expected a tensor"
    with pytest.raises(FusionError, match=message):
        fuse_cnns(networks=networks, example=example, point=point)


@pytest.mark.parametrize("point", ["lstm", "lstm[0]"])
def test_a_packed_sequence_is_an_error(point):
    point = FusionPoint({"a": point, "b": "conv1"}, block_channels=4)
    example = {"a": torch.randn(2, 9, 3), "b": torch.randn(2, 5, 9)}
    with pytest.raises(FusionError, match=r"submodule 'lstm' of network 'a'.*PackedSequence"):
        fuse_cnns(networks={"a": RecurrentWithLengths(3, 4), "b": AudioCNN()}, example=example, point=point)


def test_a_vector_without_channels_is_an_error():
    networks, example = {"a": Returns(lambda x: x[:, 0, 0])}, {"a": torch.randn(2, 4, 6)}
    with pytest.raises(FusionError, match=r"gives shape \(2,\), expected \(batch, channels, ...\); choose another"):
        fuse_cnns({"a": "odd"}, networks=networks, example=example)


def test_a_point_never_reached_is_an_error():
    with pytest.raises(FusionError, match=r"network 'b' ended without running its submodule of fusion point a.second"):
        fused_chains(order_b=("first", "third"), at=("second",))


def test_a_container_that_is_never_called_is_never_reached():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Conv1d(4, 4, 3, padding=1)])

        def forward(self, x):
            return self.parts[0](x).mean(dim=2)

    example = {"a": torch.randn(2, 4, 6), "b": torch.randn(2, 4, 6)}
    with pytest.raises(
        FusionError, match=r"network 'a' ended without running .*name a submodule that its forward calls"
    ):
        pair(Listed(), Listed(), "parts", example)


def test_points_in_conflicting_orders_are_an_error():
    message = r"network 'b' reached fusion point a.third \+ b.third before a.first \+ b.first.*reorder or remove"
    with pytest.raises(FusionError, match=message):
        fused_chains(order_b=("third", "second", "first"))


def test_points_may_be_listed_in_any_order():
    net, example = fused_chains(at=("third", "first"))
    assert net(example).shape == (2, 4)


def test_a_layer_left_out_after_fuse_is_an_error_and_the_next_call_works():
    net, example = fused_chains()
    net.eval().networks["b"].order = ("first", "second")
    with pytest.raises(FusionError, match=r"network 'b' ended without running .*in training only"):
        net(example)
    net.networks["b"].order = ("first", "second", "third")
    assert net(example).shape == (2, 4)


class Shrinks(nn.Module):
    def forward(self, features, masks=None, present=None):
        return {name: feature[:, :, ::2] for name, feature in features.items()}


class Forgets(nn.Module):
    def forward(self, features, masks=None, present=None):
        return {"video": features["video"]}


class Tuples(nn.Module):
    def forward(self, features, masks=None, present=None):
        return tuple(features.values())


@pytest.mark.parametrize(("fusion", "gave"), [(Shrinks(), "a tensor of"), (Forgets(), "a dict"), (Tuples(), "a tuple")])
def test_a_fusion_module_that_gives_something_else_is_an_error(fusion, gave):
    point = FusionPoint({"video": "layer1", "audio": "relu1"}, fusion)
    with pytest.raises(
        FusionError, match=rf"fusion point video.layer1.*: {type(fusion).__name__} gave {gave}.*stream '"
    ):
        fuse_cnns(point=point)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (({},), {}, ValueError, "got no network.*name at least one"),
        (({"a": "x"}, "msaff"), {}, ValueError, r"unknown fusion 'msaff'; did you mean 'msaf'"),
        (({"a": "x"}, nn.Identity()), {"block_channels": 4}, ValueError, "Identity and the options block_channels"),
        (({"a": "x[1"},), {}, TypeError, r"network 'a' of a FusionPoint got 'x\[1', expected a submodule's name"),
        (("first",), {}, TypeError, "streams of a FusionPoint is a str, expected {network"),
        (({"a": 3},), {}, TypeError, "network 'a' of a FusionPoint is a int, expected a submodule's name"),
        (({"a": "x"}, nn.Linear), {}, TypeError, "fusion of a FusionPoint is the class Linear, expected a name"),
        (({"a": "x"},), {"channel_axis": "1"}, TypeError, "channel_axis of a FusionPoint is '1', expected the number"),
        (({"a": "x"},), {"time_axis": {"a": 1.5}}, TypeError, "time_axis of a FusionPoint is .*expected the number"),
        (({"a": {}},), {}, ValueError, "network 'a' of a FusionPoint names no stream"),
    ],
)
def test_mistakes_in_a_fusion_point(arguments, options, error, message):
    with pytest.raises(error, match=message):
        FusionPoint(*arguments, **options)


def test_missing_example_missing_networks_and_unknown_options():
    with pytest.raises(ValueError, match=r"got no example.*pass example="):
        fuse({"video": VideoCNN()}, [FusionPoint({"video": "layer1"}, block_channels=4)])
    with pytest.raises(ValueError, match=r"got no example"):
        fuse({"video": VideoCNN()}, head="concat", num_outputs=3)
    with pytest.raises(FusionError, match="got no network, expected"):
        fuse({})
    with pytest.raises(FusionError, match=r"fusion point video.layer1: .*blok"):
        fuse_cnns(point=FusionPoint({"video": "layer1"}, block_channels=4, blok=2))


OTHER_TYPES = {
    "networks": ({"networks": Chain()}, "networks is a Chain, expected {name: module}"),
    "names": ({"networks": {1: Chain()}}, "network's name is a int, expected a string (it is 1)"),
    "at": ({"at": "first"}, "at is a str, expected FusionPoint"),
    "at of a mapping": ({"at": {"a": "first"}}, "at is a dict, expected FusionPoint"),
    "at of a number": ({"at": 3}, "at is a int, expected FusionPoint"),
    "head": ({"head": 3}, "head is a int, expected a name"),
    "head's class": ({"head": nn.Linear}, "head is the class Linear, expected a name in HEADS, or a torch.nn.Module"),
    "head_at": ({"head_at": 3}, "head_at is a int, expected"),
    "head_options": ({"head_options": ["x"]}, "head_options is a list, expected"),
    "example": ({"example": torch.randn(2, 4, 6)}, "example is a Tensor, expected {network: input}"),
    "time_axis": ({"time_axis": 2}, "time_axis is a int, expected {network: axis"),
    "time_axis by network": ({"time_axis": {"a": "2"}}, "time_axis is {'a': '2'}, expected the number"),
}


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("case", OTHER_TYPES)
def test_arguments_of_another_type_are_named_with_what_is_expected(case):
    wrong, message = OTHER_TYPES[case]
    good = {"networks": {"a": Chain()}, "at": FusionPoint({"a": "first"}), "example": {"a": torch.randn(2, 4, 6)}}
    with pytest.raises(TypeError, match=re.escape(message)):
        fuse(**{**good, **wrong})


@pytest.mark.usefixtures("no_shape_checks")
def test_what_is_no_module_and_no_point_is_a_type_error():
    with pytest.raises(TypeError, match=r"network 'a' is a str, expected a torch.nn.Module"):
        fuse({"a": "resnet18"})
    with pytest.raises(TypeError, match="`at` holds a dict, expected FusionPoint"):
        fuse({"a": VideoCNN()}, [{"a": "layer1"}])


def test_mistakes_at_call():
    net, example = fused_cnns(), cnn_example()
    with pytest.raises(ValueError, match=r"inputs for the unknown network 'vidio'; did you mean 'video'"):
        net({"vidio": example["video"]})
    with pytest.raises(ValueError, match="lengths for the unknown network 'text'"):
        net(example, lengths={"text": torch.ones(3, dtype=torch.long)})
    with pytest.raises(ValueError, match=r"got dict as inputs, expected .* at least one"):
        net({})
    with pytest.raises(ValueError, match=r"fusion point video.layer1.*batch of 2, expected 3"):
        net({**example, "audio": torch.randn(2, 5, 9)})
    late = fuse({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})
    with pytest.raises(FusionError, match=r"shapes \{'a': \(4, 2\), 'b': \(1, 2\)\}.*the same samples"):
        late({"a": torch.randn(4, 3), "b": torch.randn(1, 3)})


def test_a_single_point_needs_no_list_and_a_recurrent_network_no_option():
    example = {"a": torch.randn(2, 7, 3), "b": torch.randn(2, 5, 3)}
    point = FusionPoint({"a": "rnn", "b": "rnn"}, block_channels=4)
    assert len(fuse({"a": Recurrent(3, 4), "b": Recurrent(3, 4)}, point, example=example).fusion_layers) == 1
