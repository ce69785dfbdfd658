"""Masks of streams that reorder, repeat, drop or pad steps: right, or refused."""

import pytest
import torch
from small_networks import Recurrent
from torch import nn
from torch.nn.functional import pad

from msafusion import FusionError, FusionPoint, fuse

LENGTHS = torch.tensor([2, 6])


class SmartwatchExercises(nn.Module):
    """A fusion that changes nothing and keeps its masks."""

    def forward(self, features, masks=None, present=None):
        self.masks = masks or {}
        return dict(features)


class Changing(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.before, self.point, self.output, self.change = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 4), change

    def forward(self, x):
        return self.output(self.point(self.change(self.before(x))).mean(1))


class Backward(Changing):
    """A recurrent network that reads from the end, written by hand."""

    def __init__(self):
        super().__init__(lambda x: self.rnn(x.flip(1))[0])
        self.rnn = nn.GRU(8, 8, batch_first=True)


def mask_of(network, **told):
    example = {"a": torch.randn(2, 6, 5), "b": torch.randn(2, 6, 5)}
    watch = SmartwatchExercises()
    point = FusionPoint({"a": "point", "b": "rnn"}, watch, **told)
    net = fuse({"a": network, "b": Recurrent(5, 8)}, point, example=example).eval()
    net(example, lengths={"a": LENGTHS})
    return watch.masks.get("a")


def attended(h):
    return h + torch.softmax(h @ h.transpose(1, 2) / 8, -1) @ h


REORDERED = {
    "flip": lambda h: h.flip(1),
    "roll": lambda h: h.roll(1, 1),
    "twice": lambda h: torch.cat([h, h], 1),
    "and back": lambda h: torch.cat([h, h.flip(1)], 1),
    "even, then odd": lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 1),
    "pairs swapped": lambda h: h.unflatten(1, (-1, 2)).flip(2).flatten(1, 2),
    "each half reversed": lambda h: torch.cat([half.flip(1) for half in h.tensor_split(2, 1)], 1),
    "half interleaved": lambda h: torch.cat([h[:, 0:6:2], h[:, 1:6:2], h[:, 6:]], 1),
    "without the last": lambda h: h[:, :-1],
    "every second and a token at the end": lambda h: torch.cat([h[:, ::2], torch.ones(len(h), 1, 8)], 1),
    "attention and back": lambda h: attended(h).flip(1),
    "attention, even, then odd": lambda h: (lambda a: torch.cat([a[:, ::2], a[:, 1::2]], 1))(attended(h)),
    "mean, twice": lambda h: (h * 0 + h.mean(1, keepdim=True)).repeat(1, 2, 1),
    "attention, twice": lambda h: attended(h).repeat(1, 2, 1),
    "fixed length": lambda h: pad(h, (0, 0, 0, 8 - h.shape[1])),
    "last four": lambda h: h[:, -4:],
    "first four": lambda h: h[:, :4],
}


@pytest.mark.parametrize("change", REORDERED.values(), ids=REORDERED)
def test_steps_out_of_order_or_of_a_fixed_number_are_refused(change):
    with pytest.raises(FusionError, match=r"stream 'a'.*time_axis"):
        mask_of(Changing(change))


@pytest.mark.parametrize("change", [REORDERED["flip"], REORDERED["even, then odd"]])
def test_telling_the_axis_does_not_bring_a_mask_against_what_trials_have_shown(change):
    with pytest.raises(FusionError, match=r"stream 'a'.*their order.*None for no mask"):
        mask_of(Changing(change), time_axis={"a": 1})
    assert mask_of(Changing(change), time_axis={"a": None}) is None


def test_a_network_that_reads_backwards_is_refused():
    with pytest.raises(FusionError, match=r"stream 'a'.*in their order"):
        mask_of(Backward())


KEPT = {
    "all": (lambda h: h, [2, 6]),
    "every second": (lambda h: h[:, ::2], [1, 3]),
    "doubled": (lambda h: h.repeat_interleave(2, 1), [4, 12]),
    "attention": (attended, [2, 6]),
    "attention, doubled": (lambda h: attended(h).repeat_interleave(2, 1), [4, 12]),
    "mean": (lambda h: h * 0 + h.mean(1, keepdim=True), [2, 6]),
    "causal": (lambda h: h.cumsum(1), [2, 6]),
    "without the first": (lambda h: h[:, 1:], [1, 5]),
}


@pytest.mark.parametrize(("change", "real"), KEPT.values(), ids=KEPT)
def test_steps_in_order_are_masked(change, real):
    mask = mask_of(Changing(change))
    assert mask.sum(1).tolist() == real
    assert torch.equal(mask, mask.sort(dim=1, descending=True).values)


def test_averages_and_queries_over_all_steps_have_no_mask():
    queries = torch.randn(3, 8)
    assert mask_of(Changing(lambda h: h.mean(1, keepdim=True).expand(-1, 4, -1))) is None
    assert mask_of(Changing(lambda h: torch.softmax(queries @ h.transpose(1, 2), -1) @ h)) is None


class Regions(nn.Module):
    """Text and as many regions of a picture, each of features and a box, as LXMERT's."""

    def __init__(self):
        super().__init__()
        self.words, self.features, self.boxes = nn.Embedding(50, 8), nn.Linear(6, 8), nn.Linear(4, 8)
        self.text, self.regions, self.output = nn.LayerNorm(8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, input_ids, attention_mask, features, boxes):
        text = self.text(self.words(input_ids) * attention_mask.unsqueeze(2))
        return self.output(text.mean(1) + self.regions(self.features(features) + self.boxes(boxes)).mean(1))


@pytest.mark.parametrize("same", [False, True])
def test_the_mask_of_a_text_is_not_laid_on_as_many_regions(same):
    ids = torch.ones(2, 6).long() if same else torch.randint(0, 50, (2, 6))
    mask = (torch.arange(6) < LENGTHS.unsqueeze(1)).long()
    given = {"input_ids": ids, "attention_mask": mask}
    given |= {"features": torch.randn(2, 6, 6), "boxes": torch.randn(2, 6, 4)}
    example = {"a": given, "b": torch.randn(2, 6, 5)}
    networks, watch = {"a": Regions(), "b": Recurrent(5, 8)}, SmartwatchExercises()
    fuse(networks, FusionPoint({"a": "text", "b": "rnn"}, watch), example=example)(example)
    assert torch.equal(watch.masks["a"], mask.bool())
    net = fuse(
        {"a": Regions(), "b": Recurrent(5, 8)}, FusionPoint({"a": "regions", "b": "rnn"}, watch), example=example
    )
    with pytest.raises(FusionError, match="another input"):
        net(example)


class Tubelets(nn.Module):
    """Halves a fixed number of frames, with a learned position for each, and attends to all (VideoMAE)."""

    def __init__(self, frames):
        super().__init__()
        self.embed = nn.Conv1d(5, 8, 2, stride=2)
        self.positions = nn.Parameter(torch.randn(frames // 2, 8))
        self.layer, self.out = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.embed(x).transpose(1, 2)
        if len(self.positions) != tokens.shape[1]:
            raise ValueError("another number of frames")
        return self.out(self.layer(tokens + self.positions).mean(dim=1))


class Resized(nn.Module):
    """Resizes any number of steps to four before attention, which mixes all."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Linear(5, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        tokens = nn.functional.interpolate(self.embed(x.transpose(1, 2)).transpose(1, 2), 8, mode="linear")
        return self.out(self.layer(tokens.transpose(1, 2)).mean(dim=1))


@pytest.mark.parametrize("network", [Tubelets(8), Resized()])
def test_lengths_are_refused_where_a_fixed_number_of_steps_follows_the_input(network):
    torch.manual_seed(0)
    example = {"a": torch.randn(3, 5, 8), "b": torch.randn(3, 8, 5)}
    points = FusionPoint({"a": "layer", "b": "rnn"}, block_channels=4)
    net = fuse({"a": network, "b": Recurrent(5, 8)}, points, example=example).eval()
    net(example, lengths={"a": torch.full((3,), 8)})
    with pytest.raises(FusionError, match=r"stream 'a' \('layer'.*time_axis"):
        net(example, lengths={"a": torch.tensor([8, 4, 6])})
