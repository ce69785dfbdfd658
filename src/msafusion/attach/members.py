"""One network's part in a fusion point, as the user writes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from msafusion.attach.arguments import check_type
from msafusion.streams import FusionError


@dataclass(frozen=True)
class Member:
    """One network's part in a point: the submodule, and the streams named by the user (none: all, named by rule)."""

    submodule: str
    selectors: dict[str, str | None]

    @classmethod
    def parse(cls, network: str, spec: str | Mapping[str, str]) -> "Member":
        """What `FusionPoint` takes for a network: a submodule's name or {stream: "submodule[key]"}.

        Raises:
            TypeError: it is neither.
            ValueError: it names no stream; FusionError where it names several submodules.
        """
        expected = 'a submodule\'s name or {stream: "submodule"}'
        check_type(f"network '{network}' of a FusionPoint", spec, (str, Mapping), expected)
        named = {network: spec} if isinstance(spec, str) else dict(spec)
        parts: dict[str, tuple[str, str | None]] = {}
        for stream, text in named.items():
            match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]+)\])?", text) if isinstance(text, str) else None
            if match is None:
                raise TypeError(
                    f"network '{network}' of a FusionPoint got {text!r}, expected a submodule's name such as 'layer3' "
                    "or 'layer3[0]'; see named_modules() of the network."
                )
            parts[stream] = match[1], match[2]
        submodules = sorted({submodule for submodule, _ in parts.values()})
        if len(submodules) > 1:
            raise FusionError(
                f"network '{network}' offers streams of the submodules {' and '.join(map(repr, submodules))} at one "
                "fusion point, expected one, where the network waits; fuse at a module that returns both streams."
            )
        if not submodules:
            raise ValueError(f"network '{network}' of a FusionPoint names no stream; give {{stream: 'submodule'}}.")
        by_rule = isinstance(spec, str) and next(iter(parts.values()))[1] is None
        return cls(submodules[0], {} if by_rule else {stream: selector for stream, (_, selector) in parts.items()})

    @property
    def spec(self) -> str | dict[str, str]:
        """What `parse` makes the same of."""
        if not self.selectors:
            return self.submodule
        return {
            stream: self.submodule if selector is None else f"{self.submodule}[{selector}]"
            for stream, selector in self.selectors.items()
        }
