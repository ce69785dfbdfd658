"""Multimodal compact bilinear pooling (Fukui, Park, Yang, Rohrbach, Darrell, Rohrbach, 2016, arXiv 1606.01847)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msafusion.fusion.base import Head, Prediction, power_normalised, vectors
from msafusion.fusion.pooling import without_autocast
from msafusion.streams import check_count


class MCB(Head):
    """Count sketch of the outer product of all streams, its signed square root at length 1, then a linear map.

    The sketch of a stream adds sign_i * x_i to cell hash_i, with random signs and cells drawn once. The sketch of the
    outer product is the circular convolution of the streams' sketches, a product of their Fourier transforms (arXiv
    1606.01847, algorithm 1). A missing stream is left out of the product.

    The sketch is computed in float32 or better whatever the type of the module: there is no Fourier transform in
    bfloat16. Exported to ONNX it works, but ONNX Runtime's transform is exact only to about 1e-3 of the prediction
    unless sketch is a power of two.

    Args:
        channels: stream name -> number of channels.
        num_outputs: of the prediction.
        sketch: size of the sketch (the paper: 16000).
        sketch_seed: of the random signs and cells; both are saved with the weights.

    Raises:
        ValueError: num_outputs is missing; sketch is not a positive integer.

    Examples:
        >>> import torch
        >>> from msafusion.fusion import MCB
        >>> head = MCB({"video": 64, "audio": 32}, num_outputs=7, sketch=256)
        >>> head({"video": torch.randn(8, 64), "audio": torch.randn(8, 32)}).shape
        torch.Size([8, 7])
    """

    hashes: Tensor
    signs: Tensor

    search_space: ClassVar = {"sketch": (512, 1024, 2048)}

    def __init__(
        self, channels: Mapping[str, int], num_outputs: int | None = None, *, sketch: int = 1024, sketch_seed: int = 0
    ) -> None:
        super().__init__(channels, num_outputs)
        check_count("sketch", sketch)
        self.sketch = sketch
        generator, total = torch.Generator().manual_seed(sketch_seed), sum(self.channels.values())
        # on the CPU whatever the default device: a seed gives the same sketch everywhere
        hashes = torch.randint(sketch, (total,), generator=generator, device="cpu")
        signs = torch.randint(2, (total,), generator=generator, device="cpu") * 2 - 1
        self.linear = nn.Linear(sketch, self.predict_dataset("mcb"))
        self.register_buffer("hashes", hashes.to(self.linear.weight.device))
        self.register_buffer("signs", signs.to(self.linear.weight.device))

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Prediction:
        """Prediction (batch, num_outputs) of streams (batch, channels, *positions); see `vectors` for the rest."""
        pooled = power_normalised(self.pooled(features, masks, present))
        return self.linear(pooled.to(self.linear.weight.dtype))

    def pooled(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "batch sketch"]:
        """The count sketch of the outer product of the streams, before root and norm."""
        streams, here = vectors(features, self.channels, masks, present)
        counts, some = list(self.channels.values()), next(iter(streams.values()))
        if some.shape[0] == 0:  # Fourier transforms refuse to transform nothing
            return some.new_zeros(0, self.sketch)
        with without_autocast(some.device.type):
            spectrum = None
            for (name, stream), hashes, signs in zip(
                streams.items(), self.hashes.split(counts), self.signs.split(counts), strict=True
            ):
                cells = stream.new_zeros(stream.shape[0], self.sketch).index_add(1, hashes, stream * signs)
                if name in here:  # convolution with (1, 0, 0, ...) changes nothing
                    nothing = (torch.arange(self.sketch, device=cells.device) == 0).to(cells.dtype)
                    cells = torch.where(here[name].unsqueeze(1), cells, nothing)
                transformed = torch.fft.rfft(cells, dim=1)
                spectrum = transformed if spectrum is None else spectrum * transformed
            assert spectrum is not None
            return torch.fft.irfft(spectrum, n=self.sketch, dim=1)
