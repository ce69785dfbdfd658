"""Where preparing runs: in this process, in processes of this machine (joblib's loky), or on a Ray cluster."""

import os
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import Literal, TypeVar

from msafusion.streams import nearest

Engine = Literal["joblib", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

DIED = (
    "a worker process died ({error}), possibly out of memory; run the same command again with fewer workers: what is "
    "done is kept."
)
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""Of each worker: workers that all use every core only wait for each other."""


def run_work(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, engine: str, ray_address: str | None
) -> Generator[Result, None, None]:
    """What `work` returns for each item, in the order in which they are done.

    Closing it stops the workers.

    Raises:
        ValueError: an unknown engine, an engine that is not there, a worker that died.
    """
    if engine == "ray":
        return _on_ray(work, items, workers, ray_address)
    if engine != "joblib":
        raise ValueError(f"unknown engine {engine!r}; {nearest(engine, ('joblib', 'ray'))}.")
    if ray_address is not None:
        raise ValueError("ray_address is of a Ray cluster, and the engine is joblib; add --engine ray.")
    if min(workers, len(items)) <= 1:
        return (work(item) for item in items)
    return in_processes(work, items, min(workers, len(items)))


def in_processes(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, *, ordered: bool = False
) -> Generator[Result, None, None]:
    """What `work` returns for each item, from processes of this machine; few are under way at any time.

    Closing it, and whatever ends it, kills the workers.

    Args:
        work: sent to the processes with each item.
        items: are asked for when there is room for them.
        workers: processes.
        ordered: results come in the order of the items, instead of in that in which they are done.

    Raises:
        ValueError: a worker died; it names what may have been its item.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, wait

    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    waiting: dict[Future[Result], Item] = {}  # in the order of the items
    # a pause of the queue is as long as the longest item, of which ordered results may wait for one
    most, left = 2 * workers + 1, iter(items)
    pool = ProcessPoolExecutor(workers, env=ONE_THREAD, initializer=_ignore_ctrl_c)
    try:
        while True:
            for item in islice(left, most - len(waiting)):
                waiting[pool.submit(work, item)] = item
            if not waiting:
                return
            first = next(iter(waiting))
            done = {first} if ordered else wait(waiting, return_when=FIRST_COMPLETED).done
            for future in done:
                yield future.result()
                del waiting[future]
    except BrokenProcessPool as error:
        if not ordered:  # what is done is not lost; ordered results end at the first that is not there
            yield from [future.result() for future in waiting if future.exception() is None]
        # a worker takes them in turn
        under_way = [_named(item) for future, item in waiting.items() if future.exception() is not None][:workers]
        suspects = f"{type(error).__name__}, at work on {' or '.join(under_way)}"
        raise ValueError(DIED.format(error=suspects)) from None
    finally:
        pool.shutdown(kill_workers=True)


def _ignore_ctrl_c() -> None:
    """In a worker: a terminal sends it to all processes, and the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _named(item: object) -> str:
    """What an item is called."""
    name = next((getattr(item, key) for key in ("name", "id") if getattr(item, key, None)), item)
    return f"'{name}'"


def _on_ray(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, address: str | None
) -> Generator[Result, None, None]:
    """A few tasks for each core are under way at any time, so that a long list does not fill the cluster's memory."""
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise ValueError("ray is not installed; run `pip install 'msafusion[ray]'`, or leave --engine out.") from None
    ours = not ray.is_initialized()
    if ours:
        address = address or os.environ.get("RAY_ADDRESS")
        cores = None if address else workers
        try:
            ray.init(address or "local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"no Ray cluster at {address or 'this machine'} ({' '.join(str(error).split())[:200]}); start it, or "
                "give its --ray_address."
            ) from None
    try:
        task, shared, waiting, left = ray.remote(_call), ray.put(work), [], iter(items)
        most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while True:
            for item in left:
                waiting.append(task.remote(shared, item))
                if len(waiting) >= most:
                    break
            if not waiting:
                return
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:  # a worker, a machine or its memory is gone
        raise ValueError(DIED.format(error=type(error).__name__)) from None
    finally:
        if ours:
            ray.shutdown()


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)
