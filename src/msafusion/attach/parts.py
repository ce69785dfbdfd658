"""The parts of a fused network: its networks, "fusion" and "head"; what trains of them, and what they are."""

from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from msafusion.attach.hooks import PointHooks
from msafusion.attach.inputs import InputRule
from msafusion.attach.methods import Made
from msafusion.attach.status import FusionStatus, status_of
from msafusion.streams import nearest


class Parts(nn.Module):
    """Base of the fused network: its modules, and which of them train."""

    hooks: PointHooks
    input_rules: dict[str, InputRule]

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.fusion_layers, self.readings = nn.ModuleList(), nn.ModuleList()
        self.head: nn.Module = nn.Identity()
        self.head_made: Made | None = None
        """How the head was made, where it is one of HEADS."""
        self.orders: dict[str, list[int]] = {}
        """Network -> the points in the order in which it reached them in the dry run."""
        self.frozen: dict[str, list[str]] = {}
        """Frozen part -> its parameters that trained before."""

    def freeze(self, *names: str) -> Self:
        """Stop training networks (or "fusion", "head"): no gradients, and eval mode whatever `train()` says."""
        for name in names:
            part = self.part(name)
            parameters = [key for key, parameter in part.named_parameters() if parameter.requires_grad]
            self.frozen[name] = [*self.frozen.get(name, []), *parameters]
            part.requires_grad_(False).eval()
        return self

    def unfreeze(self, *names: str) -> Self:
        """Undo `freeze` for parts, or for all of them: exactly the parameters that it froze train again."""
        for name in names or tuple(self.frozen):
            part, keys = self.part(name), set(self.frozen.pop(name, []))
            for key, parameter in part.named_parameters():
                parameter.requires_grad_(parameter.requires_grad or key in keys)
            part.train(self.training)
        return self

    def train(self, mode: bool = True) -> Self:
        """Train or eval mode for all parts but the frozen ones, which stay in eval mode."""
        super().train(mode)
        for name in self.frozen:
            self.part(name).eval()
        return self

    def parameter_groups(self, rates: Mapping[str, float], default: float) -> list[dict[str, Any]]:
        """Groups for an optimizer, one for each part that trains, with learning rates by part.

        Args:
            rates: learning rate of a network's name, "fusion" or "head".
            default: learning rate of the parts not named.

        Raises:
            ValueError: `rates` names an unknown part.
        """
        for name in rates:
            self.part(name)
        groups, seen = [], set()
        for name in (*self.networks, "fusion", "head"):
            parameters = [p for p in self.part(name).parameters() if p.requires_grad and id(p) not in seen]
            seen.update(map(id, parameters))
            if parameters:
                groups.append({"params": parameters, "lr": rates.get(name, default), "name": name})
        return groups

    def print_trainable_parameters(self) -> None:
        """Print how many parameters train, as peft does.

        Examples:
            >>> import torch
            >>> from msafusion import fuse
            >>> net = fuse({"audio": torch.nn.Linear(4, 2), "video": torch.nn.Linear(8, 2)})
            >>> net.freeze("video").print_trainable_parameters()
            trainable params: 10 || all params: 28 || trainable%: 35.7143
        """
        trainable, every = self.fusion_status().counts
        percent = 100 * trainable / max(every, 1)
        print(f"trainable params: {trainable:,} || all params: {every:,} || trainable%: {percent:.4f}")

    def fusion_status(self) -> FusionStatus:
        """What is fused where, with the streams' shapes, and the parameters of each part and whether it is frozen.

        Examples:
            >>> import torch
            >>> from msafusion import FusionPoint, fuse
            >>> from msafusion.backbones import CNN1d
            >>> point = FusionPoint({"audio": "stage2"})
            >>> net = fuse({"audio": CNN1d(1, 4)}, at=point, example={"audio": torch.randn(8, 1, 100)})
            >>> net.fusion_status().points[0].streams["audio"].shape  # in the example
            (8, 64, 25)
        """
        return status_of(self.parts, self.frozen, self.head_made, self.fusion_layers, self.readings, self.hooks.points)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by name, "fusion" (the fusion layers) and "head"."""
        return {**dict(self.networks.items()), "fusion": self.fusion_layers, "head": self.head}

    def part(self, name: str) -> nn.Module:
        """The part of a name.

        Raises:
            ValueError: no part has that name.
        """
        parts = self.parts
        if name not in parts:
            raise ValueError(f"unknown part '{name}' of the fused network; {nearest(name, parts)}")
        return parts[name]
