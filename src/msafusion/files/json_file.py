"""Writing JSON: the one place, so that every file is whole, in UTF-8, and JSON (which has no NaN)."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_text(content: Any, indent: int | None = 2) -> str:
    """Plain values as JSON; what is not defined (NaN, infinity) is null."""
    return json.dumps(plain(content), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(file: Path, content: Any) -> None:
    """Write `json_text` at once: an interruption leaves the old file or the new one, never half of one."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")  # of this process, so that none writes into another's
    # what is not UTF-8 in a file's name comes as a lone surrogate, whose backslash form is JSON's own
    scratch.write_text(json_text(content) + "\n", encoding="utf-8", errors="backslashreplace", newline="")
    scratch.replace(file)


def plain(content: Any) -> Any:
    """Containers and values as JSON has them: what is not defined is None."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: plain(value) for key, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, list | tuple) else content
