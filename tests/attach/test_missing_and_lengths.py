"""Networks without input, samples without a network's input, and inputs of different lengths."""

import pytest
import torch
from small_networks import (
    AudioCNN,
    Chain,
    Recurrent,
    RecurrentWithLengths,
    cnn_example,
    fused_cnns,
    gradients,
    pair,
    stir,
)
from torch import nn

from msafusion import FusionPoint, fuse
from msafusion.attach.timing import LengthRule, TimeMask

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def test_a_network_left_out_is_not_run_and_the_rest_is_fused_without_it():
    example = cnn_example()
    net = stir(fused_cnns(example)).eval()
    net.networks["audio"].conv1.register_forward_hook(lambda *args: pytest.fail("audio ran"))
    outputs = net.stream_outputs({"video": example["video"]})
    assert list(outputs) == ["video"]
    assert torch.equal(net({"video": example["video"]}), outputs["video"])


@pytest.mark.parametrize("head", ["sum", "mean", "product"])
@pytest.mark.parametrize("training", [True, False])
def test_a_sample_without_a_networks_input_equals_the_network_left_out(head, training):
    example = cnn_example()
    net = stir(fused_cnns(example, head=head)).train(training)
    for network in net.networks.values():
        network.eval()  # batch statistics would mix samples
    broken = {**example, "audio": example["audio"].clone()}
    broken["audio"][1] = float("nan")
    output = net(broken, present={"audio": torch.tensor([True, False, True])})
    torch.testing.assert_close(output[1], net({"video": example["video"]})[1], **CLOSE)
    torch.testing.assert_close(output[[0, 2]], net(example)[[0, 2]], **CLOSE)


def test_nan_in_a_missing_input_reaches_no_gradient():
    example = cnn_example()
    net = stir(fused_cnns(example, norm="batch")).train()
    example["audio"][1] = float("nan")
    net(example, present={"audio": torch.tensor([True, False, True])}).sum().backward()
    assert all(grad.isfinite().all() for grad in gradients(net).values())
    assert all(buffer.isfinite().all() for buffer in net.buffers())


def test_missing_samples_of_inputs_in_dicts_and_tuples_are_replaced_too():
    class TwoInputs(AudioCNN):
        def forward(self, left, right):
            return super().forward(left + right)

    left, right = torch.randn(3, 5, 9), torch.randn(3, 5, 9)
    net = stir(pair(TwoInputs(), AudioCNN(), "relu1", {"a": (left, right), "b": left})).eval()
    present = {"a": torch.tensor([True, True, False])}
    expected = net({"a": (left, right), "b": left}, present=present)
    broken = left.clone()
    broken[2] = float("nan")
    for given in ((broken, right), {"left": broken, "right": right}):
        assert torch.equal(net({"a": given, "b": left}, present=present), expected)


def time_first(given):
    return given.transpose(0, 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_does_not_reach_the_fusion(batch_first, bidirectional):
    arrange = (lambda given: given) if batch_first else time_first
    options = {"batch_first": batch_first, "bidirectional": bidirectional}
    inputs = {"a": torch.randn(3, 7, 5), "b": torch.randn(3, 9, 2)}
    example = {name: arrange(given) for name, given in inputs.items()}
    net = pair(Recurrent(5, 6, **options), Recurrent(2, 8, **options), "rnn", example)
    stir(net).eval()
    lengths = {"a": torch.tensor([7, 3, 5]), "b": torch.tensor([2, 9, 4])}
    seen = []
    net.fusion_layers[0].fusion.register_forward_hook(lambda module, args, output: seen.append(output))
    net(example, lengths)
    for i in range(3):
        single = {name: arrange(given[i : i + 1]) for name, given in inputs.items()}
        net(single, {name: length[i : i + 1] for name, length in lengths.items()})
        for name, output in seen[-1].items():
            torch.testing.assert_close(output[0], seen[0][name][i], **CLOSE)


@pytest.mark.parametrize("longest", [9, 6])
def test_a_network_that_takes_lengths_gives_each_sample_its_unpadded_result(longest):
    inputs = {"a": torch.randn(3, 9, 5), "b": torch.randn(3, 9, 2)}
    lengths = {"a": torch.tensor([longest, 3, 5]), "b": torch.tensor([2, longest, 4])}
    net = stir(pair(RecurrentWithLengths(5, 6), RecurrentWithLengths(2, 8), "steps", inputs)).eval()
    together = net(inputs, lengths)
    for i in range(3):
        single = {name: given[i : i + 1, : lengths[name][i]] for name, given in inputs.items()}
        torch.testing.assert_close(net(single)[0], together[i], **CLOSE)


@pytest.mark.parametrize("as_dict", [True, False])
def test_lengths_may_be_part_of_a_networks_own_input(as_dict):
    sequence, lengths = torch.randn(3, 9, 5), torch.tensor([9, 3, 5])
    other = torch.randn(3, 5, 9)
    at = [FusionPoint({"a": "steps", "b": "relu1"}, block_channels=4)]
    net = stir(fuse({"a": RecurrentWithLengths(5, 6), "b": AudioCNN()}, at, example={"a": sequence, "b": other})).eval()
    given = {"sequence": sequence, "lengths": lengths} if as_dict else (sequence, lengths)
    expected = net({"a": sequence, "b": other}, {"a": lengths})
    assert torch.equal(net({"a": given, "b": other}), expected)
    assert not torch.allclose(net({"a": sequence, "b": other}), expected)


@pytest.mark.parametrize("training", [True, False])
def test_presence_and_lengths_of_time_first_networks(training):
    options = {"batch_first": False}
    inputs = {"a": torch.randn(7, 3, 5), "b": torch.randn(9, 3, 2)}
    net = stir(pair(Recurrent(5, 6, **options), Recurrent(2, 8, **options), "rnn", inputs)).train(training)
    inputs["a"][:, 1] = float("nan")
    lengths = {"a": torch.tensor([7, 3, 5]), "b": torch.tensor([2, 9, 4])}
    output = net(inputs, lengths, {"a": torch.tensor([True, False, True])})
    without = net({"b": inputs["b"]}, lengths)
    torch.testing.assert_close(output[1], without[1], **CLOSE)
    assert output.isfinite().all()


@pytest.mark.parametrize(
    ("lengths", "steps", "after", "expected"),
    [
        ([10, 5, 1], 10, 10, [10, 5, 1]),
        ([10, 5, 1], 10, 5, [5, 3, 1]),  # ceil(length / 2)
        ([10, 9, 0], 10, 3, [3, 3, 0]),
        ([4, 2, 1], 4, 8, [8, 4, 2]),
    ],
)
def test_lengths_after_temporal_strides(lengths, steps, after, expected):
    mask = TimeMask.from_lengths(torch.tensor(lengths), steps).at(after)
    assert mask.sum(dim=1).tolist() == expected
    assert mask[:, 0].tolist() == [length > 0 for length in expected]


def test_steps_cut_to_the_longest_keep_their_lengths_in_networks_that_take_them():
    lengths = torch.tensor([6, 3])
    assert TimeMask.from_lengths(lengths, 10, may_be_cut=True).at(6, LengthRule()).sum(dim=1).tolist() == [6, 3]
    half = LengthRule(1, 1, 2, keeps_order=False)
    assert TimeMask.from_lengths(lengths, 10, may_be_cut=True).at(3, half).sum(dim=1).tolist() == [3, 2]
    assert TimeMask.from_lengths(lengths, 10).at(5, half).sum(dim=1).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("lengths", "rule", "expected"),
    [([9, 4, 6], LengthRule(offset=1), [10, 5, 7]), ([5, 3], LengthRule(factor=2), [10, 6])],
)
def test_steps_cut_to_the_longest_may_come_to_as_many_as_before_with_a_class_token_or_repeated(lengths, rule, expected):
    mask = TimeMask.from_lengths(torch.tensor(lengths), 10, may_be_cut=True).at(10, rule)
    assert mask.sum(dim=1).tolist() == expected


def test_time_axis_is_found_by_the_first_layer_or_said_by_hand():
    example = {"cnn": torch.randn(3, 5, 9), "rnn": torch.randn(3, 7, 2), "bare": torch.randn(3, 4, 6)}
    networks = {"cnn": AudioCNN(), "rnn": Recurrent(2, 6), "bare": nn.Sequential(nn.Identity(), nn.Flatten())}
    points = [FusionPoint({"cnn": "relu1", "rnn": "rnn"}, block_channels=4)]
    net = fuse(networks, points, head="concat", num_outputs=2, example=example, time_axis={"bare": 1})
    assert {name: rule.time_axis for name, rule in net.input_rules.items()} == {"cnn": 2, "rnn": 1, "bare": 1}


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (
            torch.tensor([9, 10, 1]),
            "lengths of 'audio' reach from 1 to 10, expected 0 to the input's 9 steps.*time_axis",
        ),
        (torch.tensor([-1, 3, 1]), "lengths of 'audio' reach from -1"),
        (torch.tensor([9, 3]), r"lengths of 'audio' have shape \(2,\), expected \(3,\)"),
        (torch.tensor([9.0, 3.0, 1.0]), "lengths of 'audio' are a tensor of .*float32, expected .* 3 integers"),
    ],
)
def test_wrong_lengths_are_an_error(lengths, message):
    example = cnn_example()
    with pytest.raises(ValueError, match=message):
        fused_cnns(example)(example, {"audio": lengths})


@pytest.mark.parametrize("present", [torch.tensor([True, False]), torch.tensor([1, 0, 1]), torch.ones(3, 1) > 0])
def test_wrong_presence_is_an_error(present):
    example = cnn_example()
    with pytest.raises(ValueError, match=r"present of 'audio' is a tensor .*expected a bool tensor \(3,\)"):
        fused_cnns(example)(example, present={"audio": present})


@pytest.mark.parametrize("head", ["sum", "mean", "product", "multiplicative", "concat", "gmu"])
def test_a_sample_with_no_network_at_all_is_an_error(head):
    example, nobody = cnn_example(), torch.tensor([True, False, True])
    net = fused_cnns(example, head=head, num_outputs=4 if head in ("concat", "gmu") else None)
    with pytest.raises(ValueError, match=r"sample 1 .*no stream at all, expected at least one of video, audio"):
        net(example, present={"audio": nobody, "video": nobody})
    with pytest.raises(ValueError, match=r"sample 1 .*no stream at all"):
        net({"audio": example["audio"]}, lengths={"audio": torch.tensor([9, 0, 3])})
    outputs = {name: torch.randn(3, 4) for name in example}
    with pytest.raises(ValueError, match=r"sample 1 .*no stream at all"):
        net.head(outputs, None, {"audio": nobody, "video": nobody})


@pytest.mark.parametrize("head", ["sum", "mean", "product", "concat"])
def test_length_zero_is_a_missing_stream(head):
    example = cnn_example()
    net = stir(fused_cnns(example, head=head, num_outputs=4 if head == "concat" else None)).eval()
    lengths = torch.tensor([0, 9, 9])
    expected = net(example, present={"audio": lengths > 0})
    assert not torch.allclose(net(example)[0], expected[0])
    example["audio"][0] = float("nan")
    assert torch.equal(net(example, lengths={"audio": lengths}), expected)
    outputs = net.stream_outputs(example, lengths={"audio": lengths})
    assert outputs.present["audio"].tolist() == [False, True, True]
    assert torch.equal(net.combine(outputs), expected)


@pytest.mark.parametrize("own", [True, False])
def test_length_zero_does_not_break_a_network_that_packs(own):
    inputs = {"a": torch.randn(3, 9, 5), "b": torch.randn(3, 9, 2)}
    net = stir(pair(RecurrentWithLengths(5, 6), RecurrentWithLengths(2, 8), "steps", inputs)).eval()
    lengths = {"a": torch.tensor([0, 3, 9]), "b": torch.tensor([2, 9, 4])}
    if own:
        output = net({"a": {"sequence": inputs["a"], "lengths": lengths["a"]}, "b": (inputs["b"], lengths["b"])})
    else:
        output = net(inputs, lengths)
    alone = net({"b": inputs["b"]}, {"b": lengths["b"]})
    torch.testing.assert_close(output[0], alone[0], **CLOSE)


def test_a_sample_may_lack_all_networks_of_one_point():
    example = {name: torch.randn(3, 4, 6) for name in "abc"}
    points = [FusionPoint({"a": "first", "b": "first"}, block_channels=4, reduction=2)]
    net = stir(fuse({name: Chain() for name in "abc"}, points, example=example)).eval()
    gone = torch.tensor([True, False, True])
    output = net(example, present={"a": gone, "b": gone})
    torch.testing.assert_close(output[1], net.networks["c"](example["c"])[1], **CLOSE)
    torch.testing.assert_close(output[[0, 2]], net(example)[[0, 2]], **CLOSE)
