"""Map a function over many clips in worker processes, in order, so that Ctrl-C leaves nothing half done."""

import signal
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context


class WorkerError(RuntimeError):
    """A worker process died instead of raising."""


def map_in_order(function, items, workers=1):
    """Yield function(item) for each item, in the order of `items`.

    workers: 1 runs here; more start that many fresh processes (spawn: torch, numba and LMDB do not survive fork), which
    need a picklable function. At most two results a worker wait in memory. When the caller stops early, or Ctrl-C
    comes, clips in work are finished, those waiting are dropped.
    """
    if workers <= 1:
        for item in items:
            yield function(item)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet_worker)
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was killed, most often for want of memory: use fewer --workers, then run again"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _quiet_worker():
    """Leave Ctrl-C to the main process, and one thread to each worker: more are slower when cores are shared."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
