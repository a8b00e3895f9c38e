"""The ledger of `clips`: one line of JSON for each video, and its summary for people."""

import json
from collections import Counter
from pathlib import Path

from data_process.outputs import write_aside
from deep_3drecon.track import FPS

WORST = 3  # videos named for each measure
# measure in the ledger: (title, unit, how bad a value is, worth naming from)
MEASURES = {
    "sound_offset_frames": ("offset of the sound", "frames", abs, 1.5),
    "sound_drift_gain": ("drift of the sound (gain in fit)", "", float, 0.02),
    "sound_silence_share": ("silence", "of the frames", float, 0.1),
    "detail_px": ("least detail of the face", "px", lambda value: -value, -80.0),
    "shake": ("shaking picture", "% of the face", float, 0.2),
    "landmark_jitter": ("jitter of the landmarks", "% of the face", float, 0.3),
    "n_repeats": ("copied pictures", "", float, 1),
    "time_gaps": ("pictures missing by their times", "", float, 1),
    "rivals": ("second face", "of the frames", float, 0.01),
}


class LedgerError(ValueError):
    """A ledger that cannot be read."""


def read_ledger(output):
    """<output>/report.jsonl -> {name: its last entry}. A last line cut off by a crash is dropped."""
    path = Path(output, "report.jsonl")
    if not path.is_file():
        return {}
    lines, ledger = path.read_text().splitlines(), {}
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number < len(lines) - 1:
                raise LedgerError(f"{path}: line {number + 1} is not JSON ({error}): remove that line") from error
            write_aside(path, "".join(x + "\n" for x in lines[:-1]))
            break
        ledger[entry["name"]] = entry
    return ledger


def summary(entries):
    """Ledger entries {name: entry} -> text for people."""
    states = Counter(entry["status"] for entry in entries.values())
    clips = [clip for entry in entries.values() for clip in entry["clips"]]
    seconds = sum(clip["n_frames"] for clip in clips) / FPS
    lines = [
        f"{len(entries)} videos: "
        + ", ".join(f"{states[name]} {name}" for name in ("accepted", "repaired", "rejected")),
        f"{len(clips)} clips, {seconds / 60:.1f} min",
    ]
    if clips:
        widths = sorted(clip["face_px"] for clip in clips)
        lines.append(
            f"face width {widths[0]:.0f} to {widths[-1]:.0f} px; "
            f"face found in {min(clip['tracked'] for clip in clips):.1%} of the frames or more"
        )
    for status, title in (("rejected", "Rejected"), ("repaired", "Repaired")):
        chosen = {name: entry for name, entry in sorted(entries.items()) if entry["status"] == status}
        if chosen:
            lines += ["", title]
        for name, entry in chosen.items():
            lines.append(f"  {name}: {entry['reason'] or '; '.join(entry['notes'])}")
    lines += _list_of("Warnings", {n: entry.get("warnings") for n, entry in sorted(entries.items())})
    left_out = [(n, s) for n, e in sorted(entries.items()) if e["clips"] for s in e["segments"] if s["reason"]]
    if left_out:
        lines += ["", "Stretches left out of accepted videos"]
        lines += [f"  {name} {s['start'] / FPS:.2f}-{s['stop'] / FPS:.2f} s: {s['reason']}" for name, s in left_out]
    return "\n".join(lines + _worst(entries)) + "\n"


def _list_of(title, texts):
    """{name: [text, ...] or None} -> lines, none if there is nothing to say."""
    lines = [f"  {name}: {'; '.join(said)}" for name, said in texts.items() if said]
    return ["", title, *lines] if lines else []


def _worst(entries):
    """The videos that are worst in each measure; entries of older runs, without measures, are left out."""
    measured = {name: entry["quality"] for name, entry in sorted(entries.items()) if entry.get("quality")}
    lines = []
    for key, (title, unit, badness, least) in MEASURES.items():
        found = {name: quality[key] for name, quality in measured.items() if badness(quality.get(key) or 0) >= least}
        found = {name: value for name, value in found.items() if value}
        worst = sorted(found, key=lambda name: -badness(found[name]))[:WORST]
        if worst:
            told = ", ".join(f"{name} {found[name]:.4g}{' ' * bool(unit)}{unit}" for name in worst)
            lines.append(f"  {title}: {told}" + (f" and {len(found) - WORST} more" if len(found) > WORST else ""))
    return ["", f"Worst of {len(measured)} measured videos", *lines] if lines else []


def rewrite(output, ledger):
    """Write the ledger anew, one line a video in order of names, and the summary of all of it."""
    write_aside(
        Path(output, "report.jsonl"),
        "".join(json.dumps(e, ensure_ascii=False) + "\n" for _, e in sorted(ledger.items())),
    )
    write_aside(Path(output, "report.txt"), summary(ledger))
