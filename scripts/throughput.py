"""How fast clips become records: mp4 and wav in, finished LMDB records out, as a multiple of real time, and where the time goes.

    python -m scripts.throughput --clips data/clips              # the first clips of the folder, drawn at 256 px and in 720p
    python -m scripts.throughput --workers 4 --json speed.json   # clips made from the committed demo

Clips come without landmarks here, so that each is decoded, its face followed, fitted, and its sound heard (phoneme posteriors, mel,
energy), as `data_process.build_lmdb` does with foreign clips; those of `data_process.clips` bring their landmarks and go faster.
First one process does them all, then --workers processes at once. "by the clock" is what a person waits; "by processor time" is what
one core gives where other programs do not take it away. Networks are loaded, and each worker is started, before time is taken.
Shares are of one process, seen by Python's profiler.
"""

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from data_process.build_lmdb import StoreError, find_clips
from data_process.clip_records import process_clip
from data_process.parallel import WorkerError, map_in_order
from data_process.store import StoreWriter
from data_process.video import VideoError, VideoWriter, read_frames, write_wav
from deep_3drecon.track import FPS
from deepspeech import SAMPLE_RATE, AudioError, load_audio
from deepspeech.timing import SAMPLES_PER_FRAME
from scripts.benchmarks import material

SIZES = {256: (256, 256), 720: (1280, 720)}  # name -> width, height
ROUNDS = 3  # times that the workers do all clips: what they lose at the end of the last weighs less
# stage -> (file, function) of the calls that belong to it; time inside another stage that it calls is that stage's
STAGES = {
    "decode": [("video.py", "read_frames"), ("video.py", "probe")],
    "landmarks": [("landmarks.py", "track")],
    "fit": [("face_tracks.py", "track_landmarks")],
    "fit quality": [("face_tracks.py", "track_quality")],
    "posteriors": [("posteriors.py", "get_prob")],
    "mel, energy": [("features.py", "features")],
    "pack": [("schema.py", "pack_track"), ("schema.py", "pack_array")],
    "write": [("store.py", "add")],
}
INSIDE = {"landmarks": ["decode"], "mel, energy": ["posteriors"]}  # stage -> stages that run within its calls


def draw(clips, folder, size, seconds):
    """Write the first `seconds` of clips {name: path} at one of SIZES -> [path, ...]. A square picture gets grey sides in 720p."""
    width, height = SIZES[size]
    out = []
    for name, path in clips.items():
        frames = [
            _fitted(frame, width, height) for frame in read_frames(path, fps=FPS, max_frames=round(seconds * FPS))
        ]
        target = Path(folder, f"{name}.mp4")
        sound = load_audio(path.with_suffix(".wav") if path.with_suffix(".wav").is_file() else path)
        sound = np.resize(
            np.pad(sound, (0, max(0, len(frames) * SAMPLES_PER_FRAME - len(sound)))), len(frames) * SAMPLES_PER_FRAME
        )
        with VideoWriter(target, fps=FPS, audio=sound, sample_rate=SAMPLE_RATE) as video:
            for frame in frames:
                video.write(frame)
        write_wav(target.with_suffix(".wav"), sound, SAMPLE_RATE)
        out.append(target)
    return out


def _fitted(frame, width, height):
    """(height, width, 3): the whole frame as large as it fits, in the middle of grey."""
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    canvas = np.full((height, width, 3), 110, np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(frame, size, interpolation=way)
    return canvas


def store_all(results, path, started=0):
    """Write ClipRecords as they come -> seconds of clips written after the first `started`, seconds that took by the clock."""
    begin, seconds = time.perf_counter(), 0.0
    with StoreWriter(path, {"made": "to measure the speed"}) as store:
        for k, result in enumerate(results):
            if result.skipped:
                raise StoreError(result.skipped)
            store.add(f"{k:05d}", "key", "train", result.records, result.info, result.frames)
            seconds += result.info["n_frames"] / FPS
            if k + 1 == started:
                begin, seconds = time.perf_counter(), 0.0
    return seconds, time.perf_counter() - begin


def one_process(paths, folder):
    """Figures of this process doing all clips, and the share of each stage."""
    process_clip(paths[0])
    processor = time.process_time()
    seconds, clock = store_all(map(process_clip, paths), Path(folder, "one.lmdb"))
    figures = {"x_real_time": seconds / clock, "x_real_time_of_processor": seconds / (time.process_time() - processor)}
    profile = cProfile.Profile()
    profile.enable()
    store_all(map(process_clip, paths), Path(folder, "profiled.lmdb"))
    profile.disable()
    return figures | {"seconds": seconds, "shares": shares(pstats.Stats(profile))}


def shares(stats):
    """{stage: share of the whole time} of a profile; "rest" is what no stage claims."""
    spent = {}
    for stage, calls in STAGES.items():
        spent[stage] = sum(
            entry[3]
            for (file, _, name), entry in stats.stats.items()
            for call in calls
            if (Path(file).name, name) == call
        )
    for stage, others in INSIDE.items():
        spent[stage] -= sum(spent[other] for other in others)
    spent["rest"] = stats.total_tt - sum(spent.values())
    return {stage: value / stats.total_tt for stage, value in spent.items()}


def many_processes(paths, folder, workers):
    """Figures of several worker processes doing all clips ROUNDS times, their start left out."""
    warm = [str(paths[0])] * workers
    results = map_in_order(process_clip, warm + [str(path) for path in paths] * ROUNDS, workers)
    seconds, clock = store_all(results, Path(folder, f"{workers}.lmdb"), workers)
    return {"x_real_time": seconds / clock, "seconds": seconds}


def measure(clips, sizes, workers, seconds):
    """{size: {"one", "many"}} of figures."""
    torch.set_num_threads(1)
    out = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="idiolect_throughput_") as folder:
            paths = draw(clips, folder, size, seconds)
            out[size] = {
                "one": one_process(paths, folder),
                "many": many_processes(paths, folder, workers),
                "workers": workers,
            }
    return out


def table(figures):
    """Figures -> text for people."""
    lines = [
        "| clips | one process, by the clock | by processor time | processes | by the clock |",
        "|---|---:|---:|---:|---:|",
    ]
    for size, found in figures.items():
        one, many = found["one"], found["many"]
        lines.append(
            f"| {'x'.join(map(str, SIZES[int(size)]))} | {one['x_real_time']:.2f} x real time | "
            f"{one['x_real_time_of_processor']:.2f} | {found['workers']} | {many['x_real_time']:.2f} x real time |"
        )
    lines += [
        "",
        "| share of the time | " + " | ".join(f"{size} px" for size in figures) + " |",
        "|---|" + "---:|" * len(figures),
    ]
    for stage in (*STAGES, "rest"):
        lines.append(
            f"| {stage} | " + " | ".join(f"{found['one']['shares'][stage]:.1%}" for found in figures.values()) + " |"
        )
    return "\n".join(lines) + "\n"


def demo_clips(folder):
    """{name: path} of two clips made from the committed portrait and sentence."""
    film = material.film(Path(folder))
    second = film.with_name("film_again.mp4")
    second.write_bytes(film.read_bytes())
    return {"film": film, "film_again": second}


def main(argv=None):
    """Exit status: 0 measured, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.throughput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clips", type=Path, help="folder of mp4, with wav beside them or sound inside (default: made from the demo)"
    )
    parser.add_argument(
        "--n_clips", type=int, default=4, help="clips of the folder that are used, 1 to 100 (default 4)"
    )
    parser.add_argument("--seconds", type=float, default=6, help="of each clip at most, 1 to 600 (default 6)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=sorted(SIZES), default=sorted(SIZES), help="256 and 720 by default"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes of the second measurement, 2 to 256 (default 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    args = parser.parse_args(argv)
    if not (1 <= args.n_clips <= 100 and 1 <= args.seconds <= 600 and 2 <= args.workers <= 256):
        parser.error("--n_clips 1 to 100, --seconds 1 to 600 and --workers 2 to 256 are needed")
    try:
        with tempfile.TemporaryDirectory(prefix="idiolect_throughput_") as folder:
            clips = find_clips(args.clips) if args.clips else demo_clips(folder)
            figures = measure(dict(list(clips.items())[: args.n_clips]), args.sizes, args.workers, args.seconds)
    except (StoreError, VideoError, AudioError, WorkerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(figures), end="")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
