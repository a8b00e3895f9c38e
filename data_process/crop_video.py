"""Videos -> the face, cut out by a square that does not move: <name>.mp4 at 25 fps and 256 px with its sound.

    python -m data_process.crop_video --input talk.mp4 --output /data/faces

This is `data_process.clips` with the settings that people know from face-cropping scripts: every stretch with a face is kept
(the largest face, where there are several), the picture is scaled to --size, and what is found wrong is said and not judged.
Files, report and going on after an interruption are those of `clips`. Pieces of 5 s: `data_process.split_video`.
"""

import argparse
import sys

from data_process import clips
from data_process.clip_files import ClipFilesError, check_apart
from data_process.segments import Rules

LONGEST_S = 600  # longer stretches are divided: the landmarks of ten minutes are about 90 MB


def arguments(argv=None):
    """Command line -> that of `data_process.clips`."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.crop_video",
        description="Crop videos to the face, at 25 fps with 16 kHz mono sound.",
    )
    parser.add_argument(
        "--input", nargs="+", required=True, help="video files, or folders that are searched to the bottom"
    )
    parser.add_argument("--output", required=True, help="folder for the crops and the report, beside the input")
    parser.add_argument(
        "--size", type=int, default=256, help="side of the crop in px, 64 to 2048 (default %(default)s)"
    )
    parser.add_argument(
        "--margin", type=float, default=Rules().margin, help="side of the square over the face (default %(default)s)"
    )
    parser.add_argument("--min_seconds", type=float, default=1.0, help="shortest stretch, s (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default %(default)s)")
    args = parser.parse_args(argv)
    try:
        check_apart(args.input, args.output)
    except ClipFilesError as error:
        parser.error(str(error))
    given = {
        "size": args.size, "margin": args.margin, "min_seconds": args.min_seconds, "workers": args.workers,
        "max_seconds": max(LONGEST_S, 2 * args.min_seconds), "several_faces": "largest", "quality": "report",
        "offset": "report", "min_face": 1,
    }  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["--input", *args.input, "--output", args.output, *options, "--allow_silent"]


def main(argv=None):
    """Exit status: that of `data_process.clips`."""
    return clips.main(arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
