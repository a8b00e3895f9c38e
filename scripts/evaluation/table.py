"""From the lines of metrics.jsonl to numbers for people: means over clips with bootstrap intervals, strata, gaps to the real video.

Seeds are averaged within a clip first, so that the interval is over clips and not over repeats; their spread is a column of its own.
"""

import json
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from data_process.outputs import write_aside
from models.metrics import bootstrap_interval
from scripts.evaluation.lines import jsonable, read
from scripts.evaluation.units import JUDGE, METRICS, SET_CLIP, VISEMES, judge_metric

ROW_ORDER = ("real", "re-rendered", "generated", "other style", "mean style")
NOTHING = "–"


def rows_of(lines):
    """Names of the rows in the order of a table."""
    names = list(dict.fromkeys(line["row"] for line in lines))
    return [r for r in ROW_ORDER if r in names] + [r for r in names if r not in ROW_ORDER]


def metrics_of(lines):
    """{name: Metric} of what the lines hold, in the order of METRICS; judges last."""
    there = {name for line in lines for name in line}
    judged = {name: judge_metric(name.removeprefix(JUDGE)) for name in sorted(there) if name.startswith(JUDGE)}
    return {name: metric for name, metric in METRICS.items() if name in there} | judged


def by_clip(lines, row, metric):
    """{clip: [value of each seed]} of finite values."""
    out = {}
    for line in lines:
        if line["row"] == row and line.get(metric) is not None:
            out.setdefault(line["clip"], []).append(float(line[metric]))
    return out


def summarise(lines, row, metric, better="higher"):
    """Statistics of one metric in one row, None where no clip has it.

    {"mean", "low", "high": 95 % bootstrap over clips, "median", "clips", "seed_spread": mean over clips of the deviation over seeds,
    "gap", "gap_low", "gap_high": mean over clips of |row - real| for metrics whose aim is the real value}
    """
    found = by_clip(lines, row, metric)
    if not found:
        return None
    means = {clip: np.mean(values) for clip, values in found.items()}
    values = np.array(list(means.values()))
    low, high = bootstrap_interval(values) if len(values) > 1 else (float("nan"), float("nan"))
    repeats = [np.std(v) for v in found.values() if len(v) > 1]
    out = {
        "mean": values.mean(), "low": low, "high": high, "median": np.median(values), "clips": len(values),
        "seed_spread": np.mean(repeats) if repeats else float("nan"),
    }  # fmt: skip
    if better == "real" and row != "real":
        real = {clip: np.mean(v) for clip, v in by_clip(lines, "real", metric).items()}
        gaps = np.array([abs(means[clip] - real[clip]) for clip in means if clip in real])
        if len(gaps):
            bounds = bootstrap_interval(gaps) if len(gaps) > 1 else (float("nan"), float("nan"))
            out |= {"gap": gaps.mean(), "gap_low": bounds[0], "gap_high": bounds[1]}
    return {name: float(value) for name, value in out.items()}


def counts(lines):
    """{row: {"clips", "seeds", "frames", "skipped_frames", "failures", "video_frames", "frames_without_face"}}."""
    out = {}
    for row in rows_of(lines):
        tried = [line for line in lines if line["row"] == row and line["clip"] != SET_CLIP]
        mine = [line for line in tried if "failure" not in line]
        first = {line["clip"]: line for line in reversed(mine)}.values()
        out[row] = {
            "clips": len({line["clip"] for line in mine}),
            "seeds": len({line["seed"] for line in mine}),
            "frames": sum(line.get("frames") or 0 for line in first),
            "skipped_frames": sum(line.get("skipped_frames") or 0 for line in first),
            "video_frames": sum(line.get("video_frames") or 0 for line in mine),
            "frames_without_face": sum(line.get("frames_without_face") or 0 for line in mine),
            "failures": len(tried) - len(mine),
        }
    return out


def summary(lines, strata=()):
    """Everything the tables and the page show, as one dict for summary.json."""
    names = metrics_of(lines)
    table = {
        row: {name: found for name, m in names.items() if (found := summarise(lines, row, name, m.better))}
        for row in rows_of(lines)
    }
    return jsonable({
        "rows": table,
        "counts": counts(lines),
        "strata": {by: stratum for by in strata if (stratum := strata_of(lines, by, names))},
        "visemes": {row: found for row in rows_of(lines) if (found := viseme_table(lines, row))},
        "failures": [{k: line[k] for k in ("clip", "row", "seed", "failure")} for line in lines if "failure" in line],
        "units": {name: {"label": m.label, "unit": m.unit, "better": m.better, "level": m.level, "meaning": m.meaning}
                  for name, m in names.items()},
    })  # fmt: skip


def strata_of(lines, by, names):
    """{value of the stratum: {row: {main metric: summary}}}; nothing where all clips share one value."""
    values = sorted({str(line[by]) for line in lines if line.get(by) is not None})
    if len(values) < 2:
        return {}
    out = {}
    for value in values:
        mine = [line for line in lines if str(line.get(by)) == value]
        out[value] = {
            row: {n: s for n, m in names.items() if m.main and (s := summarise(mine, row, n, m.better))}
            for row in rows_of(mine)
        }
    return out


def viseme_table(lines, row):
    """{class: {"error": mm, "frames", "phones"}} of a row, weighted by frames over all clips and seeds."""
    total = {}
    for line in lines:
        if line["row"] == row:
            for name, found in (line.get(VISEMES) or {}).items():
                if found["error"] is not None:
                    sums = total.setdefault(name, [0.0, 0, 0])
                    sums[0] += found["error"] * found["frames"]
                    sums[1] += found["frames"]
                    sums[2] += found["phones"]
    return {name: {"error": s / n, "frames": n, "phones": p} for name, (s, n, p) in total.items() if n}


def digits(value):
    """A number with as many decimals as it deserves."""
    if value is None or not np.isfinite(value):
        return NOTHING
    size = abs(value)
    text = (
        f"{value:.0f}"
        if size >= 1000
        else f"{value:.1f}"
        if size >= 100
        else f"{value:.2f}"
        if size >= 10
        else f"{value:.3f}"
    )
    return "0" + text[2:] if text.startswith("-0.") and not float(text) else text


def cell(found, better=""):
    """A summary as text: mean [low, high], and |row - real| where that is the aim."""
    if not found:
        return NOTHING
    text = digits(found["mean"])
    if found.get("low") is not None and np.isfinite(found["low"]):
        text += f" [{digits(found['low'])}, {digits(found['high'])}]"
    if better == "real" and found.get("gap") is not None:
        text += f", off by {digits(found['gap'])}"
    return text


def markdown(found, title, facts=()):
    """The whole table.md from a `summary`."""
    rows, units = list(found["rows"]), found["units"]
    lines = [f"# {title}", "", *(line for fact in facts for line in (fact, "")), *count_lines(found["counts"]), ""]
    lines += ["Mean over clips, 95 % bootstrap interval over clips in brackets; seeds averaged within a clip. `real` as direction: as near "
              "as possible to the real row, *off by* is the mean over clips of |row - real|.", ""]  # fmt: skip
    for level, heading in (("motion", "Motion"), ("video", "Video")):
        names = [name for name, unit in units.items() if unit["level"] == level]
        shown = [row for row in rows if any(name in found["rows"][row] for name in names)]
        if names:
            lines += [f"## {heading}", "", *metric_table(found, names, shown), ""]
    spread = seed_lines(found)
    lines += ["## Spread over seeds", "", *spread, ""] if spread else []
    for by, values in found["strata"].items():
        lines += [f"## By {by}", "", *stratum_table(values, units), ""]
    if found["visemes"]:
        lines += ["## Lip vertex error by class of sound, mm", "", *viseme_lines(found["visemes"]), ""]
    if found["failures"]:
        lines += (
            ["## Failures", ""]
            + [f"- {f['clip']}, {f['row']}, seed {f['seed']}: {f['failure']}" for f in found["failures"]]
            + [""]
        )
    return "\n".join(lines)


def grid(head, body):
    """Lines of a Markdown table."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"] + [
        "| " + " | ".join(line) + " |" for line in body
    ]


def metric_table(found, names, rows):
    units = found["units"]
    body = [
        [f"{units[n]['label']}{', ' + units[n]['unit'] if units[n]['unit'] else ''}", units[n]["better"]]
        + [cell(found["rows"][row].get(n), units[n]["better"]) for row in rows]
        for n in names
    ]
    return grid(["metric", "better", *rows], body)


def count_lines(found):
    head = ["row", "clips", "seeds", "frames", "skipped", "video frames", "without a face", "failures"]
    body = [[row, *(str(n) for n in numbers.values())] for row, numbers in found.items()]
    return grid(head, body)


def seed_lines(found):
    body = [
        [row, found["units"][name]["label"], digits(value["mean"]), digits(value["seed_spread"])]
        for row, values in found["rows"].items() for name, value in values.items()
        if (value.get("seed_spread") or 0) > 0
    ]  # fmt: skip
    return grid(["row", "metric", "mean", "deviation over seeds"], body) if body else []


def stratum_table(values, units):
    names = [n for n in units if any(n in row for rows in values.values() for row in rows.values())]
    rows = list(dict.fromkeys(row for rows in values.values() for row in rows))
    body = [
        [value, row, str(int(max(s["clips"] for s in values[value][row].values())))] + [cell(values[value][row].get(n)) for n in names]
        for value in values for row in rows if values[value].get(row)
    ]  # fmt: skip
    return grid(["", "row", "clips", *(units[n]["label"] for n in names)], body)


def viseme_lines(visemes):
    classes = list(dict.fromkeys(name for row in visemes.values() for name in row))
    classes.sort(key=lambda name: -max(row.get(name, {"error": 0})["error"] for row in visemes.values()))
    frames = {name: max(row.get(name, {"frames": 0})["frames"] for row in visemes.values()) for name in classes}
    body = [
        [name, str(frames[name])] + [digits(row[name]["error"]) if name in row else NOTHING for row in visemes.values()]
        for name in classes
    ]
    return grid(["class", "frames", *visemes], body)


def facts_of(settings):
    """The content of settings.yaml in sentences."""
    config, facts, about = settings["settings"], settings["facts"], settings["about"]
    code = str(about["code"])[:12]
    lines = [
        f"Store {Path(config['store']).name} ({facts['store']}), split {config['split']}, {about['clips']} clips; checkpoint "
        f"{Path(config['checkpoint']).name} ({facts['checkpoint_weights']}); settings {settings['hash']}; code {code}.",
        "Style: other clips of the speaker, or the first part of an only clip. Identity: one frame of other material. "
        "Neither shares a frame with what is evaluated.",
    ]
    if facts["encoding_used"]:
        used = facts["encoding_used"]
        lines.append(
            f"Every video, the real one too, goes through {used['codec']} crf {used['crf']} {used['preset']}, {used['pixels']} "
            f"(encoding {used['hash']}). `real` is compared with the clip before that encoding, all others with `real`."
        )
    else:
        lines.append("Motion only: no video was drawn, so there is no `re-rendered` row.")
    if about["left_out"]:
        lines.append(f"Not evaluated: {', '.join(about['left_out'])} (see failures).")
    return lines


def write_tables(folder, strata=()):
    """Read metrics.jsonl and settings.yaml of a folder, write summary.json and table.md; returns (summary, title, facts)."""
    folder = Path(folder)
    settings = OmegaConf.to_container(OmegaConf.load(folder / "settings.yaml"))
    config = settings["settings"]
    title = f"{Path(config['checkpoint']).name} on {Path(config['store']).name}, {config['split']}"
    found, facts = summary(read(folder / "metrics.jsonl"), strata), facts_of(settings)
    write_aside(folder / "summary.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_aside(folder / "table.md", markdown(found, title, facts))
    return found, title, facts
