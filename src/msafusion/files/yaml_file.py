"""YAML read in bounded time and memory: a few bytes of it can stand for gigabytes (aliases of aliases)."""

import os
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 4 * 2**20
MAX_VALUES = 100_000
"""With every alias counted as all that it stands for."""
MAX_DEPTH = 50
MAX_CHARACTERS = 100_000
"""Of one value: numbers take Python a time that grows with the square of their digits."""
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlTooLarge(ValueError):
    """A YAML text stands for more than options can be."""


def check_bounds(text: str) -> None:
    """Refuse YAML that is too large, too deep, or that aliases make so, or has a key twice; takes linear time.

    Raises:
        YamlTooLarge: it is.
        yaml.YAMLError: it is not YAML, or of a key that comes twice the last would count.
    """
    if len(text) > MAX_BYTES:
        raise YamlTooLarge(f"more than {MAX_BYTES} characters of YAML, expected options")
    sizes: list[int] = [0]
    """Values so far in each open collection, the document first."""
    anchors: list[str | None] = [None]
    known: dict[str, int] = {}
    keys: list[set[str] | None] = [None]
    """Of each open collection, if it is a mapping."""
    parts: list[int] = [0]
    """Of each open collection, keys and values."""
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop()
            parts.pop()
        elif isinstance(event, yaml.NodeEvent):
            if (of_mapping := keys[-1]) is not None and not parts[-1] % 2 and isinstance(event, yaml.ScalarEvent):
                if event.value in of_mapping:
                    raise yaml.YAMLError(f"line {event.start_mark.line + 1} has the key {event.value[:80]!r} again")
                of_mapping.add(event.value)
            parts[-1] += 1
            if isinstance(event, yaml.CollectionStartEvent):
                keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                parts.append(0)
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = sizes.pop() + 1, anchors.pop()
        elif isinstance(event, yaml.CollectionStartEvent):
            sizes.append(0)
            anchors.append(event.anchor)
            if event.anchor is not None:
                known.pop(event.anchor, None)  # an alias inside its own anchor would never end
            if len(sizes) > MAX_DEPTH:
                raise YamlTooLarge(f"YAML nested more than {MAX_DEPTH} deep, expected options")
            continue
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                raise YamlTooLarge(f"the YAML alias *{event.anchor} stands for itself or for nothing, expected a value")
            size, anchor = known[event.anchor], None
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_CHARACTERS:
                raise YamlTooLarge(f"a YAML value of {len(event.value)} characters, expected an option")
            if not event.style and event.implicit[0] and len(event.value) > 1000 and event.value[0] in "+-.0123456789":
                raise YamlTooLarge(f"a YAML number of {len(event.value)} digits, expected an option")
            size, anchor = 1, event.anchor
        else:
            continue
        sizes[-1] += size
        if sizes[-1] > MAX_VALUES:
            raise YamlTooLarge(f"YAML of more than {MAX_VALUES} values (aliases counted in full), expected options")
        if anchor is not None:
            known[anchor] = size


def read_yaml(file: str | Path) -> Any:
    """The plain values in a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not YAML, or stands for more than options can be; the message names the file.
    """
    with Path(file).open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    try:
        text = content.decode("utf-8-sig")
        check_bounds(text)
        return yaml.load(text, Loader=Loader)
    except YamlTooLarge as error:
        raise ValueError(f"'{os.fspath(file)}' is refused: {error}; correct the file.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"'{os.fspath(file)}' is not YAML ({why}); correct the file.") from None
