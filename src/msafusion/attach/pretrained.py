"""Save a fused network as `model.safetensors` and `config.json`, and build it again around the user's networks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from msafusion.attach.arguments import check_networks, check_type
from msafusion.attach.methods import Made, make_fusion, make_head
from msafusion.attach.parts import Parts
from msafusion.attach.points import FusionLayer, FusionPoint
from msafusion.attach.reading import Reading
from msafusion.attach.saved_config import (
    FLAGS,
    Entry,
    channels_from,
    fusion_layer_config,
    input_config,
    method_config,
    taps_from,
)
from msafusion.attach.saved_state import (
    buffers_of,
    cast,
    check_state,
    dtype_name,
    dtypes_of,
    parameters_of,
    shared_keys,
)
from msafusion.files.bounds import at_most, needed_for
from msafusion.files.links import check_no_links
from msafusion.files.saved_model import (
    CONFIG,
    WEIGHTS,
    ModelError,
    check_files,
    read_config,
    read_state,
    save_model,
)
from msafusion.fusion import FUSIONS, HEADS
from msafusion.streams import nearest
from msafusion.text import one_line
from msafusion.version import __version__

Net = TypeVar("Net", bound=Parts)
KIND, FORMAT = "msafusion.FusedNetwork", 1
"""What config.json calls itself, and the version of what is in it: another one for what this code could not read."""


def save_fused(net: Parts, folder: Path) -> None:
    """As `FusedNetwork.save_pretrained`."""
    state = net.state_dict(keep_vars=True)
    for key, value in state.items():
        if not isinstance(value, Tensor) or is_lazy(value) or value.layout is not torch.strided or value.is_quantized:
            raise ValueError(
                f"the state '{key}' is a {type(value).__name__} that safetensors cannot hold, expected a plain tensor; "
                "save that part by other means."
            )
    points = [
        {
            **fusion_layer_config(fusion_layer, names),
            **method_config(fusion_layer.fusion, fusion_layer.made, f"fusion point {fusion_layer.name}"),
        }
        for fusion_layer, names in zip(_fusion_layers(net.fusion_layers), net.hooks.points, strict=False)
    ]
    levels = zip(_fusion_layers(net.readings), net.hooks.points[len(points) :], strict=True)
    config = {
        "kind": KIND,
        "format": FORMAT,
        "msafusion": __version__,
        "networks": [
            input_config(rule, net.networks[name], net.orders.get(name)) for name, rule in net.input_rules.items()
        ],
        "points": points,
        "readings": [fusion_layer_config(fusion_layer, names) for fusion_layer, names in levels],
        "head": method_config(net.head, net.head_made, "the head"),
        "frozen": {name: list(keys) for name, keys in net.frozen.items()},
        "without_gradients": [key for key, one in parameters_of(net) if not one.requires_grad],
        "shared": [keys for keys in shared_keys(state) if len(keys) > 1],
        "not_in_weights": {key: dtype_name(one.dtype) for key, one in buffers_of(net) if key not in state},
    }
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file, expected a folder to save the network in; give another path.")
    if folder.is_dir():
        ours = [path for path in folder.iterdir() if CONFIG in path.name or WEIGHTS in path.name]
        check_no_links(ours, "remove it, or save to another folder")
    save_model(folder, net, config)


def load_fused(
    cls: Callable[..., Net],
    folder: Path,
    networks: Mapping[str, nn.Module],
    head: nn.Module | None,
    fusions: Mapping[int, nn.Module],
) -> Net:
    """As `FusedNetwork.from_pretrained`."""
    check_networks(networks)
    check_type("head", head, (nn.Module, type(None)), "the torch.nn.Module that was the head when it was saved")
    check_type("fusions", fusions, Mapping, "{number of the point: module}")
    for fusion in fusions.values():
        check_type("a module of fusions", fusion, nn.Module, "a torch.nn.Module")
    check_files(folder, "a fused network; give the folder that save_pretrained() wrote")
    config = _config(folder)
    own = {i: one for i, one in enumerate(config.entries("points")) if one.get("method", str, type(None)) is None}
    for number in fusions:
        if number not in own:
            listed = ", ".join(map(str, own)) or "no point"
            raise ModelError(f"fusions names the point {number!r}, expected one with a module of your own: {listed}.")
    for number, entry in own.items():
        what = f"fusion point {number} ({entry.get('name', str)})"
        _check_own(fusions.get(number), entry, what, f"fusions={{{number}: ...}}")
    kept = config.entry("head")
    if kept.get("method", str, type(None)) is None:
        _check_own(head, kept, "the head", "head=...")
    elif head is not None:
        raise ModelError(f"the head of '{folder}' is '{kept.get('method', str)}', made by its name; leave head out.")
    placed = _placed(config, networks, folder)
    state = read_state(folder, "save the network again or restore the file")
    with _one_line(config, folder):
        with at_most(needed_for(state), "as the weights need"):
            net = _built(cls, config, placed, head, fusions)
        check_state(net, config, state, folder)
        cast(net, {**{k: v.dtype for k, v in state.items()}, **dtypes_of(config)})
        net.load_state_dict(state)
        for key in config.list_of("without_gradients", str):
            dict(parameters_of(net))[key].requires_grad_(False)
    return net.eval()


def _config(folder: Path) -> Entry:
    """The configuration, of this kind and format.

    Raises:
        ModelError: it is another's.
    """
    values = read_config(folder, "save the network again or restore the file")
    if values.get("kind") != KIND:
        ours = "preprocessing" in values and "classes" in values
        remedy = "msafusion.load() reads the model of a training run" if ours else "give the folder it wrote"
        raise ModelError(
            f"'{folder / CONFIG}' does not describe a fused network, expected what save_pretrained() wrote; {remedy}."
        )
    if values.get("format") != FORMAT or type(values["format"]) is not int:
        raise ModelError(
            f"'{folder}' was saved by msafusion {values.get('msafusion')} in format {values.get('format')!r}, and "
            f"this one ({__version__}) reads format {FORMAT}; use the version that saved it."
        )
    return Entry(values, f"'{folder / CONFIG}'")


@contextmanager
def _one_line(config: Entry, folder: Path) -> Iterator[None]:
    """Turn what classes raise on foreign options into one line that names the folder."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ModelError) and str(folder) in str(error):
            raise
        said = one_line(str(error) or type(error).__name__)[:400].rstrip(".")
        saved = config.values.get("msafusion")
        other = f" (saved by msafusion {saved}, this is {__version__})" if saved != __version__ else ""
        raise ModelError(f"the fused network in '{folder}' cannot be built{other}: {said}.") from error


def _check_own(given: nn.Module | None, entry: Entry, what: str, argument: str) -> None:
    kind = entry.get("class", str)
    if given is None:
        raise ModelError(
            f"{what} was a module of your own ({kind}), which config.json cannot build; pass one like it as {argument}."
        )
    if type(given).__name__ != kind:
        raise ModelError(f"{what} is a {type(given).__name__}, expected a {kind} as saved; pass one of that class.")


def _placed(config: Entry, networks: Mapping[str, nn.Module], folder: Path) -> dict[str, nn.Module]:
    """The networks in the saved order, which decides about the last bit of sums.

    Raises:
        ModelError: one is missing, unknown or of another class.
    """
    kinds = {one.get("name", str): one.get("class", str) for one in config.entries("networks")}
    for name, kind in kinds.items():
        if name not in networks:
            raise ModelError(
                f"no network '{name}' was given, expected a {kind} as in '{folder}'; add it as it was built."
            )
        if type(networks[name]).__name__ != kind:
            raise ModelError(
                f"network '{name}' is a {type(networks[name]).__name__}, expected a {kind} as in '{folder}'; build the "
                "same (where only the class has another name now, write it into config.json)."
            )
    for name in networks:
        if name not in kinds:
            raise ModelError(f"'{folder}' has no network '{name}', which was given; {nearest(name, kinds)}")
    return {name: networks[name] for name in kinds}


def _built(
    cls: Callable[..., Net],
    config: Entry,
    networks: Mapping[str, nn.Module],
    head: nn.Module | None,
    fusions: Mapping[int, nn.Module],
) -> Net:
    """The network with new weights in fusion and head.

    Raises:
        ValueError: a method refuses its options, or a network has not the submodules.
    """
    points, readings = config.entries("points"), config.entries("readings")
    places = [
        FusionPoint(one.pairs("submodules", str), nn.Identity(), name=one.get("name", str))
        for one in (*points, *readings)
    ]
    described = {one.get("name", str): one for one in config.entries("networks")}
    axes = {name: one.get("time_axis", int, type(None)) for name, one in described.items()}
    for place in places:
        for name in place.members:
            if name not in networks:
                raise ModelError(f"fusion point {place.name} names the unlisted network '{name}'; save it again.")
    net = cls(networks, places, {name: axis for name, axis in axes.items() if axis is not None})
    for index, place in enumerate(net.hooks.points):
        for name, submodule in place.items():
            net.hooks.submodule(networks[name], name, index, submodule)
    for name, entry in described.items():
        for flag in FLAGS:
            setattr(net.input_rules[name], flag, entry.get(flag, bool))
        net.input_rules[name].input_axes = entry.pairs("input_axes", int, type(None))
        if entry.get("output_axes", list, type(None)) is not None:
            net.input_rules[name].output_axes = tuple(entry.list_of("output_axes", int, type(None)))
        if entry.get("order", list, type(None)) is not None:
            net.orders[name] = entry.list_of("order", int)
    for number, entry in enumerate(points):
        fusion = fusions[number] if number in fusions else _made_fusion(entry)
        net.fusion_layers.append(FusionLayer(taps_from(entry), fusion, entry.get("name", str)))
    net.readings.extend(Reading(taps_from(entry), entry.get("name", str)) for entry in readings)
    net.head_made = None if head is not None else _made_head(config.entry("head"))
    net.head = net.head_made.module if net.head_made is not None else net.head if head is None else head
    device = next((one.device for one in networks[next(iter(networks))].parameters()), torch.device("cpu"))
    for part in (net.fusion_layers, net.head):
        part.to(device)
    frozen = config.entry("frozen")
    net.frozen = {name: frozen.list_of(name, str) for name in frozen.values}
    for name in net.frozen:
        net.part(name)
    return net


def _made_fusion(entry: Entry) -> Made:
    method, where = entry.get("method", str), f"fusion point {entry.get('name', str)}"
    if method not in FUSIONS:
        raise ModelError(
            f"{where} has the fusion {method!r}, which is not in FUSIONS; import your module with it, "
            f"or {nearest(method, FUSIONS)}"
        )
    return make_fusion(method, channels_from(entry), entry.get("options", dict), where)


def _made_head(entry: Entry) -> Made:
    method = entry.get("method", str)
    if method not in HEADS:
        raise ModelError(
            f"the head is {method!r}, which is not in HEADS; import your module with it, or {nearest(method, HEADS)}"
        )
    outputs = entry.get("num_outputs", int, type(None))
    return make_head(method, channels_from(entry), outputs, entry.get("options", dict))


def _fusion_layers(modules: nn.ModuleList) -> list[FusionLayer]:
    return [one for one in modules if isinstance(one, FusionLayer)]
