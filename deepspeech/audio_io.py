"""Any audio file, or the sound of any video file, as 16 kHz mono float32."""

from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from .timing import SAMPLE_RATE

READ_SECONDS = 10  # a block of this length is decoded, mixed to mono and resampled at a time
# A hole in the time stamps of a stream is filled with silence from this length on. Shorter ones are the container's
# rounding.
HOLE_SECONDS = 0.1
# Float samples beyond this cannot be sound in [-1, 1] with some overshoot: they are integers in a float array.
LARGEST_SAMPLE = 16.0
MOST_CHANNELS = 64  # an array with more is (channels, N) turned the wrong way
LONGEST_HOLE_SECONDS = 600.0  # a larger step between two time stamps is damage, not silence


class AudioError(ValueError):
    """A sound that cannot be read or used; the message names the file, the reason and what to do."""


def load_audio(source, sample_rate: int | None = None, partial: bool = False) -> np.ndarray:
    """Sound of a file or an array -> (N,) float32, mono, 16 kHz, nominally in [-1, 1].

    source: path of an audio or video file that libsndfile or FFmpeg reads, of any rate, channel count and sample
        format; or an array (N,) or (N, channels), integers of any width or floats in [-1, 1], then with its sample_rate
        in Hz.
    partial: give what a damaged file yields before its damage, instead of an error.
    Channels are averaged with equal weights. Resampling is soxr HQ, block by block: besides the result only some
    seconds of sound are held in memory.

    In a video file time 0 is the start of the picture: sound that starts later is preceded by silence, sound that
    starts earlier loses its head. Without a picture time 0 is the start of the sound.
    """
    if isinstance(source, (str, Path)):
        if sample_rate is not None:
            raise AudioError(f"{source}: sample_rate={sample_rate} was given, but a file knows its own; leave it out")
        return _load_file(Path(source), partial)
    if sample_rate is None:
        raise AudioError("an array of samples came without sample_rate: say its rate in Hz")
    return _load_array(np.asarray(source), int(sample_rate))


def check_sound(wav, may_be_empty: bool = False) -> np.ndarray:
    """Samples as the features need them, (N,) float32 at 16 kHz, or an AudioError that says what is wrong with them."""
    wav = np.asarray(wav)
    if wav.ndim != 1 or wav.dtype.kind != "f":
        raise AudioError(
            f"samples are {wav.dtype} of shape {wav.shape}; (N,) floats at 16 kHz are needed: use load_audio"
        )
    if len(wav) == 0 and not may_be_empty:
        raise AudioError("the sound is empty (0 samples)")
    wav = wav.astype(np.float32, copy=False)
    _check(wav, 0, SAMPLE_RATE, "the sound")
    return wav


def _load_array(samples, rate):
    if rate <= 0:
        raise AudioError(f"sample_rate={rate}; a positive rate in Hz is needed")
    if samples.ndim not in (1, 2) or samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS:
        raise AudioError(f"samples have shape {samples.shape}; (N,) or (N, channels) is needed")
    channels = samples[:, None] if samples.ndim == 1 else samples
    step = READ_SECONDS * rate
    blocks = (_to_float(channels[i : i + step]) for i in range(0, len(channels), step))
    return _to_mono_16k(blocks, rate, "the array")


def _load_file(path: Path, partial: bool) -> np.ndarray:
    if not path.is_file():
        raise AudioError(f"{path}: is {'a folder' if path.is_dir() else 'missing'}; an audio or video file is needed")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    try:
        sound = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        return _load_container(path, partial)
    with sound:
        if sound.frames > 0:  # 0 also where libsndfile cannot tell, as in an ogg file that is cut off
            try:
                return _to_mono_16k(_soundfile_blocks(sound), sound.samplerate, str(path))
            except soundfile.LibsndfileError as error:
                if not partial:
                    raise _damaged(path, sound.tell() / sound.samplerate, error) from error
    return _load_container(path, partial)  # FFmpeg gives what lies before the damage


def _soundfile_blocks(sound):
    while len(block := sound.read(READ_SECONDS * sound.samplerate, dtype="float32", always_2d=True)):
        yield block


def _load_container(path: Path, partial: bool) -> np.ndarray:
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise AudioError(f"{path}: not readable as audio or video ({error.strerror})") from error
    with container:
        if not container.streams.audio:
            kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
            raise AudioError(f"{path}: has no audio stream (it holds {', '.join(kinds)})")
        stream = container.streams.audio[0]
        blocks = _container_blocks(container, stream, _picture_start(container), path, partial)
        return _to_mono_16k(blocks, stream.rate, str(path))


def _picture_start(container) -> float | None:
    """Time stamp in seconds at which the picture starts; None without a picture (a cover image is none)."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return float((stream.start_time or 0) * stream.time_base)
    return None


def _container_blocks(container, stream, start, path, partial):
    """Yield (n, channels) float32 blocks on one gapless time axis, its zero at `start` seconds (None: first sample)."""
    position = 0  # samples handed on so far: where the next decoded one should belong
    try:
        for frame in container.decode(stream):
            if frame.sample_rate != stream.rate:
                change = f"from {stream.rate} to {frame.sample_rate} Hz"
                raise AudioError(f"{path}: changes its sample rate {change} on the way; convert it to one rate")
            block = _frame_samples(frame)
            if frame.pts is not None:
                time = float(frame.pts * frame.time_base)
                start = time if start is None else start
                hole = round((time - start) * stream.rate) - position
                if hole < 0 and position == 0:
                    block = block[-hole:]
                    if len(block) == 0:
                        continue
                elif hole > LONGEST_HOLE_SECONDS * stream.rate:
                    raise AudioError(f"{path}: its time stamps jump by {hole / stream.rate:.0f} s; remux or convert it")
                elif hole > 0 and (position == 0 or hole >= HOLE_SECONDS * stream.rate):
                    yield from _silence(hole, block.shape[1], stream.rate)
                    position += hole
            position += len(block)
            yield block
    except av.FFmpegError as error:
        if not partial:
            raise _damaged(path, position / stream.rate, error.strerror) from error


def _damaged(path, seconds, reason) -> AudioError:
    return AudioError(
        f"{path}: damaged after {seconds:.2f} s of sound ({reason}); partial=True takes what comes before"
    )


def _silence(n, channels, rate):
    for i in range(0, n, READ_SECONDS * rate):
        yield np.zeros((min(READ_SECONDS * rate, n - i), channels), np.float32)


def _frame_samples(frame) -> np.ndarray:
    """(n, channels) float32 of a decoded frame. Planar ones come as (channels, n), packed ones as (1, n * channels)."""
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    return _to_float(samples.T if frame.format.is_planar else samples.reshape(-1, channels))


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Samples as float32, integers scaled by their full range; unsigned ones (8-bit wav) are centred first."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype.kind not in "iu":
        raise AudioError(f"samples are of type {samples.dtype}; integers or floats are needed")
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = half if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / half).astype(np.float32)


def _to_mono_16k(blocks, rate: int, name: str) -> np.ndarray:
    """Average the channels of (n, channels) float32 blocks, check them, resample, join."""
    resampler = None
    if rate != SAMPLE_RATE:
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    sound, n_read = _Growing(), 0
    for block in blocks:
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        _check(mono, n_read, rate, name)
        n_read += len(mono)
        sound.append(mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono)))
    if n_read == 0:
        raise AudioError(f"{name}: contains no sound (0 samples)")
    if resampler is not None:
        sound.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    if sound.length == 0:
        raise AudioError(f"{name}: is shorter than one sample at {SAMPLE_RATE} Hz")
    return sound.array()


class _Growing:
    """A float32 array that grows in place a minute at a time, so that a long sound is never held twice."""

    def __init__(self):
        self._samples, self.length = np.empty(0, np.float32), 0

    def append(self, piece):
        end = self.length + len(piece)
        if end > len(self._samples):
            # No view of the array exists yet, so the unsafe resize is safe; it extends the memory without a copy.
            self._samples.resize(end + 60 * SAMPLE_RATE, refcheck=False)
        self._samples[self.length : end] = piece
        self.length = end

    def array(self):
        self._samples.resize(self.length, refcheck=False)
        return self._samples


def _check(mono, n_before, rate, name):
    low, high = float(mono.min(initial=0.0)), float(mono.max(initial=0.0))
    peak = max(-low, high)
    if not np.isfinite(low + high):  # a NaN passes through min and max
        finite = np.isfinite(mono)
        at = (n_before + int(np.argmin(finite))) / rate
        raise AudioError(f"{name}: the sample at {at:.3f} s is not a number or infinite; repair or re-encode the sound")
    if peak > LARGEST_SAMPLE:
        needed = "[-1, 1] is needed; divide by the full scale (32768 for 16 bit)"
        raise AudioError(f"{name}: float samples reach {peak:.0f}, {needed}")
