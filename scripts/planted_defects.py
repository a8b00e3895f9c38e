"""How well the quality report finds defects: plant each into clean clips, examine them, count.

    python -m data_process.synthetic --clips data/raw/synthetic --speakers 20 --minutes 3
    python -m scripts.planted_defects --clips data/raw/synthetic --output data/runs/planted_defects

--clips: folders of clean talking heads (mp4, avi, ...; sound inside or as a wav of the same name). Every kind of
`data_process.defects` is planted at every strength into every clip, encoded once by `VideoWriter`, and goes through
`data_process.examine`, as in `data_process.clips`. A defect is found when the report names it; a false alarm is the same
name for a clip without any defect, as it is or after a harmless change. Writes planted_defects.jsonl (a line for each
clip examined; run again to go on) and planted_defects.md (the table), and fails when a kind misses the goal.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from data_process.clips import find_videos
from data_process.defects import DEFECTS, HARMLESS, plant
from data_process.examine import Rejected, examine
from data_process.outputs import write_aside
from data_process.parallel import map_in_order
from data_process.video import VideoWriter, read_frames
from deep_3drecon.track import FPS
from deepspeech import load_audio
from deepspeech.timing import SAMPLES_PER_FRAME

STRENGTHS = (0.0, 0.5, 1.0)
GOAL_RECALL, GOAL_ALARMS = 0.95, 0.05
SILENT = 1e-4  # peak below which sound is absent, as in data_process.cutting
# Names that count as finding a kind: what the report calls it, and what can be said of it only together with another.
NAMES = {kind: {kind} for kind in DEFECTS}


def load_clip(path, seconds):
    """The first `seconds` of a clip: frames (T, H, W, 3) uint8 at 25 fps, sound (640 T,) float32."""
    frames = np.stack(list(read_frames(path, fps=FPS, max_frames=round(seconds * FPS), partial=True)))
    beside = path.with_suffix(".wav")
    sound = load_audio(beside if beside.is_file() else path, partial=True)[: len(frames) * SAMPLES_PER_FRAME]
    return frames, np.pad(sound, (0, len(frames) * SAMPLES_PER_FRAME - len(sound)))


def examined(frames, wav, fps):
    """Encode a clip and let it be examined -> (kinds found, status, texts, measures)."""
    if np.abs(wav).max(initial=0) < SILENT:  # data_process.cutting refuses it before it looks at the picture
        return ["silence"], "reject", ["the sound is silence throughout"], {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        with VideoWriter(path, fps=fps) as video:
            for frame in frames:
                video.write(frame)
        try:
            look, verdict = examine(path, fps, wav)
        except Rejected as reason:
            return ["rejected"], "reject", [str(reason)], {}
    kinds = sorted({reason.kind for reason in verdict.reasons})
    return kinds, verdict.status, [reason.text for reason in verdict.reasons], look.quality.as_dict()


def one(task):
    """One clip with one thing planted -> its line."""
    path, kind, strength, seed, seconds = task
    frames, wav = load_clip(Path(path), seconds)
    key = hashlib.sha256(f"{Path(path).name} {kind} {strength} {seed}".encode()).digest()
    rng = np.random.default_rng(list(key[:8]))
    fps, truth = FPS, {}
    if kind != "clean":
        frames, wav, fps, truth = plant(kind, frames, wav, rng, strength)
    kinds, status, texts, measures = examined(frames, wav, fps)
    return {
        "clip": Path(path).stem, "kind": kind, "strength": strength, "seed": seed, "found": kinds, "status": status,
        "texts": texts, "truth": truth, "measures": measures,
    }  # fmt: skip


def table(lines):
    """Lines -> (Markdown, {kind: (recall, false-alarm rate)})."""
    clean = [line for line in lines if line["kind"] not in DEFECTS]
    rows = ["| defect | planted | found | recall | by strength | clean | false alarms | rate | also named |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    rates = {}
    for kind, names in NAMES.items():
        planted = [line for line in lines if line["kind"] == kind]
        if not planted:
            continue
        found = [line for line in planted if names & set(line["found"])]
        alarms = [line for line in clean if names & set(line["found"])]
        by_strength = ", ".join(
            f"{s:g}: {sum(x['strength'] == s for x in found)}/{sum(x['strength'] == s for x in planted)}"
            for s in sorted({line["strength"] for line in planted})
        )
        also = Counter(name for line in planted for name in line["found"] if name not in names)
        also = ", ".join(f"{name} {n}" for name, n in also.most_common())
        rates[kind] = (len(found) / len(planted), len(alarms) / max(len(clean), 1))
        rows.append(
            f"| {kind} | {len(planted)} | {len(found)} | {rates[kind][0]:.3f} | {by_strength} | {len(clean)} | "
            f"{len(alarms)} | {rates[kind][1]:.3f} | {also or '-'} |"
        )
    return "\n".join(rows) + "\n\n" + _clean_table(clean), rates


def _clean_table(clean):
    rows = ["| clean clips | examined | accepted | repaired | rejected | false alarms |", "|---|---|---|---|---|---|"]
    for kind in dict.fromkeys(line["kind"] for line in clean):
        of_kind = [line for line in clean if line["kind"] == kind]
        states = Counter(line["status"] for line in of_kind)
        named = Counter(name for line in of_kind for name in line["found"])
        named = ", ".join(f"{name} {n}" for name, n in named.most_common()) or "-"
        counts = " | ".join(str(states[status]) for status in ("accept", "repair", "reject"))
        rows.append(f"| {kind} | {len(of_kind)} | {counts} | {named} |")
    return "\n".join(rows) + "\n"


def tasks(args):
    """What is to be examined, in order, as arguments of `one`."""
    videos = list(find_videos(args.clips).values())[: args.most]
    kinds = args.kinds or ["clean", *HARMLESS, *DEFECTS]
    out = []
    for path in videos:
        for kind in kinds:
            strengths = [0.0] if kind == "clean" else args.strengths
            out += [(str(path), kind, s, seed, args.seconds) for s in strengths for seed in range(args.seeds)]
    return out


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.planted_defects",
        description="Plant defects into clean clips and count what the report finds.",
    )
    parser.add_argument("--clips", nargs="+", required=True, help="folders or files of clean clips")
    parser.add_argument("--output", required=True, help="folder for the lines and the table; run again to go on")
    parser.add_argument("--most", type=int, default=20, help="clips used (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip, from its start (default %(default)s)")
    parser.add_argument("--strengths", type=float, nargs="+", default=list(STRENGTHS), help="0 to 1 (default 0 0.5 1)")
    parser.add_argument("--seeds", type=int, default=1, help="of every strength (default %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=["clean", *HARMLESS, *DEFECTS], help="these only (default all)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status: 0 every kind reaches the goal, 1 one does not, 130 after Ctrl-C."""
    args = parse(argv)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    record = output / "planted_defects.jsonl"
    wanted = tasks(args)
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    done = {(line["clip"], line["kind"], line["strength"], line["seed"]) for line in lines}
    todo = [task for task in wanted if (Path(task[0]).stem, *task[1:4]) not in done]
    try:
        with open(record, "a") as file:
            for line in map_in_order(one, todo, args.workers):
                file.write(json.dumps(line) + "\n")
                file.flush()
                lines.append(line)
    except KeyboardInterrupt:
        print(f"\nstopped; run the same command to go on from {record}", file=sys.stderr)
        return 130
    text, rates = table(lines)
    write_aside(output / "planted_defects.md", text)
    print(text, end="")
    missed = [kind for kind, (recall, alarms) in rates.items() if recall < GOAL_RECALL or alarms > GOAL_ALARMS]
    if missed:
        print(f"\nbelow the goal (recall {GOAL_RECALL}, false alarms {GOAL_ALARMS}): {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
