"""Is generated head motion like the person's? Measured on held-out parts of the clips of a store, as a table.

    python -m scripts.pose_report --lmdb data/lmdb --output data/runs/poses.jsonl     measure, then the table
    python -m scripts.pose_report data/runs/poses.jsonl                               the table of what was measured
    python -m scripts.pose_report --lmdb data/lmdb --draws 60        what choosing constants on the judged speakers may have brought

Rows: ours (`models.headpose_habit`); tmm, the TMM 2022 preset (--tmm: a checkpoint of configs/headpose_tmm.yaml); replay, the 2020
paper's mode a (source frames by key frames of the roll that tmm, or without it ours, foretells); ping-pong, its mode b; a still head;
ours with another speaker's behaviour. Means over cases, in brackets 95 % bootstrap intervals over cases; "seeds" is the mean deviation
over seeds. The rank is over rows within a case by angle, spectrum and beats.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from data_process.schema import StoreError
from models import checkpoint
from models.checkpoint import CheckpointError
from models.metrics import bootstrap_interval
from scripts.evaluation import habit_choice, head_motion

# metric -> heading; all are distances to the held-out motion unless said otherwise
COLUMNS = {
    "hs": "HS (1 is equal)",
    "angle": "angles, W1 deg",
    "speed": "speeds, W1 deg/s",
    "spectrum": "spectrum, log10",
    "beat": "beats met",
    "beat_gap": "beats, gap to real",
    "jerk": "third derivative / real",
    "nearest": "nearest learnt 2 s, deg",
    "pitch_correlation": "pitch, r",
}
RANKED = ("angle", "spectrum", "beat_gap")
DISTANCES = ("angle", "speed", "spectrum")


def by_case(lines, row, metric):
    """{case: mean over seeds}, and the mean over cases of the deviation over seeds."""
    found = {}
    for line in lines:
        if line["row"] == row:
            found.setdefault(line["case"], []).append(np.nan if line.get(metric) is None else line[metric])
    spread = [np.std(v) for v in found.values() if len(v) > 1]
    return {case: float(np.mean(v)) for case, v in found.items()}, float(np.mean(spread)) if spread else float("nan")


def ranks(lines, rows):
    """{row: (cases, metrics) ranks from 1}; what cannot be measured, such as beats of a still head, comes last."""
    cases = sorted({line["case"] for line in lines if line["row"] == rows[0]})
    out = {row: np.zeros((len(cases), len(RANKED))) for row in rows}
    for m, metric in enumerate(RANKED):
        values = {row: by_case(lines, row, metric)[0] for row in rows}
        for c, case in enumerate(cases):
            column = np.array([values[row].get(case, np.nan) for row in rows])
            column = np.where(np.isfinite(column), column, np.inf)
            for row, value in zip(rows, column, strict=True):
                out[row][c, m] = 1 + (column < value).sum() + ((column == value).sum() - 1) / 2
    return out


def found_own(lines):
    """Per case: is its own speaker's behaviour the nearest of all; distances are divided by their mean over behaviours, then summed."""
    cases = {}
    for line in lines:
        if line["row"] == "retrieval":
            cases.setdefault(line["case"], []).append(line)
    hits = []
    for members in cases.values():
        values = np.array([[m[name] for name in DISTANCES] for m in members])
        total = (values / values.mean(0)).sum(1)
        hits.append(members[int(total.argmin())]["behaviour"] == members[0]["speaker"])
    return np.array(hits, float), len({line["behaviour"] for line in lines if line["row"] == "retrieval"})


def same_speaker(lines):
    """Per behaviour whose speaker has another: is the nearest other code, each number in its own deviation, that speaker's."""
    if not lines:
        return np.zeros(0)
    codes, speakers = np.array([line["code"] for line in lines]), np.array([line["speaker"] for line in lines])
    codes = codes / np.maximum(codes.std(0), 1e-9)
    far = np.linalg.norm(codes[:, None] - codes[None], axis=-1)
    np.fill_diagonal(far, np.inf)
    again = np.array([(speakers == s).sum() > 1 for s in speakers])
    return (speakers[far.argmin(1)] == speakers)[again].astype(float)


def interval(values):
    """ "mean [low, high]" of finite values."""
    values = np.array([v for v in values if np.isfinite(v)])
    if not len(values):
        return "–"
    if len(values) < 2:
        return f"{values.mean():.3g}"
    low, high = bootstrap_interval(values)
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def table(lines):
    """The report as Markdown."""
    rows = [row for row in head_motion.ROWS if any(line["row"] == row for line in lines)]
    places = ranks(lines, rows)
    out = ["| row | rank | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in ("real", *rows):
        cells = [interval(places[row].mean(1)) if row in places else ""]
        for metric in COLUMNS:
            values, spread = by_case(lines, row, metric)
            cells.append(interval(values.values()) + (f" seeds {spread:.3f}" if np.isfinite(spread) else ""))
        out.append(f"| {row} | " + " | ".join(cells) + " |")
    cases = {line["case"] for line in lines}
    out.append("")
    out.append(f"{len(cases)} cases of {len({line['speaker'] for line in lines})} speakers.")
    hits, n = found_own(lines)
    if len(hits):
        out.append(
            f"Own behaviour is nearest to held-out motion: {interval(hits)} of cases, of {n} speakers (chance {1 / n:.2f})."
        )
    drifts = [line for line in lines if line["row"] == "behaviour"]
    if len(found := same_speaker(drifts)):
        out.append(f"Behaviour codes: the nearest other one is the same speaker's in {interval(found)} of cases.")
    if drifts:
        worst = {name: max(line[name] for line in drifts) for name in ("outside", "beyond_deg", "mean_deg")}
        out.append(f"Three minutes of sound, worst case: {100 * worst['outside']:.1f} % of frames beyond the extremes learnt, at most "
                   f"{worst['beyond_deg']:.2f} degrees; no third's mean is further than {worst['mean_deg']:.2f} degrees off.")  # fmt: skip
    return "\n".join(out)


def draws_table(lines):
    """Mean rank of ours with constants as they are, drawn at random, and with the best draw of other speakers."""
    as_they_are = [line for line in lines if not line["draw"]]
    rows = [row for row in head_motion.ROWS if any(line["row"] == row for line in as_they_are)]
    rest = [line for line in as_they_are if line["row"] != "ours"]
    places = []
    for draw in range(max(line["draw"] for line in lines) + 1):
        own = [line for line in lines if line["draw"] == draw and line["row"] == "ours"]
        places.append(ranks(rest + own, rows)["ours"].mean(1))
    places, cases = np.array(places), sorted({line["case"] for line in lines})
    of = {line["case"]: line["speaker"] for line in lines}
    speakers = np.array([of[case] for case in cases])
    names, others = sorted(set(speakers)), ranks(as_they_are, rows)
    drawn = places[1:].mean(1)
    found = {
        "as they are": interval(places[0]),
        f"drawn, mean of {len(drawn)}": f"{drawn.mean():.3f}, from {drawn.min():.3f} to {drawn.max():.3f}",
        "best draw of the other speakers": interval(
            habit_choice.judged_on_others(places[1:], speakers, [[n] for n in names])
        ),
        "best draw of the other half": interval(
            habit_choice.judged_on_others(places[1:], speakers, [names[::2], names[1::2]])
        ),
    }
    found |= {row: interval(others[row].mean(1)) for row in rows if row != "ours"}
    lines = [f"| {name} | {value} |" for name, value in found.items()]
    return "\n".join(["| constants of ours; other rows | mean rank |", "|---|---|", *lines, "", f"{len(cases)} cases."])


def main(argv=None):
    """Exit status: 0 reported, 1 refused with a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.pose_report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("metrics", nargs="?", type=Path, help="lines that were measured")
    parser.add_argument("--lmdb", help="store to measure on")
    parser.add_argument("--tmm", help="checkpoint of headpose, preset tmm; without it the row tmm is left out")
    parser.add_argument("--output", type=Path, default=Path("data/runs/poses.jsonl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", choices=["first", "last"], help="of long clips: only cases that learn their first or last 12 s"
    )
    parser.add_argument(
        "--draws", type=int, default=0, help="times that the constants of ours are drawn anew (default 0)"
    )
    args = parser.parse_args(argv)
    try:
        if args.lmdb:
            cases = [
                c for c in head_motion.find_cases(args.lmdb) if not args.only or c.name.endswith((":" + args.only,))
            ]
            if not cases:
                raise StoreError(
                    f"{args.lmdb}: no clip of 17 s, and no speaker with clips of 8 and 5 s: nothing to hold out"
                )
            if args.draws:
                print(draws_table(habit_choice.redrawn_lines(cases, args.draws, args.seeds)))
                return 0
            tmm = checkpoint.load(args.tmm) if args.tmm else None
            lines = [*head_motion.measure(cases, tmm, args.seeds), *head_motion.retrieve(cases)]
            for name, habit in head_motion.behaviours(cases).items():
                facts = {"case": name, "speaker": habit.source, "row": "behaviour", "code": habit.code().tolist()}
                lines.append(facts | head_motion.drift(habit))
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text("".join(json.dumps(line) + "\n" for line in lines))
            args.metrics = args.output
        if not args.metrics:
            parser.error("a file of metrics or --lmdb is needed")
        print(table([json.loads(line) for line in args.metrics.read_text().splitlines()]))
    except (StoreError, CheckpointError, OSError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
