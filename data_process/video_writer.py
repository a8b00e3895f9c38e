"""Frames and sound to mp4, and sound to wav: written aside, named on success.

Imported from `data_process.video`, which holds the reading side.
"""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from av.video.reformatter import ColorRange, Colorspace, Interpolation

# swscale's short cuts are off by up to 2 levels; these flags keep a round trip within rounding.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
AAC_RATE = 48000  # an AAC frame is 1024 samples: 21 ms at this rate, so sound ends within one picture of its end
SMALLEST, LARGEST = 16, 8192  # pixels a side


class VideoError(ValueError):
    """A video that cannot be read or written."""


def open_media(path):
    """PyAV container for reading."""
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path}: cannot be opened as video or sound ({error.strerror}): the file is missing, cut off before its "
            "index, or of another kind"
        ) from error


class VideoWriter:
    """Write frames and sound as mp4; a context manager.

        with VideoWriter("out.mp4", audio=wav, sample_rate=16000) as video:
            for frame in frames:            # (H, W, 3) uint8 RGB, all of one size
                video.write(frame)

    fps: pictures a second. audio: None, (N,) or (N, C) samples in [-1, 1] with their sample_rate in Hz, or the path of
    a file with sound. Sound is cut or filled with silence to the length of the picture. crf, preset: x264's quality (0
    lossless, 51 worst) and effort. comment: text for the file's comment tag. threads: of x264; a fixed number gives the
    same pictures on any machine, 0 takes what the machine has. keyframes: every so many frames one that stands alone, for those
    who read from the middle; 0 leaves it to x264. Odd sizes get one repeated row or column, since yuv420p
    holds pairs. The file grows as `<path>.part.mp4` and takes its name on success only; on an error the part is removed.
    """

    def __init__(self, path, fps=25, audio=None, sample_rate=None, crf=18, preset="veryfast", comment=None, threads=0,
                 keyframes=0):  # fmt: skip
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part.mp4")
        if self.path.suffix.lower() != ".mp4":
            raise VideoError(f"{self.path}: only mp4 is written: end the name with .mp4")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.n_frames, self.size, self._picture = 0, None, None
        self._options = {"crf": str(crf), "preset": preset} | ({"threads": str(threads)} if threads else {})
        self._options |= {"g": str(keyframes)} if keyframes else {}
        self._sound = None if audio is None else _SoundSource(audio, sample_rate)
        try:
            self.part.touch()  # PyAV opens the file at the first frame only: too late to say that the folder is wrong
            self._container = av.open(str(self.part), "w", format="mp4", options={"movflags": "+faststart"})
            if comment:
                self._container.metadata["comment"] = comment
        except (av.error.FFmpegError, OSError) as error:
            self._close_sound()
            raise VideoError(
                f"{self.path}: cannot be written ({error.strerror}): needed an existing folder that may be written to"
            ) from error

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
            raise VideoError(
                f"{self.path}: frame {self.n_frames} is {frame.shape[1]}x{frame.shape[0]}, "
                f"the first was {self.size[0]}x{self.size[1]}: write frames of one size"
            )
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT,
            threads=1,
        )
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
        if not SMALLEST <= min(width, height) <= max(width, height) <= LARGEST:
            raise VideoError(f"{self.path}: frames of {width}x{height}: needed {SMALLEST} to {LARGEST} pixels a side")
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
        raise VideoError(
            f"{self.path}: writing stopped after {self.n_frames} frames ({error.strerror}); the part was "
            "removed: is the disk full?"
        ) from error

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
        if samples.dtype.kind != "f" or samples.ndim not in (1, 2) or not np.isfinite(samples).all():
            raise VideoError(
                f"audio of shape {samples.shape}, {samples.dtype}: needed (N,) or (N, C) finite floats in [-1, 1]"
            )
        samples = samples[None] if samples.ndim == 1 else samples.T
        self.rate, self.layout = int(sample_rate), "stereo" if len(samples) == 2 else "mono"
        self._rest = samples if len(samples) <= 2 else samples.mean(0, keepdims=True)
        self._blocks = iter(())

    def _open(self, path):
        self._file = open_media(path)
        if not self._file.streams.audio:
            self._file.close()
            raise VideoError(f"{path}: holds no sound: give a file with sound, or no audio")
        stream = self._file.streams.audio[0]
        self.rate = stream.codec_context.sample_rate
        self.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
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
