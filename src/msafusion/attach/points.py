"""Fusion points: which submodules of which networks meet, and how their outputs become streams and go back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from msafusion.attach.arguments import check_axes, check_type
from msafusion.attach.attention import AttentionRecorder
from msafusion.attach.layout import StreamLayout
from msafusion.attach.members import Member
from msafusion.attach.methods import Made
from msafusion.attach.paths import Path, describe, get, put
from msafusion.attach.timing import TimeMask, Timing
from msafusion.attach.told_masks import with_someone
from msafusion.fusion import FUSIONS
from msafusion.streams import FusionError, nearest, values_are_known

DEFAULT_FUSION = "msaf"


class FusionPoint:
    """Submodules of several networks whose outputs are fused.

    Args:
        streams: network name -> the submodule's name (as in `named_modules`), whose output is one stream or, if it
            holds several tensors, several (`network.0`, `network.key`). Or network name -> {stream name:
            "submodule"}, to name several streams of one submodule's output; "submodule[key]" picks an entry of a tuple
            or dict, otherwise the entry is the one called like the stream, or in the same place.
        fusion: a name in `msafusion.fusion.FUSIONS`, made with the channels found and `options`, or a module that is
            called as `fusion(features, masks, present)` and returns features of the same shapes.
        channel_axis: the axis that holds the channels, where it is not found by itself: for all streams, or by stream.
        time_axis: the axis of the submodule's output that follows the steps of the network's input, where it is not
            found by itself: for all streams, or by stream, where None says that none does and no mask belongs there.
        name: for error messages; made of the submodule names if absent.
        options: of the fusion method, such as `block_channels=16`.

    Raises:
        ValueError: no network, an empty name, an unknown fusion method, or options beside a module.
        TypeError: the streams are not names.

    Examples:
        >>> from msafusion import FusionPoint
        >>> FusionPoint({"video": "layer3", "audio": "relu2"}, block_channels=16)
        FusionPoint({'video': 'layer3', 'audio': 'relu2'}, fusion='msaf', block_channels=16)
    """

    def __init__(
        self,
        streams: Mapping[str, str | Mapping[str, str]],
        fusion: str | nn.Module = DEFAULT_FUSION,
        *,
        channel_axis: int | Mapping[str, int] | None = None,
        time_axis: int | Mapping[str, int | None] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        check_type("streams of a FusionPoint", streams, Mapping, '{network: "submodule"}; name the networks')
        check_type("fusion of a FusionPoint", fusion, (str, nn.Module), "a name in FUSIONS, or a torch.nn.Module")
        check_axes("channel_axis of a FusionPoint", channel_axis, "stream")
        check_axes("time_axis of a FusionPoint", time_axis, "stream")
        if not streams:
            raise ValueError('a FusionPoint got no network, expected {network: "submodule", ...}; name at least one.')
        if isinstance(fusion, str) and fusion not in FUSIONS:
            raise ValueError(f"unknown fusion {fusion!r}; {nearest(fusion, FUSIONS)}")
        if isinstance(fusion, nn.Module) and options:
            raise ValueError(
                f"a FusionPoint got the module {type(fusion).__name__} and the options {', '.join(options)}, expected "
                "options only beside a method's name; set them on the module."
            )
        self.members = {network: Member.parse(network, spec) for network, spec in streams.items()}
        self.fusion, self.options, self.channel_axis, self.time_axis = fusion, options, channel_axis, time_axis
        self.name = name or self._usual_name()

    def _usual_name(self) -> str:
        return " + ".join(f"{network}.{member.submodule}" for network, member in self.members.items())

    def __repr__(self) -> str:
        """What makes the same point again, where `fusion` is a method's name."""
        told: dict[str, Any] = {"fusion": self.fusion}
        for key in ("channel_axis", "time_axis"):
            if (axis := getattr(self, key)) is not None:
                told[key] = dict(axis) if isinstance(axis, Mapping) else axis
        if self.name != self._usual_name():
            told["name"] = self.name
        streams = {network: member.spec for network, member in self.members.items()}
        more = "".join(f", {key}={value!r}" for key, value in {**told, **self.options}.items())
        return f"FusionPoint({streams!r}{more})"


@dataclass(frozen=True)
class Tap:
    """One stream at a point: whose it is, where in the submodule's output, its shape in the example, its axes.

    `by_sample`: it has a row for each sample of its network's input.
    """

    stream: str
    network: str
    path: Path
    layout: StreamLayout
    shape: tuple[int, ...]
    timing: Timing = field(default_factory=Timing)
    by_sample: bool = False

    @property
    def dims(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    @property
    def channels(self) -> int:
        """The number of its channels."""
        return self.shape[self.layout.channel_axis]


class FusionLayer(nn.Module):
    """A fusion point in place: takes the submodules' outputs, fuses their streams, puts them back."""

    def __init__(self, taps: list[Tap], fusion: nn.Module | Made, name: str) -> None:
        super().__init__()
        self.made = fusion if isinstance(fusion, Made) else None
        self.fusion: nn.Module = fusion.module if isinstance(fusion, Made) else fusion
        self.taps, self.name = taps, name

    def extra_repr(self) -> str:
        """Its streams, for printing."""
        return ", ".join(tap.stream for tap in self.taps)

    def forward(
        self,
        outputs: Mapping[str, Any],
        masks: Mapping[str, TimeMask],
        present: Mapping[str, Tensor],
        recorder: AttentionRecorder | None = None,
    ) -> dict[str, Any]:
        """Fuse what the networks bring; padded steps of a stream leave as they came.

        Raises:
            FusionError: what the fusion method raises as a ValueError, with this point's name; or it does not return
                every stream in its shape.
        """
        taps = [tap for tap in self.taps if tap.network in outputs]
        features, stream_masks, here = self.streams(outputs, masks, present)
        given_masks, given_presence = with_someone(features, stream_masks, here)
        try:
            given = (features, given_masks or None, given_presence or None)
            fused = self.fusion(*given) if recorder is None else recorder.fuse(self.name, self.fusion, *given)
        except ValueError as error:
            raise FusionError(f"fusion point {self.name}: {error}") from error
        self._check(features, fused)
        results = dict(outputs)
        for tap in taps:
            came, feature = features[tap.stream], fused[tap.stream]
            if given_presence is not here and tap.stream in here:
                feature = feature.masked_fill(~here[tap.stream].reshape(-1, *[1] * (feature.dim() - 1)), 0)
            if tap.stream in stream_masks:
                mask = stream_masks[tap.stream]
                mask = mask.reshape(mask.shape[0], 1, mask.shape[1], *[1] * (feature.dim() - 3))
                kept = came
                if tap.stream in here:  # but a missing stream stays zero
                    kept = kept.masked_fill(~here[tap.stream].reshape(-1, *[1] * (feature.dim() - 1)), 0)
                feature = torch.where(mask, feature, kept)
            if feature.stride() != came.stride():  # another memory layout would round the next layer's sums otherwise
                feature = torch.empty_like(came, dtype=feature.dtype).copy_(feature)
            results[tap.network] = put(results[tap.network], tap.path, tap.layout.from_stream(feature))
        return results

    def streams(
        self, outputs: Mapping[str, Any], masks: Mapping[str, TimeMask], present: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """The streams that the networks bring, with their masks and presence."""
        taps = [tap for tap in self.taps if tap.network in outputs]
        features = {tap.stream: self._stream(tap, outputs[tap.network]) for tap in taps}
        stream_masks: dict[str, Tensor] = {}
        for tap in taps:
            mask = self._mask(tap, features[tap.stream], masks[tap.network]) if tap.network in masks else None
            if mask is not None:
                stream_masks[tap.stream] = mask
        return features, stream_masks, {tap.stream: present[tap.network] for tap in taps if tap.network in present}

    def check_rows(self, outputs: Mapping[str, Any], batches: Mapping[str, int]) -> None:
        """Refuse streams of some samples only, whose rows would be fused with those of others.

        Args:
            outputs: network name -> its submodule's output.
            batches: network name -> the samples in its input, where their number is known.
        """
        for tap in self.taps:
            if not tap.by_sample or tap.network not in outputs or tap.network not in batches:
                continue
            tensor = self._tensor(tap, outputs[tap.network])
            rows, batch = tensor.shape[tap.layout.batch_axis], batches[tap.network]
            if rows != batch:
                raise FusionError(
                    f"fusion point {self.name}: network '{tap.network}' gives shape {tuple(tensor.shape)}, expected "
                    f"{batch} on axis {tap.layout.batch_axis}, a row for each sample as with fuse()'s "
                    "example; fuse where all samples pass (some networks leave out some at random in training)."
                )

    def _mask(self, tap: Tap, feature: Tensor, mask: TimeMask) -> Tensor | None:
        """A stream's mask; None where it has no time.

        Raises:
            FusionError: it cannot be told.
        """
        timing = tap.timing
        if feature.dim() < 3 or (timing.axis is None and not timing.doubt):
            return None
        if timing.doubt:
            if values_are_known(mask.mask) and mask.mask.all():
                return None
            raise FusionError(f"fusion point {self.name}: no mask can be given, {timing.doubt}.")
        try:
            return mask.at(feature.shape[2], timing.rule)
        except ValueError as error:
            raise FusionError(f"fusion point {self.name}: stream '{tap.stream}' {error}") from None

    def _tensor(self, tap: Tap, output: Any) -> Tensor:
        try:
            tensor = get(output, tap.path)
        except (IndexError, KeyError):
            raise FusionError(
                f"fusion point {self.name}: network '{tap.network}' gives {describe(output)}, expected an entry "
                f"[{tap.path[0]}] for stream '{tap.stream}' as with fuse()'s example; give its input the same parts."
            ) from None
        if tensor.dim() <= max(tap.layout.batch_axis, tap.layout.channel_axis, tap.layout.time_axis or 0):
            raise FusionError(
                f"fusion point {self.name}: network '{tap.network}' gives shape {tuple(tensor.shape)}, expected "
                "the axes of fuse()'s example; give its input a batch axis."
            )
        return tensor

    def _stream(self, tap: Tap, output: Any) -> Tensor:
        return tap.layout.to_stream(self._tensor(tap, output))

    def _check(self, features: Mapping[str, Tensor], fused: Any) -> None:
        for stream, feature in features.items():
            got = fused.get(stream) if isinstance(fused, Mapping) else None
            if not isinstance(got, Tensor) or got.shape != feature.shape:
                gave = f"{type(self.fusion).__name__} gave {describe(fused if got is None else got)}"
                raise FusionError(
                    f"fusion point {self.name}: {gave} for stream '{stream}', expected shape {tuple(feature.shape)}; "
                    "a fusion module returns {stream: tensor} with every stream in the shape it came."
                )
