"""Is this video marked as made by this program? Looks for the invisible mark of `models.mark`.

    python -m scripts.detect_mark VIDEO [VIDEO ...] [--json] [--crops]

Exit status: 0 all videos carry the mark, 1 one or more do not, 2 one could not be read. The mark lives through H.264 at CRF 28 and
half the size, other sizes and shapes, grey pictures and mirroring; not through turning. With --crops a video
without the mark is searched once more for one whose borders were cut off, by up to 6 % a side; that costs seconds.
"""

import argparse
import json
import sys
from pathlib import Path

from data_process.video import VideoError, probe, read_frames
from models import mark, provenance


def look(path, crops=False):
    """mark.Detection of a video file: of at most `mark.SAMPLED_FRAMES` frames, spread over its length."""
    step = max(1, probe(path).n_frames // mark.SAMPLED_FRAMES)
    frames = read_frames(path, partial=True)
    found = mark.detect(frame for k, frame in enumerate(frames) if k % step == 0)
    if crops and not found.found:
        cropped = mark.detect_cropped(read_frames(path, max_frames=1))
        return cropped if cropped.found else found
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m scripts.detect_mark", description=__doc__.split("\n")[0])
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON a video, also whether a C2PA manifest is in it"
    )
    parser.add_argument("--crops", action="store_true", help="also look for cut borders")
    args = parser.parse_args(argv)
    status = 0
    for path in args.videos:
        try:
            found = look(path, args.crops)
        except VideoError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
            continue
        status = max(status, 0 if found.found else 1)
        if args.json:
            signed = provenance.read(path) is not None
            print(json.dumps({"video": str(path), "c2pa": signed} | found.as_dict()))
        else:
            said = f"synthetic, payload {found.payload}" if found.found else "no mark"
            print(
                f"{path}: {said} (score {found.score:.1f} of 22.6, needed is {mark.THRESHOLD}; {found.frames} frames)"
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
