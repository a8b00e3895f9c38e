"""One raw video -> its one-face clips on disk, with the reasons for what was left out. A function of one file, for
`clips`.

A clip is four files: <name>.mp4 (25 fps, sound inside for the viewer), <name>.wav (16 kHz mono, 640 samples a frame
exactly), <name>.landmarks.npz (478 points in pixels of the clip, measured on the source before it is encoded again) and
<name>.json (where it comes from and how it was cut). The json is written last: where it is, the clip is whole.
"""

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_process.clip_files import PART_PREFIX, is_foreign, place_clip
from data_process.examine import Rejected, examine, softened
from data_process.landmarks import LandmarkTrack
from data_process.segments import Rules, Segment, crop_square, face_width, find_segments, unusable, without
from data_process.video import VideoError, VideoWriter, probe, write_wav
from deep_3drecon.track import FPS
from deepspeech import SAMPLE_RATE, AudioError, load_audio
from deepspeech.timing import SAMPLES_PER_FRAME

SILENCE = 1e-4  # peak below which sound counts as absent (-80 dB of full scale)
MISSING_SOUND_S = (
    0.1  # sound that ends this much before the picture is filled with silence; beyond it the picture is cut
)


@dataclass(frozen=True)
class CutSettings:
    """How clips are cut. size: side in px of the written crop, 0 as in the source. crop: square (the head) or none.

    quality: judge (reject and repair what is found wrong) or report (say it only). offset: repair (move the sound where
    the offset is sure), report or ignore.
    """

    size: int = 0
    crop: str = "square"
    several_faces: str = "reject"
    allow_silent: bool = False
    rules: Rules = field(default_factory=Rules)
    quality: str = "judge"
    offset: str = "repair"


@dataclass(frozen=True)
class Job:
    """One video to cut.

    name: of its clips. wav: sound beside a silent video, or None. shift_ms: the sound lags the mouth by this.
    """

    source: str
    name: str
    wav: str | None
    shift_ms: float
    key: str
    output: str
    settings: CutSettings
    duplicate_of: str = ""


def cut_video(job):
    """Cut one video into clips in job.output -> its entry of the ledger (a dict for JSON).

    Reasons of the video end in the entry; only trouble with the output (disk full, not writable) raises.
    """
    entry = {
        "name": job.name,
        "source": job.source,
        "key": job.key,
        "status": "rejected",
        "reason": "",
        "notes": [],
        "warnings": [],
        "found": [],
        "segments": [],
        "clips": [],
    }
    try:
        _cut(job, entry)
    except Rejected as reason:
        entry["reason"] = str(reason)
    if not entry["clips"] and not entry["reason"]:
        entry["reason"] = "; ".join(sorted({s["reason"] for s in entry["segments"]})) or "no usable stretch"
    if entry["clips"]:
        entry["status"] = "repaired" if entry["notes"] else "accepted"
    return entry


def _cut(job, entry):
    if job.duplicate_of:
        raise Rejected(f"same content as {job.duplicate_of}")
    try:
        info = probe(job.source)
    except VideoError as error:
        raise Rejected(f"unreadable: {error}") from error
    entry["fps_in"] = round(info.fps, 3)
    if abs(info.fps - FPS) > 0.01:
        entry["notes"].append(f"resampled from {info.fps:.4g} to {FPS} fps")
    sound, first = sound_of(job, info, entry)
    look, verdict = examine(job.source, info.fps, sound, job.settings.rules, retime=job.settings.quality == "judge")
    track, timing = look.track, look.timing
    missing = info.duration * timing.stretch - len(track) / FPS
    if missing > 0.2:
        entry["notes"].append(f"file damaged: the last {missing:.1f} s of {info.duration:.1f} s could not be read")
    verdict = _settled(verdict, job)
    _tell(entry, look.quality, verdict)
    if sound is not None:
        sound, first, verdict = _moved(sound, first, timing, verdict)
    stop = len(track)
    if sound is not None:
        stop = min(stop, int((len(sound) / SAMPLE_RATE + MISSING_SOUND_S) * FPS))
        if stop < len(track):
            entry["notes"].append(f"last {len(track) - stop} frames cut: no sound there")
    segments = [
        _within(s, first, stop, track, job.settings.rules)
        for s in find_segments(track.points, track.valid, look.thumbnails, job.settings.rules)
    ]
    silent = verdict.repairs.get("leave_out", [])
    segments = [p for s in segments for p in without(s, silent, track.points, track.valid, job.settings.rules)]
    entry["segments"] = [asdict(s) for s in segments]
    entry["tracked"] = round(float(track.valid.mean()), 4)
    entry["n_frames_in"] = len(track)
    if len(segments) > 1:
        entry["notes"].append(f"cut into {len(segments)} stretches")
    frames = enumerate(timing.frames(job.source))
    usable = [segment for segment in segments if not segment.reason]
    for number, segment in enumerate(usable):
        name = job.name if len(usable) == 1 else f"{job.name}_{number:02d}"
        entry["clips"].append(_write_clip(job, name, segment, track, frames, sound, entry))


def _settled(verdict, job):
    """What the settings make of the verdict."""
    settings = job.settings
    if settings.quality == "report":
        verdict = softened(verdict)
    if settings.several_faces == "largest":
        verdict = softened(verdict, ("second_face",))
    if settings.allow_silent:
        verdict = softened(verdict, ("silence",))
    if settings.offset == "ignore":
        verdict = softened(verdict, (), drop=("audio_shift",))
    elif settings.offset == "report" or job.shift_ms:  # who gives a lag knows it better
        verdict = softened(verdict, ("audio_shift",))
    return verdict


def _tell(entry, quality, verdict):
    """Measures, notes and warnings into the entry; a video that shall not be used ends here."""
    entry["quality"] = quality.as_dict()
    entry["found"] = sorted({reason.kind for reason in verdict.reasons})
    entry["warnings"] += [reason.text for reason in verdict.reasons if reason.action == "note"]
    if verdict.status == "reject":
        raise Rejected("; ".join(reason.text for reason in verdict.reasons if reason.action == "reject"))
    told = ("cut",)  # the stretches say it
    entry["notes"] += [r.text for r in verdict.reasons if r.action == "repair" and r.kind not in told]


def _moved(sound, first, timing, verdict):
    """Sound on the clock of the pictures, with a measured offset taken out -> (sound, first frame with sound, verdict).

    Stretches to leave out move with the sound.
    """
    sound = sound[round(timing.start * SAMPLE_RATE) :]
    shift = verdict.repairs.get("shift_frames", 0.0)
    sound, late = _shifted(sound, round(shift * SAMPLES_PER_FRAME))
    spans = [[max(0, round(a - shift)), round(b - shift)] for a, b in verdict.repairs.get("leave_out", [])]
    return sound, max(first, late), verdict._replace(repairs=verdict.repairs | {"leave_out": spans})


def _within(segment, first, stop, track, rules):
    """The segment without frames that have no sound, judged again if that changed it."""
    start, end = max(segment.start, first), max(min(segment.stop, stop), max(segment.start, first))
    if segment.reason or (start, end) == (segment.start, segment.stop):
        return segment
    reason = unusable(track.points[start:end], track.valid[start:end], rules)
    return Segment(start, end, reason)


def sound_of(job, info, entry):
    """(16 kHz sound with its given lag removed, or None where silence is allowed; first frame that has sound)."""
    source = job.source if info.has_audio else job.wav
    try:
        if source is None:
            raise Rejected("no sound: neither in the video nor as a wav of the same name")
        if not info.has_audio:
            entry["notes"].append("sound from the wav of the same name")
        sound = load_audio(source, partial=True)
        if np.abs(sound).max(initial=0) < SILENCE:
            raise Rejected("the sound is silence throughout")
    except (Rejected, AudioError) as error:
        if job.settings.allow_silent:
            entry["notes"].append(f"silent: {error}")
            return None, 0
        raise Rejected(str(error)) from error
    lag = round(job.shift_ms * SAMPLE_RATE / 1000)
    if lag:
        entry["notes"].append(f"sound moved {abs(job.shift_ms):g} ms {'earlier' if lag > 0 else 'later'}")
    return _shifted(sound, lag)


def _shifted(sound, lag):
    """Sound moved `lag` samples earlier, later if negative -> (sound, first frame that has sound)."""
    sound = sound[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag, np.float32), sound])
    return sound, -(min(lag, 0) // SAMPLES_PER_FRAME)


def _write_clip(job, name, segment, track, frames, sound, entry):
    """Second pass over one segment: write its files, return what the ledger says of it."""
    points, valid = track.points[segment.start : segment.stop].copy(), track.valid[segment.start : segment.stop]
    width, height = track.frame_size
    left, top, side = 0, 0, 0
    if job.settings.crop == "square":
        left, top, side = crop_square(points, valid, track.frame_size, job.settings.rules.margin)
        width = height = side
    size = job.settings.size or 0
    scale = size / side if size and side else 1.0
    face_px = face_width(points[valid])
    # pixel centres: the edge of the crop, half a pixel before its first centre, is what scaling keeps in place
    points[..., :2] = (points[..., :2] - (left, top) + 0.5) * scale - 0.5
    points[..., 2] *= scale
    wav = frames_of_sound(sound, segment.start, segment.stop)
    about = {
        "name": name, "source": job.source, "key": job.key, "notes": entry["notes"],
        "fps": FPS, "fps_in": entry["fps_in"], "n_frames": len(segment), "start_s": segment.start / FPS,
        "crop": [left, top, side] if side else None, "scale": scale,
        "face_px": round(face_px * scale, 1), "face_px_in": round(face_px, 1), "tracked": round(float(valid.mean()), 4),
        "shift_ms": job.shift_ms, "silent": sound is None,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=job.output) as folder:
        part = Path(folder, name)
        with VideoWriter(f"{part}.mp4", fps=FPS, audio=wav, sample_rate=SAMPLE_RATE) as video:
            for t, frame in frames:
                if t >= segment.start:
                    video.write(_cropped(frame, left, top, width, height, size if side else 0))
                if t == segment.stop - 1:
                    break
        write_wav(f"{part}.wav", wav, SAMPLE_RATE)
        scores = track.scores[segment.start : segment.stop]
        written = (size, size) if size and side else (width, height)
        np.savez_compressed(
            f"{part}.landmarks.npz", points=points.astype(np.float32), scores=scores, valid=valid, frame_size=written
        )
        Path(f"{part}.json").write_text(json.dumps(about, indent=1) + "\n")
        if is_foreign(job.output, name, job.source):
            raise Rejected(
                f"{Path(job.output, name)}.* are in the way and not of this video: give another output folder"
            )
        place_clip(folder, job.output, name)
    return {k: about[k] for k in ("name", "n_frames", "face_px", "tracked", "crop")}


def frames_of_sound(sound, start, stop):
    """Exactly 640 samples for each of the frames start..stop; silence where there is none, or for a sound of None."""
    wav = np.zeros((stop - start) * SAMPLES_PER_FRAME, np.float32)
    if sound is not None:
        piece = sound[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        wav[: len(piece)] = piece
    return wav


def _cropped(frame, left, top, width, height, size):
    crop = frame[top : top + height, left : left + width]
    if size and size != height:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if size < height else cv2.INTER_CUBIC)
    return crop


def load_landmarks(path):
    """<name>.landmarks.npz of a clip -> LandmarkTrack."""
    with np.load(path, allow_pickle=False) as npz:
        valid = npz["valid"]
        return LandmarkTrack(
            npz["points"],
            npz["scores"],
            valid,
            valid.astype(int),
            valid.astype(np.float32),
            tuple(int(v) for v in npz["frame_size"]),
        )
