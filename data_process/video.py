"""Video and image files to RGB arrays and back, through PyAV (FFmpeg inside a wheel: no system program is called).

Frames are (H, W, 3) uint8 RGB, upright and with square pixels. Reading streams: memory does not grow with length.
Time 0 is the first picture of the video. Writing makes H.264 yuv420p (BT.709, limited range, tagged) with AAC sound.
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import soundfile
from av.video.reformatter import ColorRange, Colorspace, Interpolation

# swscale's short cuts are off by up to 2 levels; these flags keep a round trip within rounding.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
AAC_RATE = 48000  # an AAC frame is 1024 samples: 21 ms at this rate, so sound ends within one picture of its end


class VideoError(ValueError):
    """A video that cannot be read or written."""


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
    with _open(path) as container:
        stream = _video_stream(path, container)
        frame = _first_frame(path, container, stream)
        width, height = _square_width(stream, frame), frame.height
        if round(frame.rotation / 90) % 2:
            width, height = height, width
        fps = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)
        duration = _seconds(stream.duration, stream) or (container.duration or 0) / av.time_base
        n_frames = stream.frames or max(1, round(duration * fps))
        audio = container.streams.audio[0] if container.streams.audio else None
        audio_start = 0.0
        if audio is not None and audio.start_time is not None:
            audio_start = _seconds(audio.start_time, audio) - (_seconds(stream.start_time, stream) or 0.0)
        return VideoInfo(width, height, fps, n_frames, duration or n_frames / fps, audio is not None,
                         int(round(frame.rotation)) % 360, stream.codec_context.name, audio_start)


def read_frames(path, fps=None, start=0.0, max_frames=None, partial=False):
    """Yield the frames of a video, (H, W, 3) uint8 RGB, upright.

    path: any file FFmpeg reads, variable rate included.
    fps: None for the frames as stored, else a rate in Hz: frame k is the picture nearest in time to start + k / fps.
    start: seconds from the first picture. max_frames: stop after so many.
    partial: a damaged or cut file ends quietly where the damage begins; otherwise VideoError is raised there, after
        the sound part was given.
    """
    if fps is not None and not fps > 0 or start < 0:
        raise VideoError(f"{path}: fps {fps} and start {start} s given, needed fps > 0 and start >= 0")
    if max_frames is not None and max_frames <= 0:
        return
    timed = _timed_frames(path, start, partial)
    chosen = (frame for _, frame in timed) if fps is None else _nearest_in_time(timed, fps, start)
    count = 0
    for frame in chosen:
        yield _rgb(*frame)
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
        raise ImageError(f"{path}: {data.size} bytes that are no known picture format: save it as PNG or JPEG") from error


def write_wav(path, wav, sample_rate):
    """Write sound as 16 bit PCM. wav: (N,) or (N, C) float in [-1, 1]; louder samples are clipped."""
    path = Path(path)
    part = path.with_name(path.name + ".part.wav")
    try:
        soundfile.write(part, np.clip(wav, -1, 1), int(sample_rate), subtype="PCM_16")
        os.replace(part, path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise VideoError(f"{path}: cannot write sound: {error}") from error
    finally:
        part.unlink(missing_ok=True)


class VideoWriter:
    """Write frames and sound as mp4; a context manager.

        with VideoWriter("out.mp4", audio=wav, sample_rate=16000) as video:
            for frame in frames:            # (H, W, 3) uint8 RGB, all of one size
                video.write(frame)

    fps: pictures a second. audio: None, (N,) or (N, C) samples in [-1, 1] with their sample_rate in Hz, or the path of
    a file with sound. Sound is cut or filled with silence to the length of the picture. crf, preset: x264's quality (0
    lossless, 51 worst) and effort. Odd sizes get one repeated row or column, since yuv420p holds pairs. The file grows
    as `<path>.part.mp4` and takes its name on success only; on an error the part is removed.
    """

    def __init__(self, path, fps=25, audio=None, sample_rate=None, crf=18, preset="veryfast"):
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part.mp4")
        if self.path.suffix.lower() != ".mp4":
            raise VideoError(f"{self.path}: only mp4 is written: end the name with .mp4")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.n_frames, self.size, self._picture = 0, None, None
        self._options = {"crf": str(crf), "preset": preset}
        self._sound = None if audio is None else _SoundSource(audio, sample_rate)
        try:
            self._container = av.open(str(self.part), "w", format="mp4", options={"movflags": "+faststart"})
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path}: cannot be written ({error.strerror}): is the folder there, and writable?") from error

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()
        else:
            self._discard()

    def write(self, frame):
        """Append one frame, (H, W, 3) uint8 RGB; the first one sets the size."""
        frame = np.ascontiguousarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise VideoError(f"{self.path}: frame of shape {frame.shape}, {frame.dtype}: needed (H, W, 3) uint8 RGB")
        if self.size is None:
            self._start(frame.shape[1], frame.shape[0])
        if (frame.shape[1], frame.shape[0]) != self.size:
            raise VideoError(f"{self.path}: frame {self.n_frames} is {frame.shape[1]}x{frame.shape[0]}, "
                             f"the first was {self.size[0]}x{self.size[1]}: write frames of one size")
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=EXACT)
        picture.pts, picture.time_base = self.n_frames, 1 / self.fps
        self.n_frames += 1
        self._mux(self._picture, picture)
        self._mux_sound()

    def close(self):
        """Finish the file and give it its name."""
        if self.n_frames == 0:
            self._discard()
            raise VideoError(f"{self.path}: no frame was written: nothing to save")
        self._mux(self._picture, None)
        if self._sound is not None:
            self._mux(self._track, None)
        try:
            self._container.close()
            os.replace(self.part, self.path)
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)
        self._close_sound()

    def _start(self, width, height):
        if not 16 <= min(width, height) <= max(width, height) <= 16384:
            raise VideoError(f"{self.path}: frames of {width}x{height}: needed 16 to 16384 pixels a side")
        self.size = (width, height)
        self._picture = self._container.add_stream("libx264", rate=self.fps, options=self._options)
        context = self._picture.codec_context
        self._picture.width, self._picture.height = width + width % 2, height + height % 2
        self._picture.pix_fmt = "yuv420p"
        context.time_base = 1 / self.fps
        context.colorspace = context.color_primaries = context.color_trc = 1  # 1 is BT.709 in all three tables
        context.color_range = ColorRange.MPEG
        if self._sound is not None:
            self._track = self._container.add_stream("aac", rate=AAC_RATE, layout=self._sound.layout)
            self._track.bit_rate = 128000

    def _mux_sound(self):
        """Send the sound that belongs to the pictures so far: the muxer then never holds much of either."""
        if self._sound is None:
            return
        samples = self._sound.take(round(self.n_frames * self._sound.rate / self.fps))
        if samples.shape[1] == 0:
            return
        chunk = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._sound.layout)
        chunk.sample_rate, chunk.time_base = self._sound.rate, Fraction(1, self._sound.rate)
        chunk.pts = self._sound.taken - samples.shape[1]
        self._mux(self._track, chunk)

    def _mux(self, stream, frame):
        try:
            self._container.mux(stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)

    def _fail(self, error):
        self._discard()
        raise VideoError(f"{self.path}: writing stopped after {self.n_frames} frames ({error.strerror}); the part was "
                         "removed: is the disk full?") from error

    def _discard(self):
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError):
            pass  # the file is thrown away: what matters is the error that led here
        finally:
            self.part.unlink(missing_ok=True)
            self._close_sound()

    def _close_sound(self):
        if self._sound is not None:
            self._sound.close()


class _SoundSource:
    """Samples of an array or a file, handed out up to a given length; silence once they are used up."""

    def __init__(self, audio, sample_rate):
        self._file, self._rest, self.taken = None, None, 0
        if isinstance(audio, (str, Path)):
            self._open(audio)
            return
        samples = np.asarray(audio)
        if not sample_rate:
            raise VideoError("audio given as an array without sample_rate: say how many samples a second it has")
        if not np.issubdtype(samples.dtype, np.floating) or samples.ndim not in (1, 2) or not np.isfinite(samples).all():
            raise VideoError(f"audio of shape {samples.shape}, {samples.dtype}: needed (N,) or (N, C) finite floats in [-1, 1]")
        samples = samples[None] if samples.ndim == 1 else samples.T
        self.rate, self.layout = int(sample_rate), "stereo" if len(samples) == 2 else "mono"
        self._rest = samples if len(samples) <= 2 else samples.mean(0, keepdims=True)
        self._blocks = iter(())

    def _open(self, path):
        self._file = _open(path)
        if not self._file.streams.audio:
            self._file.close()
            raise VideoError(f"{path}: holds no sound: give a file with sound, or no audio")
        stream = self._file.streams.audio[0]
        self.rate, self.layout = stream.codec_context.sample_rate, "mono" if stream.codec_context.channels == 1 else "stereo"
        self._blocks = self._decoded(path, stream)
        self._rest = np.zeros((1 if self.layout == "mono" else 2, 0), np.float32)

    def _decoded(self, path, stream):
        resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=self.rate)
        try:
            for frame in self._file.decode(stream):
                for block in resampler.resample(frame):
                    yield block.to_ndarray()
        except av.error.FFmpegError as error:
            raise VideoError(f"{path}: sound cannot be decoded ({error.strerror}): use an intact copy") from error

    def take(self, until):
        """(C, n) float32: samples `taken` to `until`."""
        wanted = until - self.taken
        while self._rest.shape[1] < wanted:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((len(self._rest), wanted - self._rest.shape[1]), np.float32)
            self._rest = np.concatenate([self._rest, block], 1)
        samples, self._rest = self._rest[:, :wanted], self._rest[:, wanted:]
        self.taken = until
        return np.ascontiguousarray(samples.clip(-1, 1), np.float32)

    def close(self):
        if self._file is not None:
            self._file.close()


# ---------------------------------------------------------------------------------------------- reading

def _open(path):
    try:
        return av.open(str(path))
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: cannot be opened as video ({error.strerror}): the file is missing, cut off before "
                         "its index, or not a video") from error


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
    """Yield (seconds, (VideoFrame, width to show)) from `start` on (one frame earlier where start falls between two), then check the end."""
    with _open(path) as container:
        stream = _video_stream(path, container)
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        origin = _seconds(stream.start_time, stream)
        if start > 2 and origin is not None:
            _seek_before(container, stream, start + origin)
        time, reason, held = None, None, None
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    reason = "damaged picture data"
                    break
                origin = frame.time if origin is None else origin
                time = frame.time - origin if frame.time is not None else (-step if time is None else time) + step
                picture = (frame, _square_width(stream, frame))
                if time < start - 1e-6:
                    held = (time, picture)
                    continue
                if held is not None:
                    yield held
                    held = None
                yield time, picture
        except av.error.FFmpegError as error:
            reason = error.strerror
        if reason is None and stream.duration is not None and time is not None:
            missing = _seconds(stream.duration, stream) - (time + step)
            # MPEG program streams estimate their length, AVI indexes may count two frames too many
            if missing > max(0.1, 3 * step):
                reason = "the file is cut off"
        if time is None:
            raise VideoError(f"{path}: not one picture can be decoded ({reason or 'empty stream'})")
        if reason is not None and not partial:
            raise VideoError(f"{path}: {reason} after {time + step:.2f} s of {_seconds(stream.duration, stream) or 0:.2f} s: "
                             "use an intact copy, or read it with partial=True")


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
    image = frame.to_ndarray(format="rgb24", width=width, interpolation=EXACT,
                             src_colorspace=Colorspace.ITU709 if is_untagged_hd else None)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _over_white(raw):
    """BGRA of 8 or 16 bit, or float -> RGB uint8 over white."""
    scale = {"uint8": 255.0, "uint16": 65535.0}.get(raw.dtype.name, 1.0)
    alpha = raw[..., 3:].astype(np.float32) / scale
    colour = raw[..., 2::-1].astype(np.float32) / scale
    return np.round(255 * (colour * alpha + 1 - alpha)).clip(0, 255).astype(np.uint8)
