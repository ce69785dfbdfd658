"""The weights of a saved fused network: whether they fit the parts, which are shared, and of what type they are."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from msafusion.attach.parts import Parts
from msafusion.attach.saved_config import Entry
from msafusion.files.saved_model import CONFIG, ModelError, check_fit


def check_state(net: Parts, config: Entry, state: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse weights that do not fit, part by part, before any network is changed.

    Raises:
        ModelError: it names the part and its weights.
    """
    built = net.state_dict(keep_vars=True)
    networks = net.networks.items()
    names = {f"networks.{name}.": f"network '{name}' ({type(one).__name__})" for name, one in networks}
    names |= {
        f"fusion_layers.{i}.": f"fusion point {getattr(one, 'name', i)}" for i, one in enumerate(net.fusion_layers)
    }
    names |= {"head.": "the head"}
    for prefix, what in names.items():
        saved = {key: value for key, value in state.items() if key.startswith(prefix)}
        expected = {key: value for key, value in built.items() if key.startswith(prefix)}
        shapes = {key: tuple((saved.get(key, one) if is_lazy(one) else one).shape) for key, one in expected.items()}
        check_fit(f"{what} as in '{folder}'", saved, shapes)
        for key, value in expected.items():
            if not is_lazy(value) and value.is_floating_point() != saved[key].is_floating_point():
                raise ModelError(
                    f"{key} of {what} is {dtype_name(value.dtype)}, and {dtype_name(saved[key].dtype)} in '{folder}'; "
                    "build the network as it was saved."
                )
    if rest := [key for key in state if not key.startswith(tuple(names))]:
        raise ModelError(
            f"the weights in '{folder}' hold '{rest[0]}', which belongs to none of its parts; save the network again."
        )
    for keys in shared_keys(built):
        values = [state[key] for key in keys]
        if any(not torch.equal(_bytes(one), _bytes(values[0])) for one in values[1:]):
            raise ModelError(
                f"{' and '.join(keys[:2])} are one tensor in the networks given, two in '{folder}'; build the networks "
                "as they were."
            )
    together = {key: number for number, keys in enumerate(shared_keys(built)) for key in keys}
    for keys in config.list_of("shared", list):
        if apart := [key for key in keys if together.get(key) != together.get(keys[0])]:
            raise ModelError(
                f"{keys[0]} and {apart[0]} are one tensor in '{folder}', two in the networks given; build the networks "
                "as they were."
            )
    known = dict(parameters_of(net)).keys()
    frozen = (f"{_prefix(name)}{key}" for name, keys in net.frozen.items() for key in keys)
    for key in chain(config.list_of("without_gradients", str), frozen):
        if key not in known:
            raise ModelError(f"'{folder / CONFIG}' freezes '{key}', which is not a parameter; save the network again.")


def _prefix(part: str) -> str:
    return {"fusion": "fusion_layers.", "head": "head."}.get(part, f"networks.{part}.")


def cast(net: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Give parameters and buffers their saved type, in place, so that what is shared stays shared."""
    for key, one in chain(parameters_of(net), buffers_of(net)):
        if not is_lazy(one) and one.dtype != dtypes.get(key, one.dtype):
            one.data = one.data.to(dtypes[key])


def dtypes_of(config: Entry) -> dict[str, torch.dtype]:
    """Of buffers that are not in the weights."""
    named = config.pairs("not_in_weights", str)
    known = {dtype_name(one): one for one in vars(torch).values() if isinstance(one, torch.dtype)}
    return {key: known[name] for key, name in named.items() if name in known}


def dtype_name(dtype: torch.dtype) -> str:
    """As "float32"."""
    return str(dtype).removeprefix("torch.")


def shared_keys(state: Mapping[str, Any]) -> list[list[str]]:
    """The keys of each tensor."""
    found: dict[int, list[str]] = {}
    for key, value in state.items():
        found.setdefault(id(value), []).append(key)
    return list(found.values())


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def parameters_of(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """All by name, what is shared by each of its names."""
    return list(net.named_parameters(remove_duplicate=False))


def buffers_of(net: nn.Module) -> list[tuple[str, Tensor]]:
    """All by name, what is shared by each of its names."""
    return list(net.named_buffers(remove_duplicate=False))
