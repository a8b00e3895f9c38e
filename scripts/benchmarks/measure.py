"""Times and memory of one stage, in a process of its own.

    python -m scripts.benchmarks.measure rasterize_open_256 --folder /tmp/material --threads 1

prints one line of JSON. `scripts.benchmark` runs this once for each stage.

Time: after a warm-up, measured work, reference and yardstick take turns (the first two swap places every round), so that
other work on the machine meets all of them alike. A ratio is the median over rounds of the ratio within one round.

Memory: `peak_mb` is how far the resident memory rose, during the first call of the measured work, above what it was when
inputs, code and networks were ready. `process_mb` is that highest point itself: what the whole process took, Python
and libraries included. Both are the kernel's own high-water mark (VmHWM), reset before the call; Linux only.
"""

import argparse
import ctypes
import gc
import importlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.benchmarks.case import Missing
from scripts.benchmarks.table import STAGES

WARM_UP_S, MOST_WARM_UPS = 0.3, 5
FEWEST_ROUNDS = 3
# Work and yardstick must last about equally long, and not too short: else one of them slips through between the turns of
# other programs on a busy machine and the other does not. Long work gets a yardstick of a tenth of its time on either side.
SHORTEST_S = 0.02
HALF_UP_TO_S, YARD_SHARE = 0.2, 0.1


def prepare(stage, folder):
    """The Case of a stage."""
    module, function = stage.prepare.split(":")
    return getattr(importlib.import_module(f"scripts.benchmarks.{module}"), function)(Path(folder))


def yardstick():
    """Fixed work of some milliseconds: matrix products, a pass over memory, interpreted Python. Never change it."""
    a = np.linspace(0, 1, 128 * 128, dtype=np.float32).reshape(128, 128)
    for _ in range(20):
        a = np.tanh(a @ a.T / 128)
    moved = np.arange(500_000, dtype=np.float32)[::-1].copy()
    return float(a.sum() + moved[::1000].sum() + sum(k * k % 7 for k in range(20_000)))


def clock(work):
    """Seconds of one call, what it left to do on a GPU included."""
    import torch

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def resident_mb():
    """(now, highest since `forget_peak`) resident memory of this process in MB (10^6 bytes)."""
    text = Path("/proc/self/status").read_text()
    values = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    return tuple(int(values[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))


def forget_peak():
    """Give free memory back to the system, so that the work cannot hide in it, and reset the high-water mark."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory(work):
    """{"peak_mb", "process_mb"} of the first call of the work; empty where the system does not tell."""
    try:
        forget_peak()
        before, _ = resident_mb()
    except OSError:
        work()
        return {}
    work()
    highest = resident_mb()[1]
    return {"peak_mb": max(0.0, highest - before), "process_mb": highest}


def yard(n):
    """Seconds of one yardstick, the mean of n."""
    return clock(lambda: [yardstick() for _ in range(n)]) / n


def take_turns(case, repeats, seconds, n_yards=1):
    """Times in seconds a unit of (measured, reference) and of the yardstick, (R,) each.

    R is `repeats`, or fewer, but at least FEWEST_ROUNDS, where they would last longer than `seconds`. n_yards: calls of
    the yardstick before each round and after it.
    """
    rounds, begun = [], time.perf_counter()
    for k in range(repeats):
        if k >= FEWEST_ROUNDS and time.perf_counter() - begun > seconds:
            break
        before = yard(n_yards)
        if k % 2:
            reference, measured = clock(case.reference), clock(case.run)
        else:
            measured, reference = clock(case.run), clock(case.reference)
        rounds.append((measured / case.n, reference / case.n_reference, (before + yard(n_yards)) / 2))
    return np.array(rounds).T


def longer(case, took):
    """A case whose measured work, of `took` seconds, is repeated until it lasts SHORTEST_S; and its new duration."""
    times = max(1, math.ceil(SHORTEST_S / took))

    def run():
        for _ in range(times):
            case.run()

    return replace(case, run=run, n=case.n * times, seconds=case.seconds * times), took * times


def figures(case, times, stage):
    """{name: number} of a stage from its times (3, R)."""
    measured, reference, yards = times
    out = {
        "p50_ms": 1e3 * np.median(measured),
        "p95_ms": 1e3 * np.percentile(measured, 95),
        "min_ms": 1e3 * measured.min(),
        "reference_p50_ms": 1e3 * np.median(reference),
        "ratio_to_reference": np.median(reference / measured),
        "normalised": np.median(measured / (yards if stage.shared else reference)),
        "yardstick_ms": 1e3 * np.median(yards),
        "repeats": len(measured),
    }
    if stage.unit == "frame":
        out["fps"] = 1 / np.median(measured)
    if case.seconds:
        out["x_real_time"] = case.seconds / (case.n * np.median(measured))
    return out


def measure(stage, folder, repeats=20, seconds=12.0):
    """All figures of a stage as {name: float}, without the stage's name; raises Missing."""
    return measure_case(prepare(stage, folder), stage, repeats, seconds)


def measure_case(case, stage, repeats, seconds):
    """The same for a Case. repeats: rounds, as far as they fit into `seconds`. Times are for one unit of the stage."""
    begun = time.perf_counter()
    out = peak_memory(case.run)
    took = time.perf_counter() - begun
    case.reference()
    for _ in range(MOST_WARM_UPS):
        if time.perf_counter() - begun > WARM_UP_S:
            break
        took = clock(case.run)
        case.reference()
    case, took = longer(case, took)
    n_yards = max(1, round(max(min(took, HALF_UP_TO_S) / 2, YARD_SHARE * took) / yard(3)))
    gc.collect()
    case.times.clear()  # of the warm-up
    out |= figures(case, take_turns(case, repeats, seconds, n_yards), stage)
    out |= {name: 1e3 * float(np.median(values)) for name, values in case.times.items()}
    return {name: float(f"{value:.6g}") for name, value in out.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmarks.measure", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--folder", required=True, help="folder for material that stages share")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args(argv)
    import torch  # here, so that the table can be read without it

    torch.set_num_threads(args.threads)
    try:
        result = measure(STAGES[args.stage], args.folder, args.repeats, args.seconds)
    except Missing as reason:
        result = {"skipped": str(reason)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
