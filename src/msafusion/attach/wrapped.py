"""Wrappers around a network: torch.compile, DDP, FSDP, peft and others that hand on whatever they get."""

import inspect

from torch import nn

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")
"""Names under which torch.compile, FSDP, checkpoint_wrapper and DDP keep the module that they wrap."""
_ANYTHING = [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def parameters_of_forward(network: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of a network's forward, or of the module inside where it is `forward(*args, **kwargs)`.

    Empty where they cannot be read (TorchScript).
    """
    try:
        parameters = dict(inspect.signature(network.forward).parameters)
    except ValueError:
        return {}
    children = list(network.children())
    if [parameter.kind for parameter in parameters.values()] == _ANYTHING and len(children) == 1:
        return parameters_of_forward(children[0])
    return parameters


def unwrap_key(key: str) -> str:
    """A submodule's name without the wrappers in it."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)
