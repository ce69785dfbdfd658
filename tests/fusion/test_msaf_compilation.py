"""torch.compile, torch.export and ONNX Runtime agree with eager (design: invariant 9)."""

import pytest
import torch
from random_cases import randomised
from torch.testing import assert_close

from msafusion import MSAF

CHANNELS = {"a": 12, "b": 7, "c": 3}
OTHER_SIZES = [(3, 6), (2, 7), (6, 33)]  # batch, time

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def new_module(**options):
    return randomised(MSAF(CHANNELS, 4, reduction=2, lowest_attention=0.1, **options)).eval()


def new_inputs(batch=3, time=6):
    """Features, masks (some steps padded) and presence (some streams missing) of a batch."""
    features = {"a": torch.randn(batch, 12, time, 2), "b": torch.randn(batch, 7, time), "c": torch.randn(batch, 3, 4)}
    steps, sample = torch.arange(time), torch.arange(batch)
    masks = {"a": steps < time - sample[:, None] % 3, "b": steps >= sample[:, None] % 2}
    present = {"a": sample % 2 == 0, "c": sample > 0}
    return features, masks, present


WAYS = {
    "features": lambda features, masks, present: (features,),
    "masks": lambda features, masks, present: (features, masks),
    "presence": lambda features, masks, present: (features, None, present),
    "masks and presence": lambda features, masks, present: (features, masks, present),
    "an absent stream": lambda features, masks, present: ({"c": features["c"], "a": features["a"]}, {}, present),
}


TOGETHER = "masks and presence"


@pytest.mark.parametrize(
    ("way", "segments"),
    [
        (TOGETHER, 1),
        *(pytest.param(way, 1, marks=pytest.mark.slow) for way in WAYS if way != TOGETHER),
        *(("features", 2), (TOGETHER, 2), ("an absent stream", 2)),
        *(pytest.param(way, 2, marks=pytest.mark.slow) for way in ("masks", "presence")),
    ],
)
def test_fullgraph_compilation_agrees_with_eager(way, segments):
    module = new_module(segments=segments)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    given = WAYS[way](*new_inputs())
    assert_close(compiled(*given, return_attention=True), module(*given, return_attention=True))


@pytest.mark.parametrize(
    ("init", "norm"),
    [
        ("identity", "batch"),
        ("paper", "layer"),
        *(pytest.param(*options, marks=pytest.mark.slow) for options in (("identity", "layer"), ("paper", "batch"))),
        *(pytest.param(init, "none", marks=pytest.mark.slow) for init in ("identity", "paper")),
    ],
)
def test_a_compiled_training_step_agrees_with_eager(norm, init):
    module, results = new_module(norm=norm, init=init, segments=2).train(), []
    state = {key: value.clone() for key, value in module.state_dict().items()}
    features, masks, present = new_inputs()
    for call in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        module.load_state_dict(state)
        module.zero_grad()
        leaves = {name: feature.clone().requires_grad_() for name, feature in features.items()}
        outputs = call(leaves, masks, present)
        sum(output.square().sum() for output in outputs.values()).backward()
        gradients = [value.grad for value in [*leaves.values(), *module.parameters()]]
        results.append((outputs, gradients, {key: value.clone() for key, value in module.named_buffers()}))
    assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)


def test_one_dynamic_graph_serves_every_batch_and_length():
    module, graphs = new_module(segments=2), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(module, fullgraph=True, backend=backend, dynamic=True)
    for batch, time in ((5, 9), (3, 6), (4, 21)):  # sizes equal in the first call would be taken for one
        given = new_inputs(batch, time)
        assert_close(compiled(*given), module(*given))
    assert len(graphs) == 1


def test_compiled_block_dropout_drops_and_scales():
    module = MSAF(CHANNELS, 4, norm="none", block_dropout=0.5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    ones = {"a": torch.ones(200, 12), "b": torch.ones(200, 7)}
    output = compiled(ones)["a"]
    assert_close(output.unique(), torch.tensor([0.0, 2.0]))
    assert 0.8 < output.mean() < 1.2
    assert not torch.equal(compiled(ones)["a"], output)


def test_identity_stays_exact_when_compiled():
    module = MSAF(CHANNELS, 1, reduction=1, segments=2)
    features, _, _ = new_inputs()
    outputs = torch.compile(module, fullgraph=True, backend="aot_eager")(features)
    for name, feature in features.items():
        assert torch.equal(outputs[name], feature)


def test_compiled_under_autocast_agrees_with_eager():
    module = new_module(segments=2)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    given = new_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(compiled(*given), module(*given))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("way", "segments"), [("features", 1), ("masks and presence", 2)])
def test_inductor_agrees_with_eager(way, segments):
    module = new_module(segments=segments).train()
    given = WAYS[way](*new_inputs())
    expected = module(*given)
    outputs = torch.compile(module, fullgraph=True)(*given)
    assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    sum(output.square().sum() for output in outputs.values()).backward()
    assert module.block_weight.grad.isfinite().all()


def dynamic_shapes(given):
    """Dynamic batch everywhere, dynamic time for a and b alike; c keeps its four steps."""
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    feature = {"a": {0: batch, 2: time}, "b": {0: batch, 2: time}, "c": {0: batch}}
    mask, here = {"a": {0: batch, 1: time}, "b": {0: batch, 1: time}}, {"a": {0: batch}, "c": {0: batch}}
    return tuple(
        None if values is None else {name: axes[name] for name in values}
        for values, axes in zip(given, (feature, mask, here), strict=False)
    )


@pytest.mark.parametrize("way", [way if way == TOGETHER else pytest.param(way, marks=pytest.mark.slow) for way in WAYS])
def test_export_agrees_with_eager_for_other_batches_and_lengths(way):
    module, given = new_module(segments=2), WAYS[way](*new_inputs())
    exported = torch.export.export(module, given, dynamic_shapes=dynamic_shapes(given)).module()
    for batch, time in OTHER_SIZES:
        given = WAYS[way](*new_inputs(batch, time))
        assert_close(exported(*given), module(*given))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "segments"), [("features", 1), ("presence", 2), ("masks and presence", 2)])
def test_onnx_runtime_agrees_with_eager_for_other_batches_and_lengths(way, segments):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, given = new_module(segments=segments), WAYS[way](*new_inputs())
    program = torch.export.export(module, given, dynamic_shapes=dynamic_shapes(given))
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for batch, time in OTHER_SIZES:
        given = WAYS[way](*new_inputs(batch, time))
        tensors = [value.numpy() for values in given if values for value in values.values()]
        outputs = session.run(None, dict(zip(names, tensors, strict=True)))
        expected = list(module(*given).values())
        assert_close([torch.from_numpy(value) for value in outputs], expected, rtol=1e-4, atol=1e-5)
