"""Videos -> pieces of 5 s with their sound: <name>#<k>.mp4 at 25 fps and <name>#<k>.wav, 16 kHz mono, 640 samples a frame.

    python -m data_process.split_video --input /data/talks --output /data/pieces
    python -m data_process.split_video --input /data/clips --output /data/pieces --seconds 10

Picture and sound are divided at the same instants, and the rest at the end is kept or left as one: it is kept if it lasts
--shortest, 3 s. No face is looked for; `data_process.clips` does that, before or after. What it made may be divided too: its
own sound is taken then, and its landmarks are divided with it. The same command goes on after an interruption; pieces.json
tells which videos are done and what became of them.
"""

import argparse
import functools
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process.clip_files import PART_PREFIX, check_apart, is_foreign, is_other, place_clip, remove_clip
from data_process.clips import ClipsError, find_videos, make_jobs
from data_process.cutting import MISSING_SOUND_S, CutSettings, frames_of_sound, sound_of
from data_process.examine import Rejected
from data_process.outputs import make_folder, write_aside
from data_process.parallel import WorkerError, map_in_order
from data_process.video import VIDEO_SUFFIXES, VideoError, VideoWriter, probe, read_frames, write_wav
from deep_3drecon.track import FPS
from deepspeech import SAMPLE_RATE

LEDGER = "pieces.json"


def split_video(job, seconds=5.0, shortest=3.0):
    """Divide the video of a `cutting.Job` -> {"source", "key", "pieces": names, "notes", "reason": why there are none}.

    Trouble with the video ends in the reason; only trouble with the output raises.
    """
    entry = {"source": job.source, "key": job.key, "pieces": [], "notes": [], "reason": ""}
    try:
        info = probe(job.source)
        about = _about(job.source)
        raw = about.get("source", job.source)
        if about and job.wav:
            info = replace(info, has_audio=False)  # the wav of a clip is its sound before it was encoded
        sound = sound_of(job, info, entry)[0]
        with tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=job.output) as folder:
            spans = _write_pieces(job, sound, Path(folder), round(seconds * FPS), round(shortest * FPS))
            for k, (start, stop) in enumerate(spans):
                name = f"{job.name}#{k}"
                if is_foreign(job.output, name, raw):
                    raise Rejected(f"{name}.* is in the way and not of this video: give another output folder")
                _write_rest(job, about, Path(folder, name), sound, start, stop)
                place_clip(folder, job.output, name)
                entry["pieces"].append(name)
    except (Rejected, VideoError) as error:
        entry["reason"] = str(error)
    if not (entry["pieces"] or entry["reason"]):
        entry["reason"] = f"shorter than {shortest:g} s"
    return entry


def _write_pieces(job, sound, folder, length, least):
    """mp4 of each piece of `length` frames, the last one of `least` at least -> [(first frame, end), ...]."""
    end = None if sound is None else int((len(sound) / SAMPLE_RATE + MISSING_SOUND_S) * FPS)
    spans, video, start = [], None, 0
    try:
        for t, frame in enumerate(read_frames(job.source, fps=FPS, max_frames=end, partial=True)):
            if video is None:
                start = t
                wav = frames_of_sound(sound, start, start + length)
                name = f"{job.name}#{len(spans)}"
                video = VideoWriter(folder / f"{name}.mp4", fps=FPS, audio=wav, sample_rate=SAMPLE_RATE, threads=1)
            video.write(frame)
            if video.n_frames == length:
                video.close()
                spans.append((start, t + 1))
                video = None
    finally:
        if video is not None:
            video.close()
    if video is not None and video.n_frames >= least:
        spans.append((start, start + video.n_frames))
    return spans


def _write_rest(job, about, part, sound, start, stop):
    """wav, landmarks where the source has some, and json of one piece beside its mp4."""
    write_wav(f"{part}.wav", frames_of_sound(sound, start, stop), SAMPLE_RATE)
    landmarks = Path(job.source).with_suffix(".landmarks.npz")
    if about and landmarks.is_file():
        with np.load(landmarks, allow_pickle=False) as npz:
            arrays = {name: npz[name] if name == "frame_size" else npz[name][start:stop] for name in npz.files}
        np.savez_compressed(f"{part}.landmarks.npz", **arrays)
    told = {
        "name": part.name, "source": about.get("source", job.source), "part_of": job.source, "key": job.key, "fps": FPS,
        "n_frames": stop - start, "start_s": about.get("start_s", 0) + start / FPS,
    }  # fmt: skip
    Path(f"{part}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _about(source):
    """What `clips` wrote of a finished clip, {} for any other video."""
    path = Path(source).with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text())
    except ValueError:
        return {}
    return about if isinstance(about, dict) and {"source", "n_frames"} <= about.keys() else {}


def run(jobs, output, seconds=5.0, shortest=3.0, workers=1, progress=True):
    """Divide what is not divided yet -> {name: entry} of these videos."""
    output = make_folder(output)
    for stale in output.glob(PART_PREFIX + "*"):  # left by a run that was killed
        shutil.rmtree(stale)
    ledger = read_ledger(output)
    lengths = [seconds, shortest]
    for job in jobs:
        before = ledger["videos"].get(job.name)
        if before and (ledger["lengths"] != lengths or is_other(before["source"], job.source)):
            raise ClipsError(
                f"{output}: {job.name} was divided from {before['source']} into pieces of {ledger['lengths'][0]:g} s, "
                f"{ledger['lengths'][1]:g} s at least: give another output folder"
            )
    ledger["lengths"] = lengths
    todo = [job for job in jobs if not _is_done(job, ledger["videos"].get(job.name), output)]
    function = functools.partial(split_video, seconds=seconds, shortest=shortest)
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="video", disable=not progress) as bar:
        for job, entry in zip(todo, map_in_order(function, todo, workers), strict=False):
            for name in ledger["videos"].get(job.name, {}).get("pieces", []):
                if name not in entry["pieces"]:
                    remove_clip(output, name)
            ledger["videos"][job.name] = entry
            write_aside(output / LEDGER, json.dumps(ledger, indent=1, ensure_ascii=False) + "\n")
            bar.update()
    return {job.name: ledger["videos"][job.name] for job in jobs}


def read_ledger(output):
    """pieces.json of a folder: {"lengths": [of a piece, of the last one at least], "videos": {name: entry}}."""
    path = Path(output, LEDGER)
    if not path.is_file():
        return {"lengths": None, "videos": {}}
    try:
        ledger = json.loads(path.read_text())
        return {"lengths": list(ledger["lengths"]), "videos": dict(ledger["videos"])}
    except (ValueError, LookupError, TypeError) as error:
        raise ClipsError(f"{path}: is no ledger of this command ({error}): give another output folder") from error


def _is_done(job, entry, output):
    if entry is None or entry["key"] != job.key:
        return False
    return all(Path(output, name + ".json").is_file() for name in entry["pieces"])


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.split_video",
        description="Divide videos into pieces of a few seconds with their sound.",
    )
    parser.add_argument(
        "--input", nargs="+", required=True, help="video files, or folders that are searched to the bottom"
    )
    parser.add_argument("--output", required=True, help="folder for the pieces, beside the input")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a piece (default %(default)s)")
    parser.add_argument(
        "--shortest", type=float, default=3.0, help="the last piece is kept from this many s on (default %(default)s)"
    )
    parser.add_argument("--allow_silent", action="store_true", help="divide videos without sound; their wav is zeros")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    args = parser.parse_args(argv)
    if not 1 / FPS <= args.shortest <= args.seconds:
        parser.error("--shortest must lie above 0 and not above --seconds")
    return args


def main(argv=None):
    """Exit status: 0 there are pieces, 1 there are none or the output failed, 130 after Ctrl-C."""
    args = parse(argv)
    try:
        check_apart(args.input, args.output)
        videos = find_videos(args.input)
        if not videos:
            raise ClipsError(f"no video found in {', '.join(args.input)}: looked for {' '.join(VIDEO_SUFFIXES)}")
        jobs = make_jobs(videos, args.output, CutSettings(allow_silent=args.allow_silent), {})
        entries = run(jobs, args.output, args.seconds, args.shortest, args.workers)
    except KeyboardInterrupt:
        print(f"\nstopped; the pieces in {args.output} are whole: run the same command to go on", file=sys.stderr)
        return 130
    except (ClipsError, WorkerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    n_pieces, left_out = sum(len(e["pieces"]) for e in entries.values()), [n for n, e in entries.items() if e["reason"]]
    print(f"{args.output}: {n_pieces} pieces of {len(entries) - len(left_out)} videos, {len(left_out)} videos left out")
    for name in left_out:
        print(f"  {name}: {entries[name]['reason']}")
    return 0 if n_pieces else 1


if __name__ == "__main__":
    sys.exit(main())
