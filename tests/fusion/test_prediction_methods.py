"""Methods that make one prediction of several streams: one contract for all of them."""

import pytest
import torch
from torch.testing import assert_close

from msafusion.fusion.block import BLOCK
from msafusion.fusion.centralnet import CentralNet
from msafusion.fusion.concat import Concat
from msafusion.fusion.gmu import GMU
from msafusion.fusion.late import Mean, Product, Sum
from msafusion.fusion.lmf import LMF
from msafusion.fusion.mcb import MCB
from msafusion.fusion.mfb import MFB
from msafusion.fusion.multiplicative import Multiplicative
from msafusion.fusion.tfn import TFN

OF_LOGITS = {"sum": Sum, "mean": Mean, "product": Product, "multiplicative": Multiplicative, "concat": Concat}
OF_FEATURES = {
    "gmu": lambda channels, outputs=None: GMU(channels, outputs, hidden=6),
    "tfn": lambda channels, outputs=None: TFN(channels, outputs, hidden=4, post_hidden=6),
    "tfn of the streams as they are": lambda channels, outputs=None: TFN(channels, outputs, hidden=None),
    "lmf": LMF,
    "mcb": lambda channels, outputs=None: MCB(channels, outputs, sketch=33),
    "mfb": lambda channels, outputs=None: MFB(channels, outputs, factor=3, hidden=8),
    "block": lambda channels, outputs=None: BLOCK(channels, outputs, hidden=8, chunks=2, rank=3),
    "centralnet": lambda channels, outputs=None: CentralNet(channels, outputs, hidden=8),
    "centralnet level by level": lambda channels, outputs=None: CentralNet(
        channels, outputs, hidden=8, levels=[[name] for name in channels]
    ),
}
METHODS = {**OF_LOGITS, **OF_FEATURES}
CHANNELS = {"video.stage3": 5, "audio": 3, "text": 4}  # a name with a dot is no name of a module
NAMES = list(CHANNELS)


def new_method(name, channels=None):
    """The method, in eval mode, its zeros and ones made random, and its channels."""
    channels = channels or CHANNELS
    if name in OF_LOGITS:
        channels = dict.fromkeys(channels, 3)
    method = METHODS[name](channels, 3).eval()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method, channels


def new_streams(channels, batch=4, positions=()):
    return {name: torch.randn(batch, count, *positions) for name, count in channels.items()}


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture(params=OF_FEATURES)
def of_features(request):
    return request.param


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_to_three_streams_give_one_prediction_and_gradients_reach_everything(name, number):
    method, channels = new_method(name, {stream: CHANNELS[stream] for stream in NAMES[:number]})
    streams = {stream: tensor.requires_grad_() for stream, tensor in new_streams(channels).items()}
    prediction = method.train()(streams)
    assert prediction.shape == (4, 3)
    (prediction * torch.randn(4, 3)).sum().backward()
    for tensor in [*streams.values(), *method.parameters()]:
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


@pytest.mark.parametrize("positions", [(6,), (6, 2), (3, 2, 2)])
def test_features_of_any_rank_are_averaged_over_positions(of_features, positions):
    method, channels = new_method(of_features)
    streams = new_streams(channels, positions=positions)
    expected = method({stream: tensor.flatten(2).mean(dim=2) for stream, tensor in streams.items()})
    assert_close(method(streams), expected)


def test_masked_steps_leave_no_trace(of_features):
    method, channels = new_method(of_features)
    streams, mask = new_streams(channels, positions=(5, 2)), torch.tensor([True, False, True, True, False])
    streams["audio"] = torch.where(mask[:, None], streams["audio"], torch.nan)
    masked = method(streams, {"audio": mask.expand(4, 5)})
    assert_close(masked, method({**streams, "audio": streams["audio"][:, :, mask]}))


@pytest.mark.parametrize("missing", NAMES)
def test_a_stream_that_every_sample_lacks_counts_as_absent(name, missing):
    method, channels = new_method(name)
    streams = new_streams(channels)
    absent = {stream: tensor for stream, tensor in streams.items() if stream != missing}
    filled = torch.zeros(4, channels[missing]) if name in OF_LOGITS else torch.full((4, channels[missing]), torch.nan)
    lacking = method({**streams, missing: filled}, present={missing: torch.zeros(4, dtype=torch.bool)})
    assert lacking.isfinite().all()
    assert_close(lacking, method(absent))
    assert not torch.allclose(lacking, method(streams))


def test_each_sample_is_fused_from_the_streams_that_it_has(name):
    method, channels = new_method(name)
    present = {stream: torch.rand(4) < 0.5 for stream in NAMES}
    present["text"] |= ~(present["audio"] | present["video.stage3"])
    streams = new_streams(channels)
    for stream, here in present.items():
        streams[stream][~here] = 0
    together = method(streams, present=present)
    for sample in range(4):
        own = {stream: streams[stream][sample : sample + 1] for stream in NAMES if present[stream][sample]}
        assert_close(together[sample : sample + 1], method(own))


def test_gradients_are_finite_where_a_stream_is_missing_or_zero(name):
    method, channels = new_method(name)
    streams = new_streams(channels)
    streams["audio"] = torch.zeros_like(streams["audio"])
    streams = {stream: tensor.requires_grad_() for stream, tensor in streams.items()}
    method(streams, present={"text": torch.zeros(4, dtype=torch.bool)})[:, 0].sum().backward()
    gradients = [tensor.grad for tensor in [*streams.values(), *method.parameters()]]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_evaluation_is_repeatable_and_weights_are_saved(name):
    method, channels = new_method(name)
    other, _ = new_method(name)
    streams = new_streams(channels)
    assert torch.equal(method(streams), method(streams))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(streams), method(streams))


def test_the_order_of_the_given_streams_does_not_matter(name):
    method, channels = new_method(name)
    streams = new_streams(channels)
    assert_close(method(dict(reversed(streams.items()))), method(streams))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_a_module_of_another_type_takes_streams_of_its_type(of_features, precision):
    method, channels = new_method(of_features)
    streams = new_streams(channels)
    expected = method(streams)
    given = {stream: tensor.to(precision) for stream, tensor in streams.items()}
    prediction = method.to(precision)(given)
    assert prediction.dtype == precision
    assert_close(prediction.float(), expected, rtol=0.1, atol=0.1)


def test_autocast_agrees_up_to_its_precision(of_features):
    method, channels = new_method(of_features)
    streams = new_streams(channels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = method(streams)
    assert_close(prediction.float(), method(streams), rtol=0.1, atol=0.1)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "name",
    [
        *("multiplicative", "mcb"),  # the unusual operations
        *(pytest.param(name, marks=pytest.mark.slow) for name in OF_FEATURES if name != "mcb"),
    ],
)
def test_an_exported_method_agrees_at_another_batch_size(name):
    method, channels = new_method(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    present = {"audio": torch.tensor([True, False])}
    shapes = ({stream: {0: batch} for stream in NAMES}, None, {"audio": {0: batch}})
    program = torch.export.export(method, (new_streams(channels, 2), None, present), dynamic_shapes=shapes)
    for size in (1, 5):
        streams, present = new_streams(channels, size), {"audio": torch.arange(size) % 2 == 1}
        assert_close(program.module()(streams, None, present), method(streams, None, present))


def test_a_method_that_needs_num_outputs_says_so(of_features):
    with pytest.raises(ValueError, match=r'head="\w+" got no num_outputs.*pass num_outputs='):
        OF_FEATURES[of_features](CHANNELS)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (Multiplicative, {"beta": -1}, r"beta is -1, expected a number in \[0"),
        (GMU, {"hidden": 0}, "hidden is 0, expected a positive integer"),
        (TFN, {"dropout": 1.0}, r"dropout is 1.0, expected a number in \[0"),
        (TFN, {"hidden": 500}, r"of \[500, 500, 500\] channels has 125751501 elements.*lower hidden.*lmf"),
        (LMF, {"rank": 0}, "rank is 0, expected a positive integer"),
        (MCB, {"sketch": 0}, "sketch is 0, expected a positive integer"),
        (MFB, {"factor": 0}, "factor is 0, expected a positive integer"),
        (BLOCK, {"hidden": 30}, "hidden is 30, expected a multiple of chunks = 8; set hidden=32"),
        (CentralNet, {"levels": [["audio", "textt"]]}, "levels names 'textt', .*did you mean 'text'"),
        (CentralNet, {"levels": [NAMES, ["text"]]}, "levels names 'text' 2 times, expected once"),
        (CentralNet, {"levels": [["audio"]]}, "levels names 1 of 3 streams, .*add video.stage3, text to a level"),
        (CentralNet, {"levels": NAMES}, "level 'video.stage3', expected a list of stream names"),
        (CentralNet, {"levels": [NAMES, []]}, r"level \[\], expected a list of stream names"),
    ],
)
def test_options_out_of_range_are_errors(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(CHANNELS, 3, **options)
