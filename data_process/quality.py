"""What is wrong with a video of a talking face, measured while its face is followed, and what shall be done about it.

    quality = measure_quality(track, watch, sound, changes, fps)
    status, reasons, repairs = judge(quality, QualityRules())

Every limit was set between what planted defects give and what clean clips give, made-up and real; how well they part is
measured by `scripts/planted_defects.py`.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from data_process.picture_quality import conversion_period, jumps, landmark_jitter, repeated, shake, time_gaps
from data_process.sound_quality import SoundFit, measure_sound
from deep_3drecon.track import FPS

LISTED = 50  # at most so many frame numbers go into a ledger line


@dataclass(frozen=True)
class Quality:
    """Measures of one video. Frame numbers count stored pictures (repeats, jumps) or frames at 25 fps (cuts, silences).

    fps: as the file claims. n_pictures: stored. n_frames: at 25 fps.
    sound: see SoundFit, None for a video without. detail_px: width of a face that would show the same detail; face_px:
    width of the face. shake, landmark_jitter: percent of the face's width. repeats: copies of the picture before.
    repeat_period: every how many pictures one is a copy, 0 if irregular. jumps: pictures before which others seem lost.
    time_gaps: pictures missing by the time stamps. cuts: a new shot begins. rivals: share of the frames with a second
    face about as large. n_faces: the most in one picture.
    """

    fps: float
    n_pictures: int
    n_frames: int
    sound: SoundFit | None = None
    detail_px: float = 0.0
    face_px: float = 0.0
    shake: float = 0.0
    landmark_jitter: float = 0.0
    repeats: tuple = ()
    repeat_period: int = 0
    jumps: tuple = ()
    time_gaps: int = 0
    cuts: tuple = ()
    rivals: float = 0.0
    n_faces: int = 1

    @property
    def true_fps(self):
        """Rate of the pictures that are no copies put in by a conversion."""
        return self.fps * (1 - 1 / self.repeat_period) if self.repeat_period else self.fps

    def as_dict(self):
        """Plain numbers and lists, for a line of the ledger."""
        out = {name: value for name, value in asdict(self).items() if name != "sound"}
        out |= {"true_fps": self.true_fps, "n_repeats": len(self.repeats), "n_jumps": len(self.jumps)}
        out |= {f"sound_{name}": value for name, value in asdict(self.sound).items()} if self.sound else {}
        return {name: _plain(value) for name, value in out.items()}


@dataclass(frozen=True)
class QualityRules:
    """Limits of what is accepted. Beside each: what planted defects give | what clean clips give, as measured.

    min_offset: frames from which sound is moved; confident: confidence of the probe from which it is, sure_enough: from
    which it is told. max_repeats: share of the pictures. min_detail_px, min_detail: detail of the face in px and relative
    to its width; a face is blurred when it is below both. max_shake: percent of the face's width. max_rivals: share of
    frames. longer_frames, drift_gain, drift_score: see SoundFit; pictures are lost when the sound is longer and fits
    better if its lag may grow, by at least drift_share of what it is longer. rate_confidence: from which another frame rate
    is believed, if the offset is at most max_rate_offset then, and not already within max_claimed_offset.
    """

    min_offset: float = 2.5  # 3 to 10 | at most 0.5 made-up, 2.3 real
    confident: float = 0.95
    sure_enough: float = 0.84  # what the sound of another clip reaches in one of twenty cases
    max_repeats: float = 0.024  # 3 % and more | up to 1 % made-up, 1.4 % real, in one of 90 more
    min_detail_px: float = 56.0  # 18 to 51 | 65 and more
    min_detail: float = 0.6
    max_shake: float = 0.7  # 1.1 to 5.6 | up to 0.06 made-up, 0.41 real
    max_rivals: float = 0.05
    longer_frames: float = 2.5
    drift_share: float = 0.3
    drift_gain: float = 0.03  # 0.06 to 0.25 | up to 0.01, with sound that goes on after the picture; real 0.024
    drift_score: float = 0.15  # 0.17 to 0.45 | 0.1 to 0.2 where the sound is of something else
    rate_confidence: float = 0.9  # 0.93 to 1 | 0.3 to 0.97 where pictures are lost, with larger offsets
    max_rate_offset: float = 0.65
    max_claimed_offset: float = 1.0


class Reason(NamedTuple):
    """One thing found. kind: as in `defects`. action: reject, repair or note. text: for people."""

    kind: str
    action: str
    text: str


class Verdict(NamedTuple):
    """status: accept, repair or reject. reasons: [Reason]. repairs: {name: value}, see `judge`."""

    status: str
    reasons: list
    repairs: dict


def measure_quality(track, watch, sound, cut_frames, fps, rivals=0.0):
    """LandmarkTrack at 25 Hz, its PictureWatch, sound (N,) 16 kHz or None, ids of cuts, claimed fps -> Quality."""
    steps, (detail, face) = watch.steps(), watch.detail()
    copies = repeated(steps)
    fit = None if sound is None else measure_sound(sound, track.points68, track.valid, fps)
    return Quality(
        fps=fps, n_pictures=len(steps), n_frames=len(track), sound=fit, detail_px=detail, face_px=face,
        shake=shake(steps), landmark_jitter=landmark_jitter(track.points, track.valid),
        repeats=tuple(copies.tolist()), repeat_period=conversion_period(steps, copies),
        jumps=tuple(jumps(steps, copies).tolist()), time_gaps=time_gaps(steps),
        cuts=tuple(np.flatnonzero(cut_frames).tolist()), rivals=rivals, n_faces=int(track.n_faces.max()),
    )  # fmt: skip


def judge(quality, rules=None):
    """Quality -> Verdict.

    repairs: "fps", the rate at which the pictures shall be read; "skip_copies", the period of copies to read past;
    "shift_frames", by which the sound shall come earlier; "leave_out", [[first frame, end], ...] without speech.
    """
    rules = rules or QualityRules()
    reasons, repairs = [], {}
    for look in (_faces, _sharpness, _shaking, _copies, _silences, _sync):
        look(quality, rules, reasons, repairs)
    if quality.cuts:
        n = len(quality.cuts)
        reasons.append(
            Reason("cut", "repair", f"{n} cut{'s' * (n > 1)} to another shot, the first at {_at(quality.cuts[0])}")
        )
    actions = {reason.action for reason in reasons}
    status = next((action for action in ("reject", "repair") if action in actions), "accept")
    return Verdict(status, reasons, repairs)


def _faces(quality, rules, reasons, repairs):
    if quality.rivals > rules.max_rivals:
        text = (
            f"several faces in {quality.rivals:.0%} of the frames: cut the video to one, or use --several_faces largest"
        )
        reasons.append(Reason("second_face", "reject", text))


def _sharpness(quality, rules, reasons, repairs):
    if 0 < quality.detail_px < min(rules.min_detail_px, rules.min_detail * quality.face_px):
        text = f"blurred: the face is {quality.face_px:.0f} px wide but shows the detail of one of {quality.detail_px:.0f} px"
        reasons.append(Reason("blur", "reject", text))


def _shaking(quality, rules, reasons, repairs):
    if quality.shake > rules.max_shake:
        text = (
            f"the whole picture jumps about by {quality.shake:.1f} % of the face's width: it was cropped frame by frame"
        )
        reasons.append(Reason("crop_jitter", "reject", text))


def _copies(quality, rules, reasons, repairs):
    share = len(quality.repeats) / max(quality.n_pictures, 1)
    if quality.repeat_period:
        text = (
            f"every {quality.repeat_period}th picture is a copy: {quality.true_fps:.4g} fps stored as {quality.fps:.4g}"
        )
        reasons.append(Reason("converted_fps", "repair", f"{text}; copies are read past"))
        repairs["skip_copies"] = quality.repeat_period
    elif share > rules.max_repeats:
        text = f"{share:.0%} of the pictures repeat the one before, the first at picture {quality.repeats[0]}"
        reasons.append(Reason("doubled_frames", "reject", text))


def _silences(quality, rules, reasons, repairs):
    for start, stop, talks in quality.sound.silences if quality.sound else ():
        if talks or start == 0 or stop >= quality.n_frames:
            text = f"no speech from {_at(start)} to {_at(stop)}" + (", though the lips move" if talks else "")
            reasons.append(Reason("silence", "repair", text))
            repairs.setdefault("leave_out", []).append([start, stop])


def _sync(quality, rules, reasons, repairs):
    """Of a wrong rate, a drift and an offset the first that fits: each makes the later ones as well."""
    fit = quality.sound
    if fit is None:
        return
    if _is_wrong_rate(quality, rules):
        text = (
            f"the file claims {quality.fps:.4g} fps, but sound and lips fit at {fit.length_fps:.4g}: read at that rate"
        )
        reasons.append(Reason("wrong_fps", "repair", text))
        repairs["fps"] = fit.length_fps
    elif _drifts(fit, rules) and fit.longer_frames > 0:
        text = (
            f"about {fit.longer_frames:.0f} frames are missing: the sound is that much longer than the picture, and falls "
            f"behind it by {fit.drift_frames:.0f} frames on the way"
        )
        reasons.append(Reason("dropped_frames", "reject", text))
    elif _drifts(fit, rules):
        text = (
            f"sound and picture drift apart: the picture is {-fit.longer_frames:.0f} frames longer, and falls behind the "
            f"sound by {-fit.drift_frames:.0f} on the way, at no frame rate that cameras have"
        )
        reasons.append(Reason("wrong_fps", "reject", text))
    elif abs(fit.offset_frames) >= rules.min_offset and fit.confidence >= rules.sure_enough:
        late = "later" if fit.offset_frames > 0 else "earlier"
        text = f"the sound comes {abs(fit.offset_frames):.1f} frames {late} than the mouth"
        if fit.confidence >= rules.confident:
            reasons.append(Reason("audio_shift", "repair", text))
            repairs["shift_frames"] = fit.offset_frames
        else:
            reasons.append(Reason("audio_shift", "note", f"{text}, it seems (confidence {fit.confidence:.2f})"))


def _is_wrong_rate(quality, rules):
    """Sound and lips fit at another rate that cameras have, at which both are of one length, and worse at the claimed one."""
    fit = quality.sound
    fits_now = abs(fit.offset_frames) < rules.max_claimed_offset and fit.score >= fit.rate_score
    fits_then = abs(fit.rate_offset) <= rules.max_rate_offset and fit.rate_confidence >= rules.rate_confidence
    return abs(fit.length_fps - quality.fps) > 0.02 and fits_then and not fits_now


def _drifts(fit, rules):
    """Sound and picture differ in length, and fit better when their lag may change by about that on the way."""
    direction = np.sign(fit.longer_frames)
    drift, longer = direction * fit.drift_frames, direction * fit.longer_frames
    is_likely = longer > rules.longer_frames and rules.drift_share * longer <= drift < 1.3 * longer + 3
    return bool(is_likely and fit.drift_gain > rules.drift_gain and fit.drift_score > rules.drift_score)


def _at(frame):
    return f"{frame / FPS:.2f} s"


def _plain(value):
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value[:LISTED]]
    return value
