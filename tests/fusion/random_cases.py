"""Random MSAF modules with feature maps that fit them, and a module for fewer streams with the same parameters."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from msafusion import MSAF


@dataclass
class Case:
    module: MSAF
    features: dict[str, Tensor]


@st.composite
def cases(draw, *, min_streams=1, max_segments=3, min_rank=0, inits=("identity", "paper")):
    """A module in eval mode with random parameters, and float64 features for it (rank = number of position axes)."""
    segments = draw(st.integers(1, max_segments))
    block_channels = draw(st.integers(1, 6))
    reduction = draw(st.integers(1, block_channels))
    norms = ["batch", "none"] if block_channels // reduction == 1 else ["batch", "layer", "none"]
    torch.manual_seed(draw(st.integers(0, 1000)))
    batch, channels, features = draw(st.integers(1, 3)), {}, {}
    for name in ["video", "audio", "text"][: draw(st.integers(min_streams, 3))]:
        channels[name] = draw(st.integers(1, 13))
        rank = draw(st.integers(max(min_rank, segments > 1), 3))
        positions = [draw(st.integers(segments, 7)), draw(st.integers(1, 3)), draw(st.integers(1, 3))][:rank]
        features[name] = torch.randn(batch, channels[name], *positions, dtype=torch.float64)
    module = MSAF(
        channels,
        block_channels,
        reduction=reduction,
        lowest_attention=draw(st.sampled_from([0.0, 0.3, 1.0])),
        segments=segments,
        init=draw(st.sampled_from(inits)),
        norm=draw(st.sampled_from(norms)),
    )
    return Case(randomised(module).double().eval(), features)


def randomised(module: MSAF) -> MSAF:
    """Random parameters and running statistics, so that attention is neither uniform nor the same for all samples."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        if isinstance(module.norm, nn.BatchNorm1d):
            module.norm.running_mean.normal_()
            module.norm.running_var.uniform_(0.5, 2.0)
    return module


def with_streams(module: MSAF, names: list[str]) -> MSAF:
    """A module for these streams, in this order, with the parameters that `module` has for them."""
    other = MSAF(
        {name: module.channels[name] for name in names},
        module.block_channels,
        reduction=module.reduction,
        lowest_attention=module.lowest_attention,
        segments=module.segments,
        init=module.init,
        norm=module.norm_kind,
    )
    state = module.state_dict()
    for key in ("block_weight", "block_bias"):
        per_stream = dict(zip(module.channels, state[key].split(list(module.num_blocks.values()), dim=1), strict=True))
        state[key] = torch.cat([per_stream[name] for name in names], dim=1)
    other.load_state_dict(state)
    return other.to(state["joint_weight"].dtype).train(module.training)
