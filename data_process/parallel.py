"""Map a function over many clips in worker processes, in order, so that Ctrl-C leaves nothing half done."""

import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process


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
    """Leave Ctrl-C to the main process, take one thread (more are slower on shared cores), and end when the parent ends."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    # a worker waits for work for ever; if the main process is killed outright nobody would tell it to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    parent_process().join()
    os._exit(1)
