"""MFCCNet, HCN, SequenceLSTM and TextEncoder: any length, what is averaged, shared or left out, and what is refused."""

import itertools
import math

import huggingface_hub
import pytest
import torch
import transformers
from torch.nn import functional

from msafusion.backbones import HCN, MFCCNet, SequenceLSTM, TextEncoder

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def outputs_of(net, name, *inputs):
    """What the submodule gave each time that it ran, and the network's output."""
    seen = []
    handle = net.get_submodule(name).register_forward_hook(lambda module, given, output: seen.append(output))
    logits = net(*inputs)
    handle.remove()
    return seen, logits


def inputs_of(net, name, *inputs):
    seen = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda module, given: seen.append(given[0].clone()))
    net(*inputs)
    handle.remove()
    return seen


# MFCCNet


@torch.no_grad()
@pytest.mark.parametrize("steps", [12, 13, 60, 212, 401])
def test_mfcc_net_takes_any_length(steps):
    net = MFCCNet(5, num_coefficients=20).eval()
    logits = net(torch.randn(3, 20, steps))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


def test_mfcc_net_refuses_what_is_too_short():
    with pytest.raises(ValueError, match=r"got 11 MFCC steps, expected at least 12 \(0.14 s\); pad the sound"):
        MFCCNet()(torch.randn(2, 13, 11))


@torch.no_grad()
@pytest.mark.parametrize("steps", [12, 100, 212])
def test_mfcc_net_has_the_documented_shapes_at_its_fusion_points(steps):
    net, mfcc = MFCCNet().eval(), torch.randn(2, 13, steps)
    (early,), _ = outputs_of(net, "relu2", mfcc)
    (late,), _ = outputs_of(net, "bn3", mfcc)
    assert early.shape == (2, 32, steps - 4)
    assert late.shape == (2, 64, (steps - 4) // 8)


@torch.no_grad()
@pytest.mark.parametrize(("steps", "times"), [(212, 1), (219, 1), (420, 2), (13, 1 / 26)])
def test_mfcc_net_averages_other_lengths_to_the_26_steps_of_its_weights(steps, times):
    net = MFCCNet().eval()
    (late,), logits = outputs_of(net, "bn3", torch.randn(2, 13, steps))
    averaged = late.expand(-1, -1, 26) if times < 1 else late.unflatten(2, (26, times)).mean(dim=3)
    torch.testing.assert_close(logits, net.fc1(averaged.flatten(1)), **CLOSE)


# HCN


@torch.no_grad()
@pytest.mark.parametrize("window", [16, 32, 48, 64])
@pytest.mark.parametrize("persons", [1, 3])
def test_hcn_takes_other_windows_joints_persons_and_lengths(window, persons):
    net = HCN(5, window_size=window, num_joints=20, in_channels=2).eval()
    for steps in (window, 16, 37, 100):
        logits = net(torch.randn(2, 2, steps, 20, persons))
        assert logits.shape == (2, 5)
        assert logits.isfinite().all()


def test_hcn_refuses_short_windows_short_sequences_and_other_joints():
    with pytest.raises(ValueError, match=r"window_size is 15, expected 16 or more; resample"):
        HCN(5, window_size=15)
    with pytest.raises(ValueError, match=r"got skeletons of 15 steps and 25 joints, expected 16 steps at least"):
        HCN(5)(torch.randn(2, 3, 15, 25, 2))
    with pytest.raises(ValueError, match=r"of 32 steps and 20 joints, expected .*25 joints; .*set num_joints"):
        HCN(5)(torch.randn(2, 3, 32, 20, 2))


@torch.no_grad()
def test_hcn_does_not_care_who_is_the_first_person():
    net, skeleton = HCN(5).eval(), torch.randn(4, 3, 32, 25, 3)
    expected = net(skeleton)
    assert expected.std() > 0.01
    for order in itertools.permutations(range(3)):
        torch.testing.assert_close(net(skeleton[..., list(order)]), expected, **CLOSE)
    assert not torch.allclose(net(skeleton[..., [0, 0, 0]]), expected, atol=1e-2)


@torch.no_grad()
def test_hcn_with_the_same_person_twice_is_hcn_with_one():
    net, skeleton = HCN(5).eval(), torch.randn(4, 3, 32, 25, 1)
    torch.testing.assert_close(net(skeleton.expand(-1, -1, -1, -1, 2)), net(skeleton), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("persons", [1, 2, 3])
def test_hcn_gives_each_person_at_conv5_and_a_vector_at_fc7(persons):
    net, skeleton = HCN(5).eval(), torch.randn(4, 3, 32, 25, persons)
    (people,), _ = outputs_of(net, "conv5", skeleton)
    assert [tuple(person.shape) for person in people] == [(4, 128, 4, 4)] * persons
    for number, person in enumerate(people):
        ((alone,),), _ = outputs_of(net, "conv5", skeleton[..., [number]])
        torch.testing.assert_close(person, alone, **CLOSE)
    (vector,), _ = outputs_of(net, "fc7", skeleton)
    assert vector.shape == (4, 512)


def branch(net, kind, points):
    """One person's position or motion, (batch, coordinates, time, joints), written out joint by joint."""
    layers = [net.get_submodule(f"{name}{kind}") for name in ("conv1", "conv2", "conv3", "conv4")]
    first, second, third, fourth = [layer if hasattr(layer, "weight") else layer[0] for layer in layers]
    each_joint = []
    for joint in range(points.shape[3]):
        point = points[..., joint]  # (batch, coordinates, time)
        hidden = torch.einsum("oc,bct->bot", first.weight.flatten(1), point) + first.bias[:, None]
        each_joint.append(functional.conv1d(functional.relu(hidden), second.weight.squeeze(3), second.bias, padding=1))
    # a joint is a channel; its map has time by the features of that joint
    maps = [features.transpose(1, 2).unsqueeze(1) for features in each_joint]
    merged = sum(functional.conv2d(maps[j], third.weight[:, [j]], padding=1) for j in range(len(maps)))
    features = functional.max_pool2d(merged + third.bias[:, None, None], 2)
    return functional.max_pool2d(functional.conv2d(features, fourth.weight, fourth.bias, padding=1), 2)


@torch.no_grad()
@pytest.mark.parametrize("window", [32, 48])  # 32 steps and a window of 32 have the same shape either way round
def test_hcn_makes_channels_of_the_joints(window):
    net, skeleton = HCN(5, window_size=window).eval(), torch.randn(2, 3, 32, 25, 2)
    for parameter in net.parameters():  # biases start at zero
        parameter.add_(0.05 * torch.randn_like(parameter))
    (got,), _ = outputs_of(net, "conv4", skeleton)
    expected = torch.cat([branch(net, "", skeleton[..., person]) for person in range(2)])
    assert got.shape == (4, 64, 8, window // 4)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_hcn_takes_the_resampled_difference_in_time_as_motion():
    net, skeleton = HCN(5).eval(), torch.randn(2, 3, 20, 25, 2)
    (got,) = inputs_of(net, "conv1m", skeleton)
    difference = skeleton[:, :, 1:] - skeleton[:, :, :-1]
    for step in range(20):
        place = min(max((step + 0.5) * 19 / 20 - 0.5, 0), 18)
        low = math.floor(place)
        high = min(low + 1, 18)
        expected = difference[:, :, low] * (1 - place + low) + difference[:, :, high] * (place - low)
        torch.testing.assert_close(got[:2, :, step], expected[..., 0], **CLOSE)
        torch.testing.assert_close(got[2:, :, step], expected[..., 1], **CLOSE)


# SequenceLSTM


@torch.no_grad()
def test_lstm_of_a_padded_batch_equals_each_sequence_alone():
    net = SequenceLSTM(6, 8, num_outputs=3).eval()
    sequence, lengths = torch.randn(4, 9, 6), torch.tensor([9, 4, 1, 6])
    got = net(sequence, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(got[[row]], net(sequence[[row], :length]), **CLOSE)
    assert not torch.allclose(net(sequence)[1], got[1], atol=1e-3)
    padded = torch.where(torch.arange(9)[:, None] < lengths[:, None, None], sequence, 100.0)
    assert torch.equal(net(padded, lengths), got)


@torch.no_grad()
def test_lstm_without_classifier_gives_the_last_steps_features():
    net, sequence = SequenceLSTM(6, 8, num_outputs=None).eval(), torch.randn(4, 9, 6)
    (output,), features = outputs_of(net, "lstm2", sequence)
    assert features.shape == (4, 8)
    assert torch.equal(features, output[0][:, -1])


def test_lstm_that_reads_padding_refuses_lengths():
    net, sequence = SequenceLSTM(6, 8, read_padding=True).eval(), torch.randn(4, 9, 6)
    with pytest.raises(ValueError, match=r"got lengths, but read_padding=True reads padded steps .* leave lengths out"):
        net(sequence, torch.tensor([9, 4, 1, 6]))
    plain = SequenceLSTM(6, 8).eval()
    plain.load_state_dict(net.state_dict())
    assert torch.equal(net(sequence), plain(sequence))


# TextEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "##ly"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT and its tokenizer, saved."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder / "model")
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "model")
    return folder / "model"


SENTENCES = ["a good film", "badly", "a bad bad bad film"]


def test_text_encoder_gives_right_padded_features_and_lengths(folder):
    encoder = TextEncoder.from_pretrained(folder)
    assert encoder.out_channels == 16
    features, lengths = encoder.encode(SENTENCES)
    assert lengths.tolist() == [5, 4, 7]  # [CLS], pieces ("bad", "##ly" of "badly"), [SEP]
    assert features.shape == (3, 7, 16)
    assert not features.requires_grad
    for row, length in enumerate(lengths):
        assert (features[row, length:] == 0).all()
        assert (features[row, :length].abs().sum(dim=1) > 0).all()


def test_text_encoder_cuts_sentences_at_max_steps(folder):
    encoder = TextEncoder.from_pretrained(folder)
    features, lengths = encoder.encode(SENTENCES, max_steps=4)
    assert features.shape == (3, 4, 16)
    assert lengths.tolist() == [4, 4, 4]
    shortened, _ = encoder.encode(["a good"])  # [CLS] and [SEP] stay
    torch.testing.assert_close(features[[0]], shortened, **CLOSE)
    assert encoder.encode(["film " * 80])[0].shape == (1, 50, 16)


def test_text_features_do_not_depend_on_the_rest_of_the_batch(folder):
    encoder = TextEncoder.from_pretrained(folder)
    together, lengths = encoder.encode(SENTENCES)
    for row, sentence in enumerate(SENTENCES):
        alone, (length,) = encoder.encode([sentence])
        assert length == lengths[row]
        torch.testing.assert_close(together[row, :length], alone[0], **CLOSE)


def test_text_encoder_gives_the_last_layer_of_the_model_and_trains(folder):
    encoder = TextEncoder.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder)
    features, _ = encoder.encode(["good film"])
    tokens = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "good", "film", "[SEP]")]])
    with torch.no_grad():
        expected = model(tokens, output_hidden_states=True).hidden_states
    torch.testing.assert_close(features, expected[-1], **CLOSE)
    encoder(tokens).square().sum().backward()
    assert encoder.model.embeddings.word_embeddings.weight.grad[6].abs().sum() > 0


def test_text_encoder_refuses_no_sentence(folder):
    with pytest.raises(ValueError, match=r"got no sentence, expected at least one; pass a list of strings"):
        TextEncoder.from_pretrained(folder).encode([])


def test_a_missing_text_model_is_one_line_of_error(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # the environment is read at import
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "none", tmp_path / "empty", "nobody/no-such-model"):
        with pytest.raises(ValueError, match=r"no text model '.*' \(.*\), expected a folder with") as caught:
            TextEncoder.from_pretrained(name)
        assert "\n" not in str(caught.value)
        assert str(name) in str(caught.value)


def test_text_is_padded_on_the_right_whatever_side_the_tokenizer_prefers(folder):
    encoder = TextEncoder.from_pretrained(folder)
    expected, _ = encoder.encode(SENTENCES)
    encoder.tokenizer.padding_side = "left"  # as XLNet's has it
    features, _ = encoder.encode(SENTENCES)
    torch.testing.assert_close(features, expected, **CLOSE)
