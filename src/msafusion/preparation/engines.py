"""Where preparing runs: in this process, in processes of this machine (joblib's loky), or on a Ray cluster."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Literal, TypeVar

from msafusion.streams import nearest

Engine = Literal["joblib", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

DIED = (
    "a worker process died ({error}), perhaps for want of memory; run the same again with fewer workers: what is done "
    "is kept."
)


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
    if workers == 1:
        return (work(item) for item in items)
    return _in_processes(work, items, min(workers, len(items)))


def _in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    if not items:
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        # one thread each: workers that all use every core only wait for each other
        with parallel_config(backend="loky", n_jobs=workers, inner_max_num_threads=1):
            results: Any = Parallel(return_as="generator_unordered")(delayed(work)(item) for item in items)
            with closing(results):
                yield from results
    except BrokenProcessPool as error:
        raise ValueError(DIED.format(error=type(error).__name__)) from None


def _on_ray(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, address: str | None
) -> Generator[Result, None, None]:
    """A few tasks for each core are under way at any time, so that a long list does not fill the cluster's memory."""
    try:
        import ray
        from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError
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
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise ValueError(DIED.format(error=type(error).__name__)) from None
    finally:
        if ours:
            ray.shutdown()


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)
