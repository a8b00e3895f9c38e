"""Video and image files to RGB arrays and back, through PyAV (FFmpeg inside a wheel: no system program is called).

Frames are (H, W, 3) uint8 RGB, upright and with square pixels. Reading streams: memory does not grow with length.
Time 0 is the first picture of the video. Writing makes H.264 yuv420p (BT.709, limited range, tagged) with AAC sound.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from data_process.video_writer import EXACT, VideoError, VideoWriter, open_media, write_wav

__all__ = ["ImageError", "VideoError", "VideoInfo", "VideoWriter", "probe", "read_frames", "read_image", "write_wav"]


SLACK = 1e-6  # seconds: rounding of time stamps
VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".flv", ".wmv", ".ts")


class ImageError(ValueError):
    """A picture file that cannot be read."""


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says. Sizes are those of the frames `read_frames` gives."""

    width: int
    height: int
    fps: float
    n_frames: int  # by header, or duration x fps where the container keeps no count
    duration: float  # seconds of picture
    has_audio: bool
    rotation: int  # degrees counter-clockwise that turn the stored picture upright
    codec: str
    audio_start: float  # seconds from the first picture to the first sound sample; 0 without audio


def probe(path):
    """Header of a video file as VideoInfo. Decodes one picture, since the rotation may be stored there."""
    with open_media(path) as container:
        stream = _video_stream(path, container)
        frame = _first_frame(path, container, stream)
        width, height = _square_width(stream, frame), frame.height
        if round(frame.rotation / 90) % 2:
            width, height = height, width
        fps = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)
        duration = _seconds(stream.duration, stream) or (container.duration or 0) / av.time_base
        n_frames = stream.frames or max(1, int(duration * fps + 0.5))
        audio = container.streams.audio[0] if container.streams.audio else None
        audio_start = 0.0
        if audio is not None and audio.start_time is not None:
            audio_start = _seconds(audio.start_time, audio) - (_seconds(stream.start_time, stream) or 0.0)
        return VideoInfo(
            width,
            height,
            fps,
            n_frames,
            duration or n_frames / fps,
            audio is not None,
            int(round(frame.rotation)) % 360,
            stream.codec_context.name,
            audio_start,
        )


def read_frames(path, fps=None, start=0.0, max_frames=None, partial=False, watch=None):
    """Yield the frames of a video, (H, W, 3) uint8 RGB, upright.

    path: any file FFmpeg reads, variable rate included.
    fps: None for the frames as stored, else a rate in Hz: frame k is the picture nearest in time to start + k / fps.
    start: seconds from the first picture. max_frames: stop after so many.
    partial: a damaged or cut file ends quietly where the damage begins; otherwise VideoError is raised there, after
        the sound part was given.
    watch: called with (seconds, frame) for every stored picture from `start` on, before the frame of that time is given;
        pictures that `fps` leaves out are among them.
    """
    if fps is not None and not fps > 0 or start < 0:
        raise VideoError(f"{path}: fps {fps} and start {start} s given, needed fps > 0 and start >= 0")
    if max_frames is not None and max_frames <= 0:
        return
    timed = _timed_frames(path, start, partial)
    if watch is not None:
        timed = _watched(timed, watch)
    if fps is None:
        pictures = (picture for time, picture in timed if time >= start - SLACK)
    else:
        pictures = _nearest_in_time(timed, fps, start)
    count = 0
    for picture in pictures:
        yield _rgb(*picture) if watch is None else picture
        count += 1
        if count == max_frames:
            return
    if count == 0:
        raise VideoError(f"{path}: no picture at or after {start} s: use an earlier start")


def read_image(path):
    """Read a picture as (H, W, 3) uint8 RGB: grey is spread, alpha laid over white, 16 bit scaled, EXIF turn applied.

    Formats beyond OpenCV (AVIF, HEIC) and videos, of which the first picture is taken, go through FFmpeg.
    """
    path = Path(path)
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}: give the path of a picture file") from error
    try:
        raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
            return _over_white(raw)
        if raw is not None and raw.dtype == np.float32:  # HDR formats hold light, 1.0 being white
            image = np.round(255 * np.clip(raw, 0, 1) ** (1 / 2.2)).astype(np.uint8)
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        image = None if raw is None else cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # this flag honours EXIF
    except cv2.error as error:
        raise ImageError(f"{path}: OpenCV refuses it ({error.err}): save it as PNG or JPEG") from error
    if image is not None:
        return image
    try:
        return next(read_frames(path, max_frames=1, partial=True))
    except VideoError as error:
        raise ImageError(f"{path}: {data.size} bytes of no known picture format: save it as PNG or JPEG") from error


def _video_stream(path, container):
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise VideoError(f"{path}: holds no picture stream: give a video file")
    streams[0].thread_type = "AUTO"
    streams[0].codec_context.thread_count = 2
    return streams[0]


def _first_frame(path, container, stream):
    try:
        return next(container.decode(stream))
    except (av.error.FFmpegError, StopIteration) as error:
        raise VideoError(f"{path}: not one picture can be decoded: the file is damaged or empty") from error


def _seconds(ticks, stream):
    return None if ticks is None else float(ticks * stream.time_base)


def _timed_frames(path, start, partial):
    """Yield (seconds, (VideoFrame, width to show)), beginning with the picture on view at `start`; then check the end."""
    with open_media(path) as container:
        stream = _video_stream(path, container)
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        origin, time, reason, held = _seconds(stream.start_time, stream), None, None, None
        if start > 2 and origin is not None:
            _seek_before(container, stream, start + origin)
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    reason = "damaged picture data"
                    break
                origin = frame.time if origin is None else origin
                if frame.time is not None:
                    time = frame.time - (origin or 0)
                else:
                    time = 0 if time is None else time + step
                picture = time, (frame, _square_width(stream, frame))
                if time < start - SLACK:
                    held = picture
                    continue
                if held is not None and time > start + SLACK:
                    yield held
                held = None
                yield picture
        except av.error.FFmpegError as error:
            reason = error.strerror
        if held is not None and start < time + step:
            yield held
        if time is not None:
            reason = reason or _missing_end(container, stream, time + step, step)
    if time is None:
        raise VideoError(f"{path}: not one picture can be decoded ({reason or 'empty stream'}): use an intact copy")
    if reason is not None and not partial:
        raise VideoError(f"{path}: {reason} after {time + step:.2f} s: use an intact copy, or read with partial=True")


def _watched(timed, watch):
    """Show every picture, as RGB, to `watch` on its way; yields (seconds, RGB)."""
    for time, picture in timed:
        frame = _rgb(*picture)
        watch(time, frame)
        yield time, frame


def _missing_end(container, stream, end, step):
    """What to say when decoding ended well before the length in the header; None when it did not."""
    announced = _seconds(stream.duration, stream)
    if container.format.name == "avi":  # of a cut AVI the duration is guessed anew, but the count of pictures stays
        announced = stream.frames * step
    # AVI headers count up to two pictures too many, edit lists cut a few
    if announced is not None and announced - end > max(0.1, 3 * step):
        return f"cut off (its header says {announced:.2f} s)"
    return None


def _seek_before(container, stream, seconds):
    """Jump to a key picture at least one second before `seconds`, or stay at the beginning where seeking fails."""
    try:
        container.seek(int((seconds - 1) / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        container.seek(0)


def _nearest_in_time(timed, fps, start):
    """Choose the picture nearest to each instant start + k / fps, up to the end of the last picture."""
    k, previous, interval = 0, None, 1 / fps
    for time, frame in timed:
        if previous is not None:
            interval = time - previous[0]
            while start + k / fps < previous[0] + interval / 2:
                yield previous[1]
                k += 1
        previous = (time, frame)
    if previous is not None:
        total = round((previous[0] + interval - start) * fps)
        for _ in range(k, max(total, min(1, k + 1))):
            yield previous[1]


def _square_width(stream, frame):
    """Width in pixels that makes the stored pixels square (nonsense aspects are ignored)."""
    aspect = stream.sample_aspect_ratio or 1
    return round(frame.width * aspect) if 0.2 < aspect < 5 else frame.width


def _rgb(frame, width):
    """(H, W, 3) uint8 RGB of a decoded frame, stretched to `width` (square pixels), then turned upright."""
    # swscale reads untagged colour as BT.601; players read untagged HD as BT.709.
    is_untagged_hd = int(frame.colorspace) == 2 and (frame.width >= 1280 or frame.height > 576)
    space = Colorspace.ITU709 if is_untagged_hd else None
    image = frame.to_ndarray(format="rgb24", width=width, interpolation=EXACT, src_colorspace=space, threads=1)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _over_white(raw):
    """BGRA of 8 or 16 bit, or float -> RGB uint8 over white."""
    scale = {"uint8": 255.0, "uint16": 65535.0}.get(raw.dtype.name, 1.0)
    alpha = raw[..., 3:].astype(np.float32) / scale
    colour = raw[..., 2::-1].astype(np.float32) / scale
    return np.round(255 * (colour * alpha + 1 - alpha)).clip(0, 255).astype(np.uint8)
