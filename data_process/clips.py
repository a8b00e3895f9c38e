"""Raw videos -> one-face clips: 25 fps, a crop that does not move, 16 kHz mono sound of the same length.

    python -m data_process.clips --input /data/raw --output /data/clips

Any format FFmpeg reads; the sound of a silent video is taken from a wav of the same name beside it. What happens to
each video is one line of <output>/report.jsonl, told in <output>/report.txt: accepted, repaired (used, with what was
done to it) or rejected, and why, with what `data_process.quality` measured. Run the same command again to go on after an
interruption; finished videos are known by path, size, time of change and settings.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from data_process.clip_files import PART_PREFIX, is_other, remove_clip
from data_process.cutting import CutSettings, Job, cut_video
from data_process.ledger import LedgerError, read_ledger, rewrite, summary
from data_process.outputs import make_folder
from data_process.parallel import WorkerError, map_in_order
from data_process.segments import Rules
from data_process.video import VIDEO_SUFFIXES, VideoError
from deep_3drecon.assets import AssetError
from deepspeech.lip_sync import LipSyncError

CUT_VERSION = 2  # rises when the same settings would cut another clip


class ClipsError(ValueError):
    """An input or option that cannot be used."""


def find_videos(inputs):
    """Folders (searched to the bottom) and files -> {clip name: path}, in order of the names.

    A name is the path below the given folder without its suffix, folders joined by "__", so that equal file names in
    the folders of different speakers stay apart.
    """
    found = {}
    for given in map(Path, inputs):
        if not given.exists():
            raise ClipsError(f"{given}: no such file or folder")
        root = given if given.is_dir() else given.parent
        paths = (
            sorted(p for p in given.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            if given.is_dir()
            else [given]
        )
        for path in paths:
            relative = path.relative_to(root)
            name = "__".join(relative.with_suffix("").parts)
            if name in found and found[name] != path:
                name = f"{name}_{path.suffix[1:].lower()}"
            if found.setdefault(name, path) != path:
                raise ClipsError(
                    f"{path} and {found[name]} would both be named {name}: give them in runs with different outputs"
                )
    return dict(sorted(found.items()))


def make_jobs(videos, output, settings, shifts):
    """{name: path} and {name: ms by which the sound lags} -> list of Job, copies of a file marked as such."""
    unknown = sorted(set(shifts) - set(videos))
    if unknown:
        raise ClipsError(f"a shift is given for {unknown[0]}, which is not among the {len(videos)} videos")
    jobs = []
    for name, path in videos.items():
        wav = path.with_suffix(".wav")
        wav = str(wav) if wav.is_file() else None
        shift = float(shifts.get(name, 0))
        state = [_state(path), _state(wav), str(path), shift, asdict(settings), CUT_VERSION]
        key = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
        jobs.append(Job(str(path), name, wav, shift, key, str(output), settings))
    return _mark_duplicates(jobs)


def run(jobs, output, workers=1, progress=True):
    """Cut what the ledger does not know yet -> ({name: entry} of these jobs, number that was done before).

    A finished video is one line of the ledger at once, so any interruption loses at most the videos in work.
    """
    output = make_folder(output)
    for stale in output.glob(PART_PREFIX + "*"):  # left by a run that was killed
        shutil.rmtree(stale)
    ledger = read_ledger(output)
    for job in jobs:
        if job.name in ledger and is_other(ledger[job.name]["source"], job.source):
            raise ClipsError(
                f"{output}: {job.name} was cut from {ledger[job.name]['source']}, now {job.source} is given: give another "
                "output folder"
            )
    todo = [job for job in jobs if not _is_done(job, ledger.get(job.name), output)]
    done_before = len(jobs) - len(todo)
    with (
        open(output / "report.jsonl", "a") as report,
        tqdm(total=len(jobs), initial=done_before, unit="video", disable=not progress) as bar,
    ):
        for job, entry in zip(todo, map_in_order(cut_video, todo, workers), strict=False):
            kept = {clip["name"] for clip in entry["clips"]}
            for clip in ledger.get(job.name, {}).get("clips", []):
                if clip["name"] not in kept:
                    remove_clip(output, clip["name"])
            report.write(json.dumps(entry, ensure_ascii=False) + "\n")
            report.flush()
            ledger[job.name] = entry
            bar.set_postfix_str(f"{job.name[:30]} {entry['status']}")
            bar.update()
    rewrite(output, ledger)
    return {job.name: ledger[job.name] for job in jobs}, done_before


def _is_done(job, entry, output):
    if (
        entry is None
        or entry["key"] != job.key
        or (entry["reason"].startswith("same content") != bool(job.duplicate_of))
    ):
        return False
    return all(Path(output, clip["name"] + ".json").is_file() for clip in entry["clips"])


def _state(path):
    """Size and time of change of a file, None for none."""
    if path is None:
        return None
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns]


def _mark_duplicates(jobs):
    """Compare files of equal size by content; the first by name is kept."""
    by_size = defaultdict(list)
    for job in jobs:
        by_size[tuple(os.path.getsize(p) if p else 0 for p in (job.source, job.wav))].append(job)
    out = {}
    for group in by_size.values():
        first = {}
        for job in group:
            digest = _digest(job) if len(group) > 1 else job.name
            original = first.setdefault(digest, job.name)
            out[job.name] = job if original == job.name else replace(job, duplicate_of=original)
    return [out[job.name] for job in jobs]


def _digest(job):
    digest = hashlib.blake2b()
    for path in filter(None, (job.source, job.wav)):
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_shifts(pairs, table):
    """["NAME=ms", ...] and the path of a CSV with columns name, ms (or None) -> {name: ms}."""
    shifts = {}
    try:
        if table:
            with open(table, newline="") as file:
                shifts.update({row["name"]: float(row["ms"]) for row in csv.DictReader(file)})
        for pair in pairs:
            name, _, ms = pair.rpartition("=")
            shifts[name] = float(ms)
    except (KeyError, TypeError) as error:
        raise ClipsError(f"{table}: needs a first line with the columns name and ms") from error
    except (OSError, ValueError) as error:
        raise ClipsError(
            f"shifts cannot be read ({error}): give NAME=milliseconds, or a CSV with columns name, ms"
        ) from error
    return shifts


def parse(argv):
    """Command line -> argparse namespace."""
    rules = Rules()
    parser = argparse.ArgumentParser(
        prog="python -m data_process.clips",
        description="Cut raw videos into one-face clips at 25 fps with 16 kHz mono sound.",
    )
    parser.add_argument(
        "--input", nargs="+", required=True, help="video files, or folders that are searched to the bottom"
    )
    parser.add_argument("--output", required=True, help="folder for the clips and the report")
    parser.add_argument(
        "--size", type=int, default=0, help="side of the written crop in px, 64 to 2048 (default: as in the source)"
    )
    parser.add_argument(
        "--crop", choices=("square", "none"), default="square", help="fixed square round the head, or the full frame"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=rules.margin,
        help="side of the square over the face, 1.2 to 6 (default %(default)s)",
    )
    parser.add_argument("--min_seconds", type=float, default=rules.min_s, help="shortest clip, s (default %(default)s)")
    parser.add_argument(
        "--max_seconds", type=float, default=rules.max_s, help="longer stretches are divided, s (default %(default)s)"
    )
    parser.add_argument(
        "--min_face",
        type=float,
        default=rules.min_face_px,
        help="smallest face width in source px (default %(default)s)",
    )
    parser.add_argument(
        "--several_faces",
        choices=("reject", "largest"),
        default="reject",
        help="a second large face: reject, or follow the largest",
    )
    parser.add_argument(
        "--quality",
        choices=("judge", "report"),
        default="judge",
        help="what is found wrong: reject or repair it, or say it only (default %(default)s)",
    )
    parser.add_argument(
        "--offset",
        choices=("repair", "report", "ignore"),
        default="repair",
        help="sound that lags or leads the mouth: move it where the offset is sure, say it only, or neither",
    )
    parser.add_argument("--allow_silent", action="store_true", help="keep videos without sound; their wav is zeros")
    parser.add_argument(
        "--shift_ms",
        nargs="*",
        default=[],
        metavar="NAME=MS",
        help="sound of this video lags the mouth by MS: move it earlier",
    )
    parser.add_argument("--shifts", help="the same for many: CSV with the columns name, ms")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    args = parser.parse_args(argv)
    if args.size and not 64 <= args.size <= 2048:
        parser.error(f"--size {args.size}: 64 to 2048 px, or leave it out for the size of the source")
    if args.size and args.crop == "none":
        parser.error("--size needs a square: leave out --crop none")
    if not 1.2 <= args.margin <= 6 or args.min_seconds <= 0 or args.max_seconds < 2 * args.min_seconds:
        parser.error(
            "--margin must lie in 1.2 to 6, --min_seconds above 0, --max_seconds at twice --min_seconds or more"
        )
    return args


def main(argv=None):
    """Exit status: 0 every video was judged and some were kept, 1 none kept or the output failed, 130 after Ctrl-C."""
    args = parse(argv)
    rules = Rules(min_s=args.min_seconds, max_s=args.max_seconds, min_face_px=args.min_face, margin=args.margin)
    settings = CutSettings(
        args.size // 2 * 2, args.crop, args.several_faces, args.allow_silent, rules, args.quality, args.offset
    )
    try:
        videos = find_videos(args.input)
        if not videos:
            raise ClipsError(f"no video found in {', '.join(args.input)}: looked for {' '.join(VIDEO_SUFFIXES)}")
        jobs = make_jobs(videos, args.output, settings, read_shifts(args.shift_ms, args.shifts))
        entries, done_before = run(jobs, args.output, args.workers)
    except KeyboardInterrupt:
        print(
            f"\nstopped; finished videos are in {args.output}/report.jsonl: run the same command to go on",
            file=sys.stderr,
        )
        return 130
    except (ClipsError, LedgerError, LipSyncError, VideoError, WorkerError, AssetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if done_before:
        print(f"{done_before} of {len(jobs)} videos were done before")
    print(summary(entries), end="")
    return 0 if any(entry["clips"] for entry in entries.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
