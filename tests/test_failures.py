"""The boundary around work on one item, and the command's own last line."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msafusion.data.preparation.engines import in_processes, run_work
from msafusion.failures import DataError, Failure, TraceLog, attempt
from msafusion.text import printable


class Panic(BaseException):
    """As Rust's libraries raise it."""


def nested(depth=0):
    return nested(depth + 1)


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "line", "traced"),
    [
        (raising(DataError("'x.wav' is broken; get it again.")), "'x.wav' is broken; get it again.", False),
        (raising(FileNotFoundError(2, "No such file", "x.wav")), "'x.wav': No such file; check it.", False),
        (raising(MemoryError()), "'x.wav': not enough memory; .*", False),
        (
            nested,
            r"'x\.wav': unexpected RecursionError in test_failures\.py, line \d+ \(.*\); please report it\.",
            True,
        ),
        (lambda: b"\xff".decode(), "'x.wav': unexpected UnicodeDecodeError in .*", True),
        (lambda: {}["key"], r"'x\.wav': unexpected KeyError in .* \('key'\).*", True),
        (lambda: int("1" * 5000), "'x.wav': unexpected ValueError in .* limit .*", True),
        (raising(Panic("index out of bounds")), "'x.wav': unexpected Panic in .* .index out of bounds.*", True),
    ],
)
def test_whatever_an_item_raises_is_one_line_that_names_its_file(work, line, traced):
    failure = attempt(work, [Path("x.wav")])
    assert isinstance(failure, Failure)
    assert re.fullmatch(line, failure.line)
    assert bool(failure.trace) == traced


@pytest.mark.parametrize("name", ["a\nb.wav", "a\x1b[2Jb.wav", "a  b.wav", "a\u2028b.wav", "\udcff.wav"])
@pytest.mark.parametrize("of", ["'{}' is broken;\n  get it again.", "of something else"])
def test_names_that_would_break_the_line_are_escaped(name, of):
    for file in (Path("of") / name, f"of/{name}#key"):
        failure = attempt(raising(DataError(of.format(file))), [file])
        assert isinstance(failure, Failure)
        assert len(failure.line.splitlines()) == 1
        assert "\x1b" not in failure.line
        assert failure.line.startswith(f"'of/{printable(name)}")
        assert failure.line.count("b.wav") <= 1
        assert failure.line.endswith(" get it again." if "again" in of else ": of something else")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_interrupts_pass(error):
    with pytest.raises(type(error)):
        attempt(raising(error))


def test_tracebacks_are_kept_where_the_line_says(tmp_path):
    log = TraceLog(tmp_path / "errors.log")
    failure = attempt(lambda: {}["key"])
    assert isinstance(failure, Failure)
    assert log.line(Failure("a user's mistake")) == "a user's mistake"
    assert not (tmp_path / "errors.log").exists()
    assert log.line(failure).endswith(f"The traceback is in '{tmp_path / 'errors.log'}'.")
    assert "KeyError: 'key'" in (tmp_path / "errors.log").read_text()


def killed_at_3(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_dead_worker_is_one_line_that_names_what_it_may_have_been_at():
    with pytest.raises(ValueError, match=r"a worker process died .*at work on .*'3'.*fewer workers"):
        list(in_processes(killed_at_3, range(8), 2, ordered=True))


@pytest.mark.parametrize("module", ["msafusion", "msafusion.cli"])
def test_the_module_is_the_command(module):
    done = subprocess.run([sys.executable, "-m", module, "x"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "unknown command 'x'" in done.stderr


WORK = """
import os, sys, time
from pathlib import Path
from msafusion import cli
from msafusion.data.preparation.engines import in_processes

def slow(number):
    Path(FOLDER, str(os.getpid())).touch()
    time.sleep(3600)

def verb(arguments):
    list(in_processes(slow, [1, 2], 2))

def broken(arguments):
    {}["key"]

cli._run = lambda name, arguments: {"prepare": verb, "plot": broken}[name](arguments)
"""


def is_running(process_id):
    """Not ended: what nobody has waited for yet has ended, too."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", process_id], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.slow
def test_sigterm_ends_the_workers_too_with_one_line(tmp_path):
    code = WORK.replace("FOLDER", repr(str(tmp_path))) + "sys.argv = ['msafusion', 'prepare']\ncli.main()"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 180
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, err = process.communicate(timeout=60)  # the workers would sleep on for an hour
        assert process.returncode == 128 + signal.SIGTERM
        assert re.fullmatch(r"msafusion: terminated; .*\n", err)
        assert not [worker.name for worker in tmp_path.iterdir() if is_running(worker.name)]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_an_unexpected_error_ends_a_command_in_one_line():
    code = WORK + "sys.argv = ['msafusion', 'plot']\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    found = re.fullmatch(r"msafusion: error: unexpected KeyError .* The traceback is in '(.*)'\.\n", done.stderr)
    assert found
    log = Path(found[1])
    assert "KeyError: 'key'" in log.read_text()
    log.unlink()


def test_workers_who_find_no_work_left_are_none():
    assert list(run_work(str, [], workers=1_000_000, engine="joblib", ray_address=None)) == []
