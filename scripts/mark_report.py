"""How often the invisible mark is found again: stamps videos, re-encodes them, looks for it; looks at the unmarked ones too.

    python -m scripts.mark_report --videos FOLDER [--crf 28] [--scale 0.5] [--seconds 4]

Prints PSNR of the marked frames, the share found again and the scores; then the scores of the videos as they came, of which none
may reach the threshold. The marked video is encoded twice: at CRF 18 as this program does, then as asked.
"""

import argparse
import sys
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_process.video import VideoError, VideoWriter, read_frames
from models import mark


def write(path, frames, crf):
    with VideoWriter(path, crf=crf, preset="medium", threads=1) as video:
        for frame in frames:
            video.write(frame)
    return path


def attack(frames, folder, crf, scale):
    """Marked frames -> what is left of them after both encodings and the change of size."""
    first = write(folder / "first.mp4", frames, 18)
    height, width = frames[0].shape[:2]
    size = max(16, 2 * round(scale * width / 2)), max(16, 2 * round(scale * height / 2))
    small = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in read_frames(first))
    return read_frames(write(folder / "second.mp4", small, crf))


def measure(path, seconds, crf, scale):
    """(PSNR of the mark in dB, Detection after the attack, Detection of the video as it came)."""
    frames = list(islice(read_frames(path, fps=25, partial=True), round(25 * seconds)))
    marked = [mark.stamp(frame) for frame in frames]
    errors = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(frames[::5], marked[::5], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        found = mark.detect(attack(marked, Path(folder), crf, scale))
    return 10 * np.log10(255**2 / np.mean(errors)), found, mark.detect(frames)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m scripts.mark_report", description=__doc__.split("\n")[0])
    parser.add_argument("--videos", required=True, type=Path, nargs="+", help="video files or folders of them")
    parser.add_argument("--crf", type=int, default=28)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each video at most")
    args = parser.parse_args(argv)
    paths = [p for given in args.videos for p in (sorted(given.glob("*.mp4")) if given.is_dir() else [given])]
    rows = []
    for path in tqdm(paths, unit="video", disable=None):
        try:
            rows.append(measure(path, args.seconds, args.crf, args.scale))
        except VideoError as error:
            print(f"note: {error}", file=sys.stderr)
    if not rows:
        print("error: no video could be read", file=sys.stderr)
        return 1
    psnr = np.array([row[0] for row in rows])
    scores = np.array([row[1].score for row in rows])
    right = np.mean([row[1].payload == mark.SYNTHETIC for row in rows])
    plain = np.array([row[2].score for row in rows])
    print(f"{len(rows)} videos; PSNR of the mark: mean {psnr.mean():.1f} dB, least {psnr.min():.1f} dB")
    print(
        f"CRF {args.crf}, {args.scale:g} of the size: found with the right payload {100 * right:.1f} %, "
        f"score median {np.median(scores):.1f}, 5th percentile {np.percentile(scores, 5):.1f}, least {scores.min():.1f}"
    )
    print(f"unmarked: {(plain >= mark.THRESHOLD).sum()} false alarms, largest score {plain.max():.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
