"""report.html of an output folder: one file that opens offline, made from the lines and the arrays beside them."""

from html import escape
from pathlib import Path

import numpy as np

from data_process.outputs import write_aside
from deep_3drecon.track import FPS
from scripts.evaluation import page, plots
from scripts.evaluation.arrays import GALLERY, load, load_arrays
from scripts.evaluation.lines import read
from scripts.evaluation.table import digits, rows_of
from scripts.evaluation.units import METRICS, SET_CLIP

SHOWN = ("real", "re-rendered", "generated")  # on contact sheets; other style is added where there is one


class Material:
    """Lines and arrays of a folder; of each clip and row the first seed is drawn."""

    def __init__(self, folder):
        lines = read(Path(folder) / "metrics.jsonl")
        self.lines = [line for line in lines if line["clip"] != SET_CLIP]
        self.rows = rows_of(self.lines)
        self.first = {}
        for line in self.lines:
            self.first.setdefault((line["clip"], line["row"]), line)
        self.gallery = load(Path(folder) / "arrays" / GALLERY)
        self.arrays = {key: load_arrays(folder, line) for key, line in self.first.items()}
        self.clips = list(
            dict.fromkeys(line["clip"] for line in self.lines if line["row"] == "real" and "failure" not in line)
        )

    def curves(self, row, name):
        """[array] of all clips of a row that have it."""
        return [self.arrays[clip, row][name] for clip in self.clips if name in self.arrays.get((clip, row), {})]

    def mean(self, row, name):
        """Mean over clips of curves of one length, None where there is none."""
        found = self.curves(row, name)
        return np.nanmean(found, 0) if found and np.isfinite(found).any() else None

    def ranked(self, metric, row="generated"):
        """Clips from worst to best by a metric of a row."""
        better = METRICS[metric].better
        aim = {"1": 1.0, "0": 0.0}.get(better)
        values = {}
        for clip in self.clips:
            line = self.first.get((clip, row), {})
            if line.get(metric) is not None:
                value = line[metric]
                real = self.first[clip, "real"].get(metric)
                goal = real if better == "real" and real is not None else aim
                values[clip] = abs(value - goal) if goal is not None else -value if better == "higher" else value
        return sorted(values, key=values.get, reverse=True)


def write(folder, settings, found, title, facts):
    """Draw everything and write report.html; returns its path. settings: ReportConfig, found: what `table.summary` gave."""
    material = Material(folder)
    units = found["units"]
    main = [n for n in units if METRICS.get(n) and METRICS[n].main]
    levels = {level: [n for n, u in units.items() if u["level"] == level] for level in ("motion", "video")}
    sections = [
        ("summary", "Summary", "The metrics to read first: mean over clips, 95 % bootstrap interval below; real and re-rendered say what "
         "the material and the renderer allow.", page.metric_table(found, main)),
        ("counts", "What was counted", "Frames without a face are left out of every metric and counted here; a failure is a line "
         "without numbers.", page.count_table(found)),
        ("openings", "Lip opening against the truth", "The distance of the inner lips over time: height says how wide, sideways "
         "shifts say how late.", opening_figure(material, settings.curves)),
        ("offsets", "Timing", "Left: correlation of the generated with the true opening at each shift. Right: where our probe finds "
         "the sound; the real video is the yardstick.", lag_figure(material)),
        ("visemes", "Error by class of sound", "Lip vertex error while sounds of one look are spoken: what the mouth gets wrong.",
         viseme_figure(found)),
        ("closures", "Closures and silences", "A mouth should shut on p b m, nearly on f v, by chance elsewhere, and rest when nothing "
         "is said; the black bars are the real clips.", closure_figure(found)),
        ("head", "Head motion", "Above, how much movement there is at each rhythm; below, how far the head turns. There is no one "
         "true head motion to a sound.", head_figure(material)),
        ("styles", "Style map", "Style codes of the real clips and of what was generated for them in two dimensions, a colour a "
         "speaker: crosses should lie among the dots of their colour.", style_figure(material)),
        ("worst", "Worst clips", f"The clips with the worst {METRICS[settings.worst_by].label} of the generated row, at the moments when "
         "the real mouth is widest in each sixth of the clip.", worst_sheets(material, settings)),
        ("motion", "All metrics of motion", "Measured on coefficients of the face model, for all seeds; rest the pointer on a name for its "
         "meaning.", page.metric_table(found, levels["motion"])),
        ("video", "All metrics of video", "Measured on decoded frames of the pinned encoding, seen again by the landmarker.",
         page.metric_table(found, levels["video"]) if levels["video"] else ""),
        ("strata", "Strata", "The main metrics for each speaker, language and emotion, where there is more than one.",
         page.stratum_tables(found)),
        ("seeds", "Spread over seeds", "Mean over clips of the deviation between seeds of one clip.", page.seed_table(found)),
        ("failures", "Failures", "Every clip, row and seed that gave no numbers, and why.", page.failure_list(found)),
        ("meanings", "What the metrics mean", "Unit and direction in brackets; ≈ real: best where the real clips are.",
         page.definitions(found)),
    ]  # fmt: skip
    path = Path(folder) / "report.html"
    write_aside(path, page.document(title, facts, sections))
    return path


def opening_figure(material, count):
    """Clips spread over the ranking, so that good and bad ones are seen."""
    ranked = material.ranked("lip_correlation")
    if not ranked:
        return ""
    chosen = [
        ranked[k] for k in np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    ]
    clips = []
    for clip in chosen:
        rows = [r for r in ("real", "generated", "other style") if "opening" in material.arrays.get((clip, r), {})]
        curves = {row: material.arrays[clip, row]["opening"] for row in rows}
        r = material.first[clip, "generated"]["lip_correlation"]
        clips.append((f"{clip}: correlation {digits(r)}", curves, material.arrays[clip, "real"]["valid"]))
    return page.figure(
        plots.openings(clips), "from the worst correlation (top) to the best (bottom); red: frames without a face"
    )


def lag_figure(material):
    rows = [row for row in material.rows if row != "rest"]
    lips = {row: x for row in rows if (x := material.mean(row, "lag_curve")) is not None}
    sync = {row: x for row in rows if (x := material.mean(row, "sync_curve")) is not None}
    return page.figure(plots.lags(lips, sync), "mean over clips; a good row peaks at 0") if lips else ""


def viseme_figure(found):
    rows = [row for row in found["visemes"] if row in ("generated", "other style", "ridge", "rest")]
    if "generated" not in rows:
        return ""
    generated = found["visemes"]["generated"]
    order = sorted(generated, key=lambda name: -generated[name]["error"])
    groups = {
        f"{name} ({generated[name]['frames']})": {
            r: found["visemes"][r][name]["error"] for r in rows if name in found["visemes"][r]
        }
        for name in order
    }
    return page.figure(
        plots.bars(groups, rows, "lip vertex error, mm"),
        "worst class first; in brackets frames over all clips and seeds",
    )


def closure_figure(found):
    names = {"closure_bilabial": "p b m", "closure_labiodental": "f v", "closure_elsewhere": "elsewhere"}
    rows = [row for row in ("real", "generated", "other style", "ridge", "rest") if row in found["rows"]]
    shares = {
        label: values
        for name, label in names.items()
        if (values := {row: found["rows"][row][name]["mean"] for row in rows if name in found["rows"][row]})
    }
    chatter = {row: found["rows"][row]["silence_mm"]["mean"] for row in rows if "silence_mm" in found["rows"][row]}
    return (
        page.figure(plots.closures(shares, chatter), "shares of sounds and mm, over all clips")
        if shares and chatter
        else ""
    )


def head_figure(material):
    rows = {}
    for row in ("real", "generated", "other style"):
        angles = [a for a in material.curves(row, "angle") if len(a) >= 25]
        if angles and max(np.ptp(a) for a in angles) > 1e-6:
            rows[row] = angles
    return page.figure(plots.head(rows), "pooled over clips") if "generated" in rows else ""


def style_figure(material):
    clips = [c for c in material.clips if all("code" in material.arrays.get((c, r), {}) for r in ("real", "generated"))]
    if not clips or len(material.gallery.get("codes", ())) < 3:
        return ""
    rows = [r for r in ("generated", "other style") if all("code" in material.arrays.get((c, r), {}) for c in clips)]
    codes = {row: np.array([material.arrays[c, row]["code"] for c in clips]) for row in ("real", *rows)}
    speakers = [material.first[c, "real"]["speaker"] for c in clips]
    drawing = plots.style_map(
        material.gallery["codes"],
        material.gallery["speakers"].tolist(),
        codes["real"],
        {row: codes[row] for row in rows},
        speakers,
    )
    return page.figure(drawing, "rings: the real clips under test; lines lead to what was generated for them")


def worst_sheets(material, settings):
    """Contact sheets and numbers of the worst clips."""
    out = []
    for clip in material.ranked(settings.worst_by)[: settings.worst]:
        lines = {row: material.first[clip, row] for row in (*SHOWN, "other style") if (clip, row) in material.first}
        names = [n for n, m in METRICS.items() if m.main and any(line.get(n) is not None for line in lines.values())]
        labels = {n: f"{METRICS[n].label}{', ' + METRICS[n].unit if METRICS[n].unit else ''}" for n in names}
        strips = [
            (row, material.arrays[clip, row]["strip"].tobytes())
            for row in lines
            if "strip" in material.arrays[clip, row]
        ]
        generated = lines["generated"]
        source = f"{generated['window']}; style: {generated.get('style')}"
        if strips:
            at = ", ".join(f"{t / FPS:.2f}" for t in material.arrays[clip, "real"]["moments"])
            source += f"; identity: {generated.get('identity')}; pictures at {at} s"
        out += [f"<h3>{escape(clip)}</h3><p><small>{escape(source)}</small></p>", page.clip_table(lines, names, labels)]
        out += [page.sheet(strips)] if strips else []
    return "".join(out)
