"""The command `msafusion summary`: its options, whose help is shown without importing torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msafusion.commands.parser import parse, verb_parser
from msafusion.commands.short_help import NETWORK_PLANS


def run_summary(arguments: Sequence[str]) -> None:
    """`msafusion summary NETWORK`: print what its parts cost on random inputs of its typical shapes, and write it.

    Raises:
        ValueError: an unknown network, a broken configuration, a device that is not there, too little memory.
    """
    parser = verb_parser("summary", "Parameters, FLOPs, memory and latency by part.")
    parser.add_argument("network", type=str, help=f"one of {NETWORK_PLANS}, or a YAML file of `msafusion train`")
    parser.add_argument("--batch_size", type=int, default=1, help="samples in the batch")
    parser.add_argument(
        "--device", type=str, default="auto", help="cpu, cuda or cuda:N (default: cuda if there is one)"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "bfloat16"], default="float32", help="bfloat16: by autocast"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed forward passes of each part; their median is reported"
    )
    parser.add_argument("--out", type=Path | None, default=None, help="JSON file (default: summary-<name>.json)")
    given = parse(parser, arguments)

    from msafusion.commands.measuring import measure_network  # torch: seconds

    measure_network(given)
