"""Speed and memory of every stage, each beside a named reference in the same run, as a Markdown table and as JSON.

    python -m scripts.benchmark                                  five to ten minutes
    python -m scripts.benchmark --quick --only 'rasterize*'      seconds
    python -m scripts.benchmark --json new.json --baseline old.json

Works on committed files alone: data/demo, the released checkpoint, the open head. Every stage runs in a process of its
own. Names in the JSON: <stage>.<figure> and machine.<fact>; stages are listed in scripts/benchmarks/table.py, figures
below, how they are measured in scripts/benchmarks/measure.py. A stage that cannot run here has <stage>.skipped with the
reason, one that broke has <stage>.failed, and the exit status is 1.

    p50_ms, p95_ms, min_ms   time of one unit (frame, file, clip, window: <stage>.unit), ms
    reference_p50_ms         time of one unit of the reference, whose name is <stage>.reference
    ratio_to_reference       how many times as fast as the reference: median over rounds of reference time / own time
    first_p50_ms             chains: from the start of the work to the first picture in the file
    gap_p50_ms, gap_p95_ms   chains: from one picture in the file to the next, median over rounds
    delay_p50_ms, delay_p95_ms  streams: from a frame's own time in the sound to its picture, were the sound spoken now
    cpu_p50_ms               chains: time of all cores for one frame; two idle cores give 2000 / cpu_p50_ms frames a second at most
    fps, x_real_time         frames a second; seconds of sound or video done in a second
    peak_mb, process_mb      MB that the work takes beyond its inputs, code and networks; MB of the whole process
    normalised               own time / time of a fixed measure on the same loaded machine, which --baseline compares: the
                             reference, or the yardstick where the reference shares the stage's code. A stage that seems
                             slower is measured a second time, and the better of the two counts
    yardstick_ms, repeats    time of the fixed yardstick; rounds measured
"""

import argparse
import fnmatch
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from deep_3drecon.assets import REPOSITORY
from scripts.benchmarks.table import STAGES

FULL, QUICK = (20, 12.0), (3, 1.0)  # rounds of a stage, and seconds after which it stops at fewer
LONGEST_S = 900  # for one stage
COLUMNS = ("stage", "work", "p50 ms", "p95 ms", "per s", "x real time", "times as fast as", "reference", "peak MB")


class BenchmarkError(ValueError):
    """A wish that cannot be met: an unknown stage, a baseline that cannot be read."""


def choose(patterns):
    """Names of the stages that match any of the patterns, in the order of the table; None chooses all."""
    chosen = [name for name in STAGES if any(fnmatch.fnmatchcase(name, p) for p in patterns or ["*"])]
    for pattern in patterns or []:
        if not fnmatch.filter(STAGES, pattern):
            raise BenchmarkError(f"--only {pattern}: no stage has such a name; there are {', '.join(STAGES)}")
    return chosen


def machine_facts(threads, quick):
    """{"machine.<fact>": value}: what the figures were measured on."""
    import torch

    from models.checkpoint import git_commit

    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    facts = {
        "cpu": cpu_name(),
        "cores": len(cores),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0,
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "quick": quick,
        "git_commit": git_commit(),
    }
    return {f"machine.{name}": value for name, value in facts.items()}


def cpu_name():
    """The processor as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run_stage(name, folder, repeats, seconds, threads):
    """One stage in a process of its own -> {figure: value}, {"skipped": reason} or {"failed": reason}."""
    command = [sys.executable, "-m", "scripts.benchmarks.measure", name, "--folder", str(folder)]
    command += ["--repeats", str(repeats), "--seconds", str(seconds), "--threads", str(threads)]
    limits = {key: str(threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | limits, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {LONGEST_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def run_all(names, repeats, seconds, threads):
    """Flat {"<stage>.<figure>": value} of the stages."""
    out = {}
    with tempfile.TemporaryDirectory(prefix="idiolect_benchmark_") as folder:
        bar = tqdm(names, unit="stage", disable=None)
        for name in bar:
            bar.set_description(name)
            result = run_stage(name, folder, repeats, seconds, threads)
            about = {} if {"skipped", "failed"} & set(result) else {"unit": STAGES[name].unit}
            result |= about and about | {"reference": STAGES[name].reference}
            out |= {f"{name}.{figure}": value for figure, value in result.items()}
    return out


def number(value):
    """Three figures at most, for people."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def table(figures):
    """The figures as a Markdown table, reasons for what is missing, and the machine."""
    rows, notes = [], []
    for name, stage in STAGES.items():
        got = {figure: figures.get(f"{name}.{figure}") for figure in ("skipped", "failed", "p50_ms")}
        if got["p50_ms"] is None:
            notes += [f"{name} {state}: {got[state]}" for state in ("skipped", "failed") if got[state] is not None]
            continue
        keys = ("p50_ms", "p95_ms", "fps", "x_real_time", "ratio_to_reference", "peak_mb")
        p50, p95, fps, real, ratio, peak = (number(figures.get(f"{name}.{key}")) for key in keys)
        per_s = fps or number(1e3 / got["p50_ms"])
        rows.append((name, f"{stage.what}, a {stage.unit}", p50, p95, per_s, real, ratio, stage.reference, peak))
    lines = [COLUMNS, ["---" if k in (0, 1, 7) else "---:" for k in range(len(COLUMNS))], *rows]
    machine = "; ".join(f"{key.split('.')[1]} {value}" for key, value in figures.items() if key.startswith("machine."))
    yards = [value for key, value in figures.items() if key.endswith(".yardstick_ms")]
    if yards:
        machine += f"; yardstick {min(yards):.3g} to {max(yards):.3g} ms (the wider, the busier the machine was)"
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *notes, f"Machine: {machine}"])


def read_baseline(path):
    """Figures of an older run."""
    try:
        figures = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"--baseline {path}: cannot be read ({error}): give a file written by --json") from error
    if not isinstance(figures, dict) or not any(key.endswith(".normalised") for key in figures):
        raise BenchmarkError(f"--baseline {path}: holds no figures of this benchmark: give a file written by --json")
    return figures


def better(first, second, names):
    """Figures of those of the stages that were quicker, normalised, in the second of two runs."""
    quicker = [n for n in names if second.get(f"{n}.normalised", float("inf")) < first[f"{n}.normalised"]]
    return {key: value for key, value in second.items() if key.split(".")[0] in quicker}


def compare(new, old, tolerance):
    """Lines of text, and the names of the stages that take more than `tolerance` times as long as before, normalised."""
    lines, slower = ["", f"| stage | new / old, normalised | new / old, ms | slower than {tolerance:g} |"], []
    lines.append("|---|---:|---:|---|")
    for name in STAGES:
        values = [[figures.get(f"{name}.{key}") for key in ("normalised", "p50_ms")] for figures in (new, old)]
        if None in values[0] or None in values[1]:
            continue
        ratio, plain = (a / b for a, b in zip(*values, strict=True))
        slower += [name] if ratio > tolerance else []
        lines.append(f"| {name} | {ratio:.2f} | {plain:.2f} | {'YES' if ratio > tolerance else ''} |")
    gone = [name for name in STAGES if f"{name}.p50_ms" in new and f"{name}.p50_ms" not in old]
    if gone:
        lines += ["", f"not in the baseline: {', '.join(gone)}"]
    for fact in ("cpu", "threads", "quick", "torch"):
        before, now = old.get(f"machine.{fact}"), new.get(f"machine.{fact}")
        if before != now:
            lines += ["", f"note: the baseline was measured with {fact} {before}, this run with {now}"]
    return lines, slower


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="stages to run, such as 'rasterize*' chain_256")
    parser.add_argument("--quick", action="store_true", help="3 rounds of each stage: enough to see that it works")
    parser.add_argument(
        "--repeats", type=int, help="rounds of each stage, 1 to 1000 (default 20, or what fits into 12 s)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch and BLAS (default 1: steady on shared machines)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as one flat JSON object")
    parser.add_argument("--baseline", type=Path, metavar="OLD", help="JSON of an older run to compare with")
    parser.add_argument("--tolerance", type=float, default=1.5, help="times as long as the baseline that is too long")
    parser.add_argument("--list", action="store_true", help="print the names of the stages and stop")
    args = parser.parse_args(argv)
    if args.repeats is not None and not 1 <= args.repeats <= 1000 or args.threads < 1 or not args.tolerance > 0:
        parser.error("--repeats 1 to 1000, --threads from 1 and --tolerance above 0 are needed")
    return args


def main(argv=None):
    """Exit status: 0 all well, 1 a stage failed or is slower than the tolerance, 2 the command cannot be carried out."""
    args = parse(argv)
    try:
        names = choose(args.only)
        old = read_baseline(args.baseline) if args.baseline else None
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(names))
        return 0
    repeats, seconds = QUICK if args.quick else FULL
    if args.repeats:
        repeats, seconds = args.repeats, float("inf")
    figures = machine_facts(args.threads, args.quick) | run_all(names, repeats, seconds, args.threads)
    if old and (doubted := compare(figures, old, args.tolerance)[1]):
        figures |= better(figures, run_all(doubted, repeats, seconds, args.threads), doubted)
    print(table(figures))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    lines, slower = compare(figures, old, args.tolerance) if old else ([], [])
    print("\n".join(lines), end="\n" if lines else "")
    return int(bool(slower) or any(key.endswith(".failed") for key in figures))


if __name__ == "__main__":
    sys.exit(main())
