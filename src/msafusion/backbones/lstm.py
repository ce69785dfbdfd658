"""Two LSTMs over a sequence of features: the networks of MSAF's sentiment model."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SequenceLSTM(nn.Module):
    """Two one-layer LSTMs; the last real step, dropout and linear (arXiv 2012.07175, sec. 4.2; keys of anita-hu/MSAF).

    Fuse at `lstm1` or `lstm2`.

    Args:
        in_channels: features a step.
        hidden_channels: of both LSTMs.
        num_outputs: of the classifier; None: no classifier, the last step's (batch, hidden_channels) comes out.
        dropout: before the classifier's linear map.
        read_padding: take the last step whether it is padding or not, as the published code does with its padded
            sequences; `lengths` are then refused.

    Examples:
        >>> import torch
        >>> from msafusion.backbones import SequenceLSTM
        >>> net = SequenceLSTM(74, hidden_channels=32)
        >>> net(torch.randn(2, 20, 74), lengths=torch.tensor([20, 12])).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_outputs: int | None = 1,
        dropout: float = 0.1,
        read_padding: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.hidden_channels, self.read_padding = in_channels, hidden_channels, read_padding
        self.lstm1 = nn.LSTM(in_channels, hidden_channels, batch_first=True)
        self.lstm2 = nn.LSTM(hidden_channels, hidden_channels, batch_first=True)
        self.classifier = (
            nn.Identity()
            if num_outputs is None
            else nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_channels, num_outputs))
        )

    def forward(
        self, sequence: Float[Tensor, "batch time features"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """The classifier's (or the last real step's) values for right-padded sequences.

        Args:
            sequence: features of each step.
            lengths: real steps of each sequence (0: its last step counts as zero); none: all.

        Raises:
            ValueError: lengths although `read_padding`.
        """
        if self.read_padding and lengths is not None:
            raise ValueError("got lengths, but read_padding=True reads padded steps as real ones; leave lengths out.")
        hidden, _ = self.lstm1(sequence)  # an LSTM does not look ahead, so padding on the right changes no real step
        hidden, _ = self.lstm2(hidden)
        if lengths is None:
            return self.classifier(hidden[:, -1])
        last = lengths.to(hidden.device) - 1
        index = last.clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, hidden.shape[2])
        step = torch.gather(hidden, 1, index).squeeze(1)
        return self.classifier(step.masked_fill((last < 0).unsqueeze(1), 0))
