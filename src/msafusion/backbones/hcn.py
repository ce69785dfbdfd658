"""HCN: co-occurrence features of skeletons (Li et al. 2018, arXiv 1804.06055)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class _EachPerson(nn.Sequential):
    """The same layers for every person; a fusion point needs all persons from one module."""

    def forward(self, input: Float[Tensor, "persons batch c t w"]) -> tuple[Tensor, ...]:
        """Features of person 1, 2, ..., (batch, channels, time, width) each."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2]).unbind(0)


class HCN(nn.Module):
    """Hierarchical co-occurrence network on skeletons (arXiv 1804.06055; keys of huguyuehuhu/HCN-pytorch).

    Position and motion (its difference in time) go through layers of their own, shared by all persons. From the third
    convolution on the joints are the channels. The maximum over persons is classified. The skeleton network of MSAF on
    NTU RGB+D (arXiv 2012.07175, sec. 4.3).

    Fuse at `conv5`, a tuple with 128 channels a person, or `fc7`, a vector of 512.

    Args:
        num_outputs: classes.
        window_size: time steps that the weights are made for, 16 at least; other lengths are pooled to fit `fc7`.
        num_joints: joints a skeleton.
        in_channels: coordinates a joint.
        dropout: of whole channels after conv4 to conv6, of values after fc7.

    Raises:
        ValueError: a window of fewer than 16 steps.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import HCN
        >>> HCN(num_outputs=60)(torch.randn(2, 3, 32, 25, 2)).shape  # (batch, 3, steps, joints, persons)
        torch.Size([2, 60])
    """

    def __init__(
        self,
        num_outputs: int = 60,
        window_size: int = 32,
        num_joints: int = 25,
        in_channels: int = 3,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if window_size < 16:
            raise ValueError(f"window_size is {window_size}, expected 16 or more; resample the skeletons.")
        self.num_joints, self.cells = num_joints, window_size // 16
        for kind in ("", "m"):  # position, motion
            self.add_module(f"conv1{kind}", nn.Sequential(nn.Conv2d(in_channels, 64, 1), nn.ReLU()))
            self.add_module(f"conv2{kind}", nn.Conv2d(64, window_size, (3, 1), padding=(1, 0)))
            self.add_module(f"conv3{kind}", nn.Sequential(nn.Conv2d(num_joints, 32, 3, padding=1), nn.MaxPool2d(2)))
            self.add_module(
                f"conv4{kind}",
                nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.Dropout2d(dropout), nn.MaxPool2d(2)),
            )
        self.conv5 = _EachPerson(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout), nn.MaxPool2d(2))
        self.conv6 = nn.Sequential(nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout), nn.MaxPool2d(2))
        self.fc7 = nn.Sequential(nn.Linear(256 * self.cells**2, 512), nn.ReLU(), nn.Dropout(dropout))
        self.fc8 = nn.Linear(512, num_outputs)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                followed = "relu" if name.startswith(("conv1", "conv5", "conv6", "fc7")) else "linear"
                nn.init.kaiming_normal_(module.weight, nonlinearity=followed)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, skeleton: Float[Tensor, "batch coordinates time joints persons"]
    ) -> Float[Tensor, "batch outputs"]:
        """Logits of sequences of 16 steps or more, with any number of persons.

        Args:
            skeleton: coordinates (metres, relative to the body's middle in NTU RGB+D).

        Raises:
            ValueError: fewer steps, or another number of joints.
        """
        batch, _, time, joints, num_persons = skeleton.shape
        if time < 16 or joints != self.num_joints:
            raise ValueError(
                f"got skeletons of {time} steps and {joints} joints, expected 16 steps at least and "
                f"{self.num_joints} joints; resample them, or set num_joints."
            )
        # one batch of all persons: (persons * batch, coordinates, time, joints)
        position = skeleton.permute(4, 0, 1, 2, 3).flatten(0, 1)
        motion = functional.interpolate(
            position[:, :, 1:] - position[:, :, :-1], (time, joints), mode="bilinear", align_corners=False
        )
        features = torch.cat([self._branch(position, ""), self._branch(motion, "m")], dim=1)
        features = self.conv6(torch.cat(self.conv5(features.unflatten(0, (num_persons, batch)))))
        if features.shape[2:] != (self.cells, self.cells):
            features = functional.adaptive_max_pool2d(features, self.cells)
        persons = features.unflatten(0, (num_persons, batch))
        return self.fc8(self.fc7(persons.amax(dim=0).flatten(1)))

    def _branch(self, points: Float[Tensor, "pb c t j"], kind: str) -> Float[Tensor, "pb _c _t _w"]:
        """Point-level, then (joints as channels) global features of position or motion."""
        for name in ("conv1", "conv2"):
            points = self.get_submodule(name + kind)(points)
        features = points.permute(0, 3, 2, 1).contiguous()
        for name in ("conv3", "conv4"):
            features = self.get_submodule(name + kind)(features)
        return features
