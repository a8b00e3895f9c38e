"""Results of the reconstructor on disk: arrays as they are, pictures as video to look at. Written aside, then renamed.

A file that is there already stays, unless overwriting is asked for; nothing is ever deleted.
"""

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

CRF = 12  # of x264: hardly visible losses


def check_target(path, array_kind, overwrite):
    """Refuse a name before the work is done that its result could not have: Path, or None for None.

    array_kind: "numbers" (floats, which no video keeps), "pictures" (T, H, W[, 3]) uint8 or "picture" (H, W, 3) uint8.
    """
    if path is None:
        return None
    path = Path(path)
    allowed = {"numbers": (), "pictures": (".mp4",), "picture": (".png",)}[array_kind] + (".npy", ".npz")
    if path.suffix not in allowed:
        reason = (
            " (a video keeps 8 bits of a number, blurred)" if array_kind == "numbers" and path.suffix == ".mp4" else ""
        )
        raise ValueError(f"{path}: {array_kind} go into a file that ends with {' or '.join(allowed)}{reason}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: is there already: name another file, or say overwrite=True")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} into: make it first")
    return path


def write(path, array, fps=25):
    """One array under the name that `check_target` passed; None writes nothing. Pictures are RGB, or grey (T, H, W)."""
    if path is None:
        return
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        if path.suffix == ".mp4":
            _write_video(part, array, fps)
        elif path.suffix == ".png":
            part.write_bytes(cv2.imencode(".png", np.ascontiguousarray(array[..., ::-1]))[1].tobytes())
        elif path.suffix == ".npy":
            np.save(part, array, allow_pickle=False)
        else:
            np.savez_compressed(part, array)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # ours, and there only when something failed


def _write_video(path, pictures, fps):
    """H.264 in yuv420p, BT.709; odd sides get one repeated row or column."""
    pictures = np.asarray(pictures)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(CRF)})
        height, width = pictures.shape[1:3]
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        stream.codec_context.color_range = 1
        for picture in pictures:
            picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(
                stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"))
            )
        container.mux(stream.encode(None))
