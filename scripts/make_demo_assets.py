"""The demo's pictures and speech, made here: data/demo/portrait.png, portrait_2.png, portrait_3.png, speech.flac.

    python -m scripts.make_demo_assets [--only pictures|speech] [--output data/demo]

The files are kept in the repository, so this needs to run only to change them. Pictures are renders of the open head (CC0) with
a skin made from a seed. Speech is synthetic and needs a package that nothing else here does: pip install hibari-tts==0.2.1.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch

from data_process.landmarks import FaceLandmarker
from deep_3drecon.face_model import load_face_model
from deep_3drecon.made_portrait import render_portrait
from deep_3drecon.made_skin import made_look, made_skin
from deepspeech import SAMPLE_RATE, load_audio

SIZE = 512
ATLAS_SIZE = 2048  # the eyes have little room in the atlas
SMILE = 0.12  # a face at rest looks stern
# file: seed of the person, turn of the head (pitch, yaw, roll) in radians, backdrop in sRGB
PORTRAITS = {
    "portrait.png": (9, (0.02, -0.05, 0.01), (104, 116, 126)),
    "portrait_2.png": (10, (0.01, 0.06, -0.01), (126, 122, 114)),
    "portrait_3.png": (6, (0.0, -0.02, 0.0), (96, 116, 108)),
}
SENTENCES = (
    "Every face has a voice of its own, and the lips follow wherever it leads.",
    "Watch the mouth open for a song, purse for a whisper, and close again in thought.",
)
SPEECH_SEED = 1
HIBARI_HZ = 24000


class DemoError(RuntimeError):
    """A demo file that could not be made."""


def person(seed):
    """Identity coefficients (80,) of a made person: a milder face than the population's spread."""
    return np.random.default_rng([seed, 4]).normal(0, 0.55, 80).astype(np.float32)


def make_picture(seed, angle, background):
    """(SIZE, SIZE, 3) uint8 RGB of one person, eyes open, mouth closed."""
    model, look = load_face_model("open"), made_look(seed)
    exp = np.zeros(model.layout.exp, np.float32)
    exp[model.index("mouthSmileLeft", "mouthSmileRight")] = SMILE
    atlas = made_skin(model, look, ATLAS_SIZE)
    return render_portrait(model, person(seed), exp, angle, atlas, SIZE, background=background, look=look, samples=3)


def make_speech():
    """(N,) float32 mono speech at SAMPLE_RATE."""
    try:
        from hibari import Hibari
    except ImportError as error:
        raise DemoError(
            "the speech is made with hibari-tts, which is not installed: pip install hibari-tts==0.2.1 "
            "(or --only pictures)"
        ) from error
    voice = Hibari()
    return load_audio(np.concatenate([voice(text, seed=SPEECH_SEED) for text in SENTENCES]), HIBARI_HZ)


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.make_demo_assets", description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("pictures", "speech"), help="make one kind (default: both)")
    parser.add_argument("--output", type=Path, default=Path("data/demo"), help="folder (default: data/demo)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if args.only != "speech":
        landmarker = FaceLandmarker()
        for name, (seed, angle, background) in PORTRAITS.items():
            picture = make_picture(seed, angle, background)
            presence = landmarker.image(picture).presence
            cv2.imwrite(str(args.output / name), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
            print(f"{args.output / name}: seed {seed}, presence {presence:.3f}")
    if args.only != "pictures":
        speech = make_speech()
        soundfile.write(args.output / "speech.flac", speech, SAMPLE_RATE)
        print(f"{args.output / 'speech.flac'}: {len(speech) / SAMPLE_RATE:.2f} s")


if __name__ == "__main__":
    main()
