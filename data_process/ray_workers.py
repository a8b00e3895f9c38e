"""Map a function over many clips on the machines of a Ray cluster, in order: `parallel.map_in_order` for many machines.

    ray start --head --port 6379                                   on the first machine
    ray start --address first:6379                                 on each of the others
    python -m data_process.build_lmdb --ray first:6379 --clips ... --output ...

The results travel to this process, which alone writes: one store, one journal, one order of the clips however many machines
there are, and a run that was stopped goes on as ever, on a cluster of another size or on none. A clip of 10 s is 1 to 3 MB of
records against seconds of work, so one writer keeps up with some hundred cores. Shards written apart, by clusters without Ray, are
joined by `merge_lmdb`.
"""

import functools
import hashlib
from collections import deque
from pathlib import Path

from data_process.parallel import DEATHS, WorkerError

PACKAGES = ("data_process", "deep_3drecon", "deepspeech")
LOST_MACHINES = 10  # with one clip on them, after which the cluster is called broken
INSTALL = "pip install ray==2.60.0"


def map_on_cluster(function, items, address, on_death=None):
    """Yield function(item) for each item, in order, computed on the cluster at `address` ("host:port", or "auto").

    At most two results a core are begun and not yet yielded. on_death(item, reason): what is yielded for an item whose worker
    process was killed DEATHS times. A machine that is lost is no fault of the item: it is given to another.
    """
    ray = _connect(address)
    try:
        yield from _in_order(ray, function, items, on_death)
    finally:
        ray.shutdown()


def _connect(address):
    try:
        import ray
    except ImportError as error:
        raise WorkerError(f"--ray needs Ray, which is not installed here: {INSTALL}, on every machine") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WorkerError(
            f"--ray {address}: no cluster there ({reason}): begin one with ray start --head --port 6379, join other machines "
            "with ray start --address HOST:6379, and give HOST:6379"
        ) from error
    return ray


def _in_order(ray, function, items, on_death):
    # Ray would repeat tasks itself, but not tell how many workers an item has cost
    work = ray.remote(num_cpus=1, max_retries=0)(_work)
    shared = ray.put((function, code_fingerprint()))
    items, pending, more = iter(items), deque(), True
    while more or pending:
        while more and len(pending) < 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
            try:
                item = next(items)
            except StopIteration:
                more = False
                break
            pending.append((item, work.remote(shared, item)))
        if pending:
            item, answer = pending.popleft()
            yield _result(ray, work, shared, item, answer, on_death)


def _result(ray, work, shared, item, answer, on_death):
    """The result of an item, begun anew where a worker or a machine was lost."""
    deaths = losses = 0
    while True:
        try:
            return ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from error
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            deaths += 1
            if deaths == DEATHS:
                reason = f"its worker process was killed {DEATHS} times"
                if on_death is None:
                    raise WorkerError(f"{item}: {reason}") from error
                return on_death(item, reason)
        except ray.exceptions.RayError as error:  # the machine, or the result on it, is gone
            losses += 1
            if losses == LOST_MACHINES:
                raise WorkerError(
                    f"{item}: lost {losses} times with its machine ({error}): is the cluster whole?"
                ) from error
        answer = work.remote(shared, item)


def _work(shared, item):
    """One item on a machine of the cluster, with one thread: Ray counts cores."""
    import ray
    import torch

    function, fingerprint = shared
    if code_fingerprint() != fingerprint:
        raise WorkerError(
            f"{ray.util.get_node_ip_address()}: its {', '.join(PACKAGES)} differ from those of the machine that asks: give all of "
            "them the same version of the program"
        )
    torch.set_num_threads(1)
    return function(item)


@functools.cache
def code_fingerprint():
    """Hash of the source of the packages that make records: other code might make other records."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).glob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]
