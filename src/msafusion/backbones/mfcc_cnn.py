"""The 1D CNN on MFCCs of MSAF's emotion network."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class MFCCNet(nn.Module):
    """Three 1D convolutions on mel cepstra, then linear (arXiv 2012.07175, sec. 4.1; keys of anita-hu/MSAF).

    Fuse at `relu2` (32 channels, steps - 4) or `bn3` (64 channels, (steps - 4) // 8). `fc1` reads 26 steps, what 212
    MFCC steps (2.45 s at 44.1 kHz, hop 512) leave; other lengths are averaged to 26.

    Args:
        num_outputs: classes.
        num_coefficients: MFCCs a step.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import MFCCNet
        >>> net = MFCCNet(num_outputs=8)
        >>> net(torch.randn(2, 13, 212)).shape
        torch.Size([2, 8])
    """

    def __init__(self, num_outputs: int = 8, num_coefficients: int = 13) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(num_coefficients, 32, 7, padding=2)
        self.relu1 = nn.ReLU(inplace=True)
        self.bn1 = nn.BatchNorm1d(32)
        self.conv2 = nn.Conv1d(32, 32, 7, padding=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool1d(8)
        self.bn2 = nn.BatchNorm1d(32)
        self.dropout1 = nn.Dropout(0.2)
        self.conv3 = nn.Conv1d(32, 64, 5, padding=2)
        self.relu3 = nn.ReLU(inplace=True)
        self.bn3 = nn.BatchNorm1d(64)
        self.dropout2 = nn.Dropout(0.4)
        self.fc1 = nn.Linear(64 * STEPS, num_outputs)

    def forward(self, mfcc: Float[Tensor, "batch coefficients steps"]) -> Float[Tensor, "batch outputs"]:
        """Logits of MFCCs of any length from 12 steps on.

        Raises:
            ValueError: fewer steps.
        """
        if mfcc.shape[-1] < 12:
            raise ValueError(f"got {mfcc.shape[-1]} MFCC steps, expected at least 12 (0.14 s); pad the sound.")
        features = self.bn1(self.relu1(self.conv1(mfcc)))
        features = self.dropout1(self.bn2(self.maxpool(self.relu2(self.conv2(features)))))
        features = self.bn3(self.relu3(self.conv3(features)))
        if features.shape[-1] != STEPS:
            features = functional.adaptive_avg_pool1d(features, STEPS)
        return self.fc1(self.dropout2(features.flatten(1)))


STEPS = 26
