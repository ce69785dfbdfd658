"""Submodules that give several tensors: what is fused is what the network goes on with."""

import pytest
import torch
from torch import nn

from msafusion import FusionError, FusionPoint, fuse


class Tagger(nn.Module):
    """Uses the steps of its LSTM, the last state, or both."""

    def __init__(self, uses, weight=None):
        super().__init__()
        self.uses, self.rnn, self.output = uses, nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 4)
        if weight is not None:
            nn.init.constant_(self.output.weight, weight)

    def forward(self, x):
        steps, (state, _) = self.rnn(x)
        return self.output(steps.mean(dim=1) * ("steps" in self.uses) + state[-1] * ("state" in self.uses))


class Several(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.layer, self.give = nn.Linear(5, 8), give

    def forward(self, x):
        return self.give(self.layer(x))


class Wrapper(nn.Module):
    def __init__(self, give, take):
        super().__init__()
        self.part, self.take, self.output = Several(give), take, nn.Linear(8, 4)

    def forward(self, x):
        return self.output(self.take(self.part(x)).mean(dim=1))


def fused(network, at, x):
    other = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    return fuse({"a": network, "b": other}, FusionPoint({"a": at, "b": "1"}, "se"), example={"a": x, "b": x[..., 0, :]})


@pytest.mark.parametrize("uses", [("steps",), ("steps", "state")])
def test_an_lstm_is_fused_where_its_steps_are_used(uses):
    fused(Tagger(uses), "rnn", torch.randn(3, 7, 5))


def test_an_lstm_whose_last_state_alone_is_used_is_refused():
    with pytest.raises(FusionError, match=r"submodule 'rnn' of network 'a'.*others than \[0\].*last state"):
        fused(Tagger(("state",)), "rnn", torch.randn(3, 7, 5))


def test_a_classifier_that_still_is_zero_hides_nothing_wrong():
    fused(Tagger(("state",), weight=0.0), "rnn", torch.randn(3, 7, 5))


@pytest.mark.parametrize(
    ("give", "take"),
    [
        (lambda h: (h.detach(), (h, h)), lambda parts: parts[1][0]),
        (lambda h: ((h, h), h.detach()), lambda parts: parts[0][0]),
        (lambda h: {"last_hidden_state": h, "hidden_states": (h * 2, h)}, lambda parts: parts["hidden_states"][0]),
    ],
)
def test_nested_tensors_that_the_network_goes_on_with_are_not_passed_over(give, take):
    with pytest.raises(FusionError, match=r"tensors"):
        fused(Wrapper(give, take), "part", torch.randn(3, 7, 5))


def test_the_entry_that_is_used_can_be_named():
    network = Wrapper(lambda h: (h.detach() * 2, h), lambda parts: parts[1])
    fused(network, "part[1]", torch.randn(3, 7, 5))
    with pytest.raises(FusionError, match=r"others than \[0\]"):
        fused(network, "part[0]", torch.randn(3, 7, 5))


class Ignoring(nn.Module):
    """Calls a layer in place and goes on with what it was given, or never uses what it gives."""

    def __init__(self, inplace):
        super().__init__()
        self.layer, self.act, self.output = nn.Linear(5, 8), nn.ReLU(inplace), nn.Linear(8, 4)

    def forward(self, x):
        features = self.layer(x)
        self.act(features)
        return self.output(features.mean(dim=1))


@pytest.mark.parametrize("inplace", [True, False])
def test_an_output_that_the_network_does_not_use_is_told(inplace):
    with pytest.warns(UserWarning, match=r"submodule 'act' of network 'a'.*does not go on with its output"):
        fused(Ignoring(inplace), "act", torch.randn(3, 7, 5))


def test_features_that_stand_in_two_places_are_fused_where_the_network_takes_them():
    give = lambda h: {"last": h, "all": (h,)}  # noqa: E731
    fused(Wrapper(give, lambda output: output["last"]), "part[last]", torch.randn(3, 7, 5))
    with pytest.raises(FusionError, match=r"goes on with others than \[last\]"):
        fused(Wrapper(give, lambda output: output["all"][0]), "part[last]", torch.randn(3, 7, 5))
