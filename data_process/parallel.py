"""Map a function over many clips in worker processes, in order; a worker that is killed costs nothing but time."""

import os
import signal
import sys
import threading
from collections import deque
from multiprocessing import connection, get_context, parent_process

DEATHS = 2  # of a worker with the same item in hand, after which the item is given up
DEATHS_IN_A_ROW = 6  # with no result between: then it is the machine, not the items


class WorkerError(RuntimeError):
    """A worker process died instead of raising."""


def map_in_order(function, items, workers=1, on_death=None):
    """Yield function(item) for each item, in the order of `items`.

    workers: 1 runs here; more start that many fresh processes (spawn: torch, numba and LMDB do not survive fork), which
    need a picklable function. At most two results a worker wait in memory. When the caller stops early, or Ctrl-C
    comes, clips in work are finished, those waiting are dropped.
    on_death(item, reason): what is yielded for an item whose worker was killed DEATHS times; without it that is a
    WorkerError. An item whose worker was killed once is given to another worker.
    """
    if workers <= 1:
        for item in items:
            yield function(item)
        return
    crew = _Crew(function, workers)
    try:
        yield from _in_order(crew, items, on_death, 2 * workers)
    finally:
        crew.close()


def _in_order(crew, items, on_death, ahead):
    """Yield the results of the crew in order, with at most `ahead` items begun and not yet yielded."""
    items, given, results, deaths, in_a_row = iter(items), {}, {}, {}, 0
    waiting, begun, yielded, more = deque(), 0, 0, True
    while more or begun > yielded:
        while more and begun < yielded + ahead:
            try:
                given[begun] = next(items)
            except StopIteration:
                more = False
                break
            waiting.append(begun)
            begun += 1
        while waiting and crew.has_room():
            index = waiting.popleft()
            crew.start(index, given[index])
        while yielded in results:
            del given[yielded]
            result = results.pop(yielded)
            yielded += 1
            yield result()
        if crew.busy:
            for index, result in crew.wait():
                if result is not None:
                    results[index], in_a_row = result, 0
                    continue
                deaths[index], in_a_row = deaths.get(index, 0) + 1, in_a_row + 1
                if deaths[index] < DEATHS:
                    waiting.appendleft(index)
                elif on_death is None or in_a_row >= DEATHS_IN_A_ROW:
                    raise WorkerError(
                        f"worker processes were killed {in_a_row} times in a row, last at {given[index]}, most often for "
                        "want of memory: use fewer --workers, then run again"
                    )
                else:
                    results[index] = _Given(on_death(given[index], f"its worker process was killed {DEATHS} times"))


class _Given:
    """A result that is there already, called for like the others."""

    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


class _Raised(_Given):
    """An error of the function, raised when its turn comes."""

    def __call__(self):
        raise self.value


class _Crew:
    """Worker processes with one item each. A pool that hands out items itself would not say which one a death cost."""

    def __init__(self, function, size):
        self._context, self._function, self._size = get_context("spawn"), function, size
        self._idle, self.busy = [], {}  # [(process, pipe)], {pipe: (process, index)}

    def has_room(self):
        return len(self.busy) < self._size

    def start(self, index, item):
        """Give an item to an idle worker, to a new one if there is none."""
        while self._idle:
            process, pipe = self._idle.pop()
            if self._give(process, pipe, index, item):
                return
        pipe, far_end = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self._function, far_end), daemon=True)
        process.start()
        far_end.close()  # so that the pipe ends when the worker does
        if not self._give(process, pipe, index, item):
            self.busy[pipe] = process, index  # dead before it could take anything: `wait` will see it

    def _give(self, process, pipe, index, item):
        try:
            pipe.send(item)
        except OSError:
            return False
        self.busy[pipe] = process, index
        return True

    def wait(self):
        """[(index, result to be called for, or None where the worker died)] of whoever is done first."""
        done = []
        for pipe in connection.wait(list(self.busy)):
            process, index = self.busy.pop(pipe)
            try:
                raised, value = pipe.recv()
            except (EOFError, OSError):
                process.join()
                pipe.close()
                done.append((index, None))
            else:
                self._idle.append((process, pipe))
                done.append((index, (_Raised if raised else _Given)(value)))
        return done

    def close(self):
        """Let the workers finish what they have in hand."""
        while self.busy:
            self.wait()
        for process, pipe in self._idle:
            pipe.close()
            process.join()


def _work(function, pipe):
    """What a worker does until its pipe is closed. It takes one thread: more are slower on shared cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:  # came with the function, before the line above
        sys.modules["torch"].set_num_threads(1)
    # if the main process is killed outright nobody tells a worker in the middle of a clip to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            answer = False, function(item)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the main process
            answer = True, error
        pipe.send(answer)


def _end_with_parent():
    parent_process().join()
    os._exit(1)
