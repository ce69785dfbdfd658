"""A mask belongs to one axis of one stream: found by changing the example, by the length rule found, or refused."""

import pytest
import torch
import transformers
from small_networks import AudioCNN
from torch import nn

from msafusion import FusionError, FusionPoint, fuse

TOKENS = torch.arange(10) < torch.tensor([4, 7, 10])[:, None]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


class SmartwatchExercises(nn.Module):
    """A fusion that changes nothing and remembers its masks."""

    def forward(self, features, masks=None, present=None):
        self.masks, self.shapes = masks or {}, {name: tuple(feature.shape) for name, feature in features.items()}
        return dict(features)


class Last(nn.Module):
    """A model whose only tensor of interest is `pick` of its output."""

    def __init__(self, model, pick):
        super().__init__()
        self.m, self.pick = model, pick

    def forward(self, **given):
        return self.pick(self.m(**given))[:, -1, :4]


class Through(nn.Module):
    """`before`, then the submodule "point"."""

    def __init__(self, before, point):
        super().__init__()
        self.before, self.point = before, point

    def forward(self, x):
        return self.point(self.before(x)).flatten(2).mean(dim=2)[:, :4]


def masks_at(network, submodule, example, lengths=None, given=None, **options):
    watch, fuse_options = SmartwatchExercises(), {"time_axis": options.pop("input_axis", {})}
    point = FusionPoint({"a": submodule, "b": "relu1"}, watch, **options)
    audio = torch.randn(3, 5, 9)
    head = _First()
    net = fuse({"a": network, "b": AudioCNN()}, point, example={"a": example, "b": audio}, head=head, **fuse_options)
    net.eval()
    net({"a": example if given is None else given, "b": audio}, {} if lengths is None else {"a": torch.tensor(lengths)})
    return watch


class _First(nn.Module):
    def forward(self, outputs):
        return outputs["b"]


def clip():
    text = {**SMALL, "vocab_size": 50, "max_position_embeddings": 20, "eos_token_id": 2, "bos_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    return Last(model, lambda output: (output.text_embeds + output.image_embeds).unsqueeze(1))


def bart():
    sizes = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    sizes |= dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    sizes |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32)
    config = transformers.BartConfig(vocab_size=50, d_model=16, max_position_embeddings=40, **sizes)
    return Last(transformers.BartModel(config), lambda output: output.last_hidden_state)


def tokens(**more):
    ids = torch.randint(3, 50, (3, 10))
    ids[:, -1] = 2
    return {**more, "input_ids": ids, "attention_mask": TOKENS.long()}


@pytest.mark.filterwarnings("ignore:.*does not go on with its output:UserWarning")
@pytest.mark.parametrize("first", [True, False])
def test_padding_of_the_text_masks_the_text_and_no_patches(first):
    pixels = {"pixel_values": torch.randn(3, 3, 32, 32)}
    given = tokens(**pixels) if first else {**tokens(), **pixels}
    assert "a" not in masks_at(clip(), "m.vision_model.encoder.layers.0", given).masks
    assert torch.equal(masks_at(clip(), "m.text_model.encoder.layers.0", given).masks["a"], TOKENS)


@pytest.mark.parametrize("decoded", [6, 10])
def test_padding_of_the_encoder_masks_no_decoder_tokens(decoded):
    given = tokens(decoder_input_ids=torch.randint(3, 50, (3, decoded)))
    assert "a" not in masks_at(bart(), "m.decoder.layers.0", given).masks
    assert torch.equal(masks_at(bart(), "m.encoder.layers.0", given).masks["a"], TOKENS)


def test_padding_that_is_not_read_is_named_once():
    given = tokens(decoder_input_ids=torch.randint(3, 50, (3, 6)), decoder_attention_mask=torch.ones(3, 6).long())
    net = fuse({"a": bart()}, FusionPoint({"a": "m.decoder.layers.0"}, "se"), example={"a": given})
    net({"a": given})  # nothing is padded
    given["decoder_attention_mask"][1, 4:] = 0
    with pytest.warns(UserWarning, match="network 'a': fusion does not read 'decoder_attention_mask'"):
        net({"a": given})
    net({"a": given})
    encoder = fuse({"a": bart()}, FusionPoint({"a": "m.encoder.layers.0"}, "se"), example={"a": given})
    encoder({"a": given})  # a stream that it does not concern


def test_padding_on_the_left_stays_on_the_left():
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=12, **SMALL)
    network = Last(transformers.BertModel(config), lambda output: output.last_hidden_state)
    given = tokens() | {"attention_mask": TOKENS.flip(1).long()}
    assert torch.equal(masks_at(network, "m.encoder.layer.0", given).masks["a"], TOKENS.flip(1))


class Prefixed(nn.Module):
    """A class token before the steps, or after them."""

    def __init__(self, before):
        super().__init__()
        self.before, self.token, self.point = before, nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 6)

    def forward(self, x, attention_mask=None):
        token = self.token.expand(len(x), -1, -1)
        return self.point(torch.cat([token, x] if self.before else [x, token], dim=1)).mean(dim=1)[:, :4]


def test_a_class_token_is_real_and_comes_before_the_steps_or_the_mask_is_refused():
    given = {"x": torch.randn(3, 10, 6), "attention_mask": TOKENS.flip(1).long()}
    expected = torch.cat([torch.ones(3, 1) > 0, TOKENS.flip(1)], dim=1)
    assert torch.equal(masks_at(Prefixed(True), "point", given).masks["a"], expected)
    with pytest.raises(FusionError, match=r"stream 'a'.*1 further steps.*time_axis"):
        masks_at(Prefixed(False), "point", given)


@pytest.mark.parametrize("padded", [-1e4, float("-inf"), torch.finfo(torch.float).min, 0.0])
def test_a_mask_that_is_added_to_scores_is_not_taken_the_wrong_way_round(padded):
    given, added = {"x": torch.randn(3, 10, 6)}, torch.zeros(3, 10).masked_fill(~TOKENS, padded)
    with pytest.raises(ValueError, match=r"attention_mask of 'a' holds \[.*0\.0\], expected bool, or 1 for real"):
        masks_at(Prefixed(True), "point", {**given, "attention_mask": added})
    watch = masks_at(Prefixed(True), "point", {**given, "attention_mask": added}, [4, 7, 10])
    assert torch.equal(watch.masks["a"][:, 1:], TOKENS)
    for kind in (torch.float, torch.long, torch.bool):
        watch = masks_at(Prefixed(True), "point", {**given, "attention_mask": TOKENS.to(kind)})
        assert torch.equal(watch.masks["a"][:, 1:], TOKENS)
    masks_at(Prefixed(True), "point", {**given, "attention_mask": added}, time_axis={"a": None})  # reads no mask


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8, 8), conv_stride=(4, 2), conv_kernel=(8, 4), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, layerdrop=0.0,
    )  # fmt: skip
    return Last(transformers.Wav2Vec2Model(config), lambda output: output.last_hidden_state)


def test_strided_layers_follow_the_models_own_length_rule():
    lengths, network = [160, 77, 30, 41, 100], wav2vec2()
    real = torch.arange(160) < torch.tensor(lengths)[:, None]
    rule = network.m._get_feat_extract_output_lengths(torch.tensor(lengths)).tolist()
    watch = SmartwatchExercises()
    given = {"input_values": torch.randn(5, 160), "attention_mask": real.long()}
    point, audio = FusionPoint({"a": "m.encoder.layers.0", "b": "relu1"}, watch), torch.randn(5, 5, 9)
    net = fuse({"a": network, "b": AudioCNN()}, point, example={"a": given, "b": audio}, head=_First()).eval()
    net({"a": given, "b": audio})
    assert watch.masks["a"].sum(dim=1).tolist() == rule
    with pytest.raises(FusionError, match=r"stream 'a' .*padding before real steps"):
        net({"a": {**given, "attention_mask": real.flip(1).long()}, "b": audio})


def test_time_on_the_last_axis_of_a_spectrogram_is_masked_there_or_lengths_are_refused():
    network = Through(nn.Identity(), nn.Conv2d(1, 8, 3, padding=1))
    example = torch.randn(3, 1, 20, 30)
    watch = masks_at(network, "point", example, [30, 15, 3], input_axis={"a": 3})
    assert watch.shapes["a"] == (3, 8, 30, 20)
    assert watch.masks["a"].sum(dim=1).tolist() == [30, 15, 3]
    with pytest.raises(FusionError, match=r"axes 2 and 3 of the input of network 'a'.*time_axis in fuse"):
        masks_at(network, "point", example, [20, 15, 3])


class Transposing(nn.Module):
    def __init__(self):
        super().__init__()
        self.point = nn.Conv1d(12, 4, 3, padding=1)

    def forward(self, x):
        return self.point(x.transpose(1, 2)).mean(dim=2)


@pytest.mark.parametrize("steps", [12, 13])
def test_as_many_steps_as_features_are_told_apart_by_another_length(steps):
    longer = torch.randn(3, 24, 12)
    watch = masks_at(Transposing(), "point", torch.randn(3, steps, 12), [12, 6, 3], longer)
    assert watch.masks["a"].sum(dim=1).tolist() == [12, 6, 3]


def test_a_fixed_number_of_steps_is_refused_until_the_point_tells():
    network = Through(nn.Conv1d(3, 6, 3, padding=1), nn.AdaptiveAvgPool1d(5))
    example = torch.randn(3, 3, 20)
    with pytest.raises(FusionError, match=r"stream 'a' \('point'.*time_axis=\{stream"):
        masks_at(network, "point", example, [20, 8, 4])
    told = masks_at(network, "point", example, [20, 8, 4], time_axis={"a": 2})
    assert told.masks["a"].sum(dim=1).tolist() == [5, 2, 1]
    assert "a" not in masks_at(network, "point", example, [20, 8, 4], time_axis={"a": None}).masks


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, pad=None):
        return self.encoder(x, src_key_padding_mask=pad).mean(dim=1)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_that_packs_its_padded_input_is_refused_in_one_line(layer):
    given = torch.randn(3, 10, 8), ~TOKENS
    with pytest.raises(FusionError, match=r"network 'a'.*nested tensors.*enable_nested_tensor=False"):
        masks_at(Encoder(), f"encoder.layers.{layer}", given)
    network = Encoder()
    network.encoder.use_nested_tensor = False
    assert torch.equal(masks_at(network, f"encoder.layers.{layer}", given, [4, 7, 10]).masks["a"], TOKENS)
