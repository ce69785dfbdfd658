"""The network that `fuse()` makes: unmodified networks, the fusion layers where they meet, and a head."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msafusion.attach.arguments import check_inputs
from msafusion.attach.attention import AttentionRecorder
from msafusion.attach.containers import main_tensor
from msafusion.attach.hooks import PointHooks
from msafusion.attach.inputs import InputRule
from msafusion.attach.lockstep import FuseAt, run_in_lockstep
from msafusion.attach.parts import Parts
from msafusion.attach.points import FusionLayer, FusionPoint
from msafusion.attach.pretrained import load_fused, save_fused
from msafusion.attach.reading import NetworkOutputs, Reading, head_of_predictions, taps_of
from msafusion.attach.state import not_traced
from msafusion.attach.told_masks import presence_with
from msafusion.attach.tracing import export
from msafusion.streams import FusionError, check_someone, values_are_known

Inputs = Mapping[str, Any]
"""Network name -> its input: a tensor, a tuple of arguments or a dict of keyword arguments."""


def _not_exported(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Name `FusedNetwork.export` where torch.export would say in its own words that it cannot follow."""

    @functools.wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_exporting():
            raise FusionError(
                "torch.export cannot trace the switching between fused networks; call net.export(example), which "
                "returns an ExportedProgram as well (torch.onnx.export takes it)."
            )
        return forward(*args, **kwargs)

    return call


class FusedNetwork(Parts):
    """Networks that run side by side and are fused at points inside; made by `fuse()`.

    The networks stay the modules they were: used alone they behave as before, and `networks[name]` has its own keys.

    Attributes:
        networks: ModuleDict, in the order given.
        fusion_layers: one for each `FusionPoint`; `fusion_layers[0].fusion` is the module of the first.
        readings: the layers that the head reads, after the fusion layers; none: it reads the networks' outputs.
        head: the module that makes one prediction of the networks' outputs.

    Examples:
        >>> import torch
        >>> from msafusion import FusionPoint, fuse
        >>> from msafusion.backbones import CNN1d
        >>> batch = {"audio": torch.randn(2, 1, 100), "motion": torch.randn(2, 3, 50)}
        >>> networks = {"audio": CNN1d(1, 4), "motion": CNN1d(3, 4)}
        >>> net = fuse(networks, at=FusionPoint({"audio": "stage3", "motion": "stage3"}), example=batch)
        >>> net(batch).shape, net({"audio": batch["audio"]}).shape  # with and without motion
        (torch.Size([2, 4]), torch.Size([2, 4]))
        >>> type(net.fusion_layers[0].fusion).__name__, net.head
        ('MSAF', Sum())
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], points: Sequence[FusionPoint], time_axis: Mapping[str, int]
    ) -> None:
        super().__init__(networks)
        self.hooks = PointHooks(
            [{name: member.submodule for name, member in point.members.items()} for point in points],
            [point.name for point in points],
        )
        self._told: set[str] = set()
        self.input_rules = {
            name: InputRule.of(name, network, time_axis.get(name)) for name, network in networks.items()
        }

    @_not_exported
    @not_traced
    def forward(
        self,
        inputs: Inputs,
        lengths: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        return_attention: bool = False,
    ) -> Any:
        """One prediction: the head's, of what the networks say after fusion.

        Args:
            inputs: network name -> its input. A network left out is not run, and its streams are missing everywhere.
            lengths: network name -> (batch,) real time steps of its input, right-padded. A dict input's
                `attention_mask` serves without them. A network whose forward has a parameter `lengths` gets them. NaN
                and infinities in padded steps of its input count as zeros. 0: the sample lacks that network's input.
            present: network name -> bool (batch,), False where a sample lacks that network's input (its values are
                replaced by zeros, its lengths by 1 at least).
            return_attention: return (prediction, attention), attention as {fusion point: {stream: (batch, segments,
                blocks, block_channels)}}, for methods that have one, such as `MSAF`; a missing stream has zeros.

        Raises:
            ValueError: an unknown network, lengths beyond the input, a wrong shape, a sample that lacks all inputs;
                FusionError where networks do not meet at their points.
        """
        recorder = AttentionRecorder() if return_attention else None
        prediction = self.combine(self._outputs(inputs, lengths, present, recorder))
        return prediction if recorder is None else (prediction, recorder.attention)

    @not_traced
    def stream_outputs(
        self, inputs: Inputs, lengths: Mapping[str, Tensor] | None = None, present: Mapping[str, Tensor] | None = None
    ) -> NetworkOutputs:
        """Each network's own output after fusion, before the head; arguments as of `forward`.

        The attribute `present` tells which samples have which network's input, by `present` and by lengths. Where the
        head reads layers inside the networks, their vectors come along as the attribute `vectors`.
        """
        return self._outputs(inputs, lengths, present, None)

    def _outputs(
        self,
        inputs: Inputs,
        lengths: Mapping[str, Tensor] | None,
        present: Mapping[str, Tensor] | None,
        recorder: AttentionRecorder | None,
    ) -> NetworkOutputs:
        lengths, present = {} if lengths is None else lengths, {} if present is None else present
        check_inputs(self.input_rules, inputs, lengths, present)
        masks, inputs = {}, dict(inputs)
        for name in self._order(inputs):
            rule = self.input_rules[name]
            mask = rule.time_mask(inputs[name], lengths.get(name))
            if mask is not None:
                masks[name], inputs[name] = mask, rule.finite_padding(inputs[name], mask)
            for key in rule.unread_masks(inputs[name]):
                self._tell(f"network '{name}': fusion does not read '{key}': what it pads counts as real in streams.")
        present = presence_with(self._order(inputs), masks, present)

        vectors: dict[str, Tensor] = {}
        eager = {name: given for name, given in inputs.items() if values_are_known(main_tensor(given))}
        batches = {name: self.input_rules[name].batch(given) for name, given in eager.items()}

        def fuse_at(point: int, outputs: dict[str, Any]) -> dict[str, Any]:
            self._tell_skipped(point, inputs.keys() - outputs.keys())
            fusion_layer = (*self.fusion_layers, *self.readings)[point]
            assert isinstance(fusion_layer, FusionLayer)
            fusion_layer.check_rows(outputs, batches)
            if not isinstance(fusion_layer, Reading):
                return fusion_layer(outputs, masks, present, recorder)
            vectors.update(fusion_layer.vectors(outputs, masks, present))
            return outputs

        outputs = self.run_networks(inputs, lengths, present, fuse_at)
        return NetworkOutputs(outputs, vectors, present)

    def combine(self, outputs: Mapping[str, Any], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """The head's prediction from what `stream_outputs` gave.

        A head of `HEADS` gets the tensor found in each output (itself, `logits`, or the only one), or what it reads in
        the networks; a module of your own gets the outputs as they are. Rows of samples that lack a network are zero.

        Args:
            outputs: network name -> its output.
            present: network name -> bool (batch,), beyond what the outputs of `stream_outputs` tell themselves.

        Raises:
            FusionError: a network's output holds no such tensor, the shapes do not go together, or the outputs are not
                those of `stream_outputs` where the head reads layers inside.
            ValueError: a sample lacks all networks.
        """
        here = {name: mask for name, mask in (present or {}).items() if name in outputs}
        for name, mask in getattr(outputs, "present", {}).items():
            if name in outputs:
                here[name] = here[name] & mask if name in here else mask
        check_someone(outputs, present=here)
        if self.readings:
            if not isinstance(outputs, NetworkOutputs):
                raise FusionError(
                    "the head reads layers inside the networks, and combine() got outputs without them; give it what "
                    "stream_outputs() returned, unchanged."
                )
            owner = {tap.stream: tap.network for reading in self.readings for tap in taps_of(reading)}
            streams = {stream: here[name] for stream, name in owner.items() if name in here}
            return self.head(outputs.vectors, None, streams or None)
        rules = {name: self.input_rules.get(name) or InputRule(name, None, None, False) for name in outputs}
        return head_of_predictions(self.head, outputs, rules, here)

    def export(self, example: Inputs, *, dynamic_time: bool = False) -> torch.export.ExportedProgram:
        """One flat graph of the whole network in eval mode, with a dynamic batch; see `torch.onnx.export(program=...)`.

        Args:
            example: inputs as for `forward`; one sample is enough.
            dynamic_time: also free axis 2 of the inputs where they have one (not for recurrent networks).

        Returns:
            A program called as `program.module()(inputs)`.

        Raises:
            ValueError: an input is not a tensor (or a dict or tuple of them), or a network's code fixes the batch size.
        """
        check_inputs(self.input_rules, example, {}, {})
        batch_axes = {name: self.input_rules[name].batch_axis for name in self._order(example)}
        layers = (*self.fusion_layers, *self.readings)
        taps = [tap for layer in layers if isinstance(layer, FusionLayer) for tap in layer.taps]
        for name in sorted({tap.network for tap in taps if tap.timing.rule and not tap.timing.rule.keeps_order}):
            if isinstance(given := example.get(name), Mapping) and "attention_mask" in given:
                self._tell(
                    f"the exported program takes padding in the attention_mask of network '{name}' to follow the real "
                    "steps; it cannot refuse padding before them, as the network itself does."
                )
        return export(self, {name: example[name] for name in batch_axes}, batch_axes, dynamic_time)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` (all weights, the networks' too) and `config.json` (points, head, options) there.

        Your own modules as fusion or head are in the weights, and in the configuration by the name of their class only.

            net.save_pretrained("fused")
            again = FusedNetwork.from_pretrained("fused", networks={"video": VideoNet(), "audio": AudioNet()})

        Args:
            folder: created if it does not exist; a model in it is replaced.

        Raises:
            ValueError: an option cannot be written as JSON, part of the state is not a tensor, or a link or a file is
                in the way.
        """
        save_fused(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        networks: Mapping[str, nn.Module],
        *,
        head: nn.Module | None = None,
        fusions: Mapping[int, nn.Module] | None = None,
    ) -> "FusedNetwork":
        """The network that `save_pretrained` wrote, in eval mode: the same outputs to the last bit; no example needed.

        Nothing is imported or run but the methods that FUSIONS and HEADS know. Where anything does not fit, the
        networks are left as they were.

        Args:
            folder: where it is.
            networks: name -> a network built as it was for `fuse()`; its weights and their dtypes are replaced by the
                saved ones.
            head: a module like the one saved, if the head was a module of your own.
            fusions: number of a fusion point (from 0, as in `fusion_status()`) -> a module like the one saved, for the
                points whose fusion was a module of your own.

        Raises:
            ValueError: files are missing, broken or not written by `save_pretrained`, or a network or module is
                missing, unknown or differs from the saved one; the message names it.
            TypeError: a network is not a module.
        """
        return load_fused(cls, Path(folder), networks, head, fusions or {})

    def _order(self, inputs: Inputs) -> list[str]:
        return [name for name in self.networks if name in inputs]

    @not_traced
    def run_networks(
        self, inputs: Inputs, lengths: Mapping[str, Tensor], present: Mapping[str, Tensor], fuse_at: FuseAt
    ) -> dict[str, Any]:
        """Each network's output, with `fuse_at` called where they meet; as `run_in_lockstep`.

        In training a network may leave out submodules (layers dropped at random): it is not waited for there.
        """
        given = {name: (inputs[name], lengths.get(name), present.get(name)) for name in self._order(inputs)}
        calls = {name: functools.partial(self._call_network, name, *one) for name, one in given.items()}
        orders = {name: order for name, order in self.orders.items() if self.networks[name].training}
        with self.hooks.attached(dict(self.networks.items())):
            found = run_in_lockstep(self.hooks, calls, self.hooks.points, self.hooks.where, fuse_at, orders)
        return {name: found[name] for name in calls}

    @not_traced
    def _call_network(self, name: str, given: Any, lengths: Tensor | None, present: Tensor | None) -> Any:
        return self.input_rules[name].call(self.networks[name], given, lengths, present)

    def _tell_skipped(self, point: int, absent: Collection[str]) -> None:
        """Say which network has left out which point in a step."""
        members, where = self.hooks.points[point], self.hooks.where[point]
        for name in absent & members.keys():
            self._tell(
                f"network '{name}' left out its submodule '{members[name]}' in a training step (layerdrop?): in such "
                f"steps its stream is missing at fusion point {where}."
            )

    def _tell(self, line: str) -> None:
        """Warn once."""
        if line not in self._told:
            self._told.add(line)
            warnings.warn(line, stacklevel=3)
