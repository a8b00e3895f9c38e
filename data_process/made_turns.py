"""Films of made people who turn their heads and exercise their mouths, with the truth: what reconstruction is measured by.

Speech without sound, from phones drawn at random, and beside it slow movements of single mouth channels. The head turns to
MAX_YAW to either side. Everything follows from the number of the person and the seed.
"""

from dataclasses import dataclass

import numpy as np

from data_process.made_clips import actor, make_track
from data_process.made_emotions import EMOTIONS, feel
from data_process.made_speakers import draw_speaker
from data_process.made_speech import PAUSE, Phone
from data_process.upper_face import smooth_noise, upper_face_motion
from data_process.visemes import GLIDES, VISEMES, VOWELS, mouth_motion
from deep_3drecon.face_model import load_face_model
from deep_3drecon.made_stage import draw_stage
from deep_3drecon.track import FPS, FaceTrack

MAX_YAW, MAX_PITCH, MAX_ROLL = np.radians([40, 12, 8])
# the mouth channels that reconstruction is judged by: ten, eight of them moved on both sides alike or nearly
TEN = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthSmileRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
)  # fmt: skip
REACH = {"jawOpen": 0.3, "mouthFunnel": 0.5, "mouthPucker": 0.5, "mouthSmile": 0.5, "mouthLowerDown": 0.4,
         "mouthUpperUp": 0.4}  # fmt: skip


@dataclass
class Turn:
    """frames (T, size, size, 3) uint8, regions (T, size, size) uint8 of `made_film.REGIONS`, truth: FaceTrack."""

    frames: np.ndarray
    regions: np.ndarray
    truth: FaceTrack


def draw_phones(rng, seconds):
    """Syllables of a consonant and a vowel, now and then a pause."""
    consonants, vowels = [s for s in VISEMES if s and s not in VOWELS], [*sorted(VOWELS), *GLIDES]
    phones, time = [Phone(PAUSE, 0.0, 0.1)], 0.1
    while time < seconds:
        for symbols, length, stress in ((consonants, (0.05, 0.12), 0), (vowels, (0.08, 0.2), int(rng.integers(3)))):
            end = time + rng.uniform(*length)
            phones.append(Phone(str(rng.choice(symbols)), time, end, stress))
            time = end
        if rng.random() < 0.12:
            end = time + rng.uniform(0.1, 0.4)
            phones.append(Phone(PAUSE, time, end))
            time = end
    return phones


def draw_motion(number, n_frames, seed=0, exercise=1.0, turn=1.0, pace=1.0):
    """Speaker `number` and a motion {"exp", "angle", "trans"} of n_frames; exercise and turn scale mouth channels and angles, pace how
    fast single channels of the mouth move."""
    rng, face = np.random.default_rng((seed, 20, number)), load_face_model("open")
    speaker = feel(draw_speaker(number, seed), EMOTIONS[number % len(EMOTIONS)], 0.8)
    phones = draw_phones(rng, n_frames / FPS + 0.5)
    exp = mouth_motion(phones, n_frames, face, speaker.identity, speaker.mouth)
    exp = exp + upper_face_motion(phones, n_frames, face, speaker.upper, rng)
    for name, reach in REACH.items():
        # a channel rests for about half of the time
        curve = exercise * reach * smooth_noise(n_frames, 1, 0.5 * pace, rng)[:, 0].clip(0, 2) / 1.5
        for side in ("Left", "Right") if name + "Left" in face.expression_names else ("",):
            exp[:, face.index(name + side)] += curve * rng.uniform(0.7, 1.0)
    together = exercise * smooth_noise(n_frames, 1, 0.6 * pace, rng)[:, 0].clip(0, 1)  # lips meet over an open jaw
    exp[:, face.index("mouthClose")] += 0.5 * together * exp[:, face.index("jawOpen")].clip(0, 0.4)
    time = np.arange(n_frames)[:, None] / FPS
    angle = turn * np.array([MAX_PITCH, MAX_YAW, MAX_ROLL]) * np.sin(2 * np.pi * (time / [3, 4, 5] + rng.random(3)))
    trans = 0.08 * np.sin(2 * np.pi * (time / [3, 3.5, 4] + rng.random(3)))
    motion = {"exp": exp.clip(0, 1), "angle": angle, "trans": trans}
    return speaker, {name: value.astype(np.float32) for name, value in motion.items()}


def make_turn(number, n_frames=100, size=256, seed=0, exercise=1.0, turn=1.0):
    """`Turn` of a person on a stage of their own."""
    speaker, motion = draw_motion(number, n_frames, seed, exercise, turn)
    stage = draw_stage(np.random.default_rng((seed, 21, number)), size)
    truth = make_track(motion, speaker.identity, load_face_model("open"), stage, size)
    pictures, regions = zip(*actor(number, seed, size).on(stage).film(**motion), strict=True)
    return Turn(np.stack(pictures), np.stack(regions), truth)
