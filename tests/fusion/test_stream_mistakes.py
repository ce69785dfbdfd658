"""Options and input that no fusion method between layers takes."""

import pytest
import torch
from stream_methods import CHANNELS, every_method, new_features, new_module

from msafusion.fusion.bottleneck import BottleneckTokens
from msafusion.fusion.cross_attention import CrossAttention
from msafusion.fusion.mmtm import MMTM
from msafusion.fusion.squeeze_excitation import SqueezeExcitation

BAD_OPTIONS = {
    "no stream": ({"channels": {}}, "channels is empty, expected at least one stream"),
    "no channels": ({"channels": {"video": 0}}, "'video'.* is 0, expected a positive integer"),
    "init": ({"init": "zero"}, "init is 'zero', expected 'identity' or 'paper'"),
    "reduction": ({"reduction": 0}, "reduction is 0, expected a positive integer"),
    "width": ({"width": 0}, "width is 0, expected a positive integer"),
    "heads": ({"width": 6, "num_heads": 4}, "width is 6, expected a multiple of num_heads = 4"),
    "max_positions": ({"max_positions": 0}, "max_positions is 0, expected a positive integer"),
    "dropout": ({"dropout": 1.0}, "dropout is 1.0, expected a number in"),
    "num_tokens": ({"num_tokens": 0}, "num_tokens is 0, expected a positive integer"),
}
TAKES = {
    MMTM: ["no stream", "no channels", "init", "reduction"],
    SqueezeExcitation: ["no stream", "no channels", "init", "reduction"],
    CrossAttention: ["no stream", "no channels", "init", "width", "heads", "max_positions", "dropout"],
    BottleneckTokens: ["no stream", "no channels", "init", "width", "heads", "num_tokens"],
}


@pytest.mark.parametrize(("method", "bad"), [(method, bad) for method, names in TAKES.items() for bad in names])
@pytest.mark.usefixtures("without_shape_checks")
def test_bad_options_are_refused(method, bad):
    options, message = BAD_OPTIONS[bad]
    with pytest.raises(ValueError, match=message):
        method(**{"channels": CHANNELS, **options})


@every_method
def test_bad_input_is_refused(method):
    module, features = new_module(method), new_features()
    cases = {
        "unknown stream 'x'": ({"x": features["video"]}, None, None),
        "has 4 channels": ({"video": features["audio.1"]}, None, None),
        "mask for stream 'video'": (features, {"video": torch.ones(3, 6, dtype=torch.bool)}, None),
        "present for stream 'keys'": (features, None, {"keys": torch.ones(2, dtype=torch.bool)}),
    }
    for message, given in cases.items():
        with pytest.raises(ValueError, match=message):
            module(*given)
