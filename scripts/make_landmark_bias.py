"""Learn how the landmarker errs on turned heads, from films of made people whose heads are known.

    python -m scripts.make_landmark_bias

Writes deep_3drecon/landmark_bias.npz, which lies in the repository: the error, and what is left of it at each landmark. Run it
again when the landmarker, the landmark table or the made films change. Prints the error before and after, the latter on people
that were left out of the learning.
"""

import argparse
import sys

import numpy as np
import torch
from tqdm import tqdm

from data_process.landmarks import FaceLandmarker
from data_process.made_turns import make_turn
from deep_3drecon import camera, landmarks
from deep_3drecon.landmark_bias import TABLE, bias, features, learn, roll_matrix

SEED = 7  # the report of reconstruction uses seed 0: other people, other films
TURN = np.array([1.8, 1.1, 1.0])  # pitch, yaw, roll against those of made_turns


def landmark_errors(number, n_frames, size):
    """Angle (T, 3) and error (T, 478, 2) in canonical pixels of one film."""
    film = make_turn(number, n_frames, size, SEED, turn=TURN)
    found = FaceLandmarker().track(film.frames)
    crop = torch.from_numpy(film.truth.crop).double()
    places = [
        camera.apply_affine(torch.from_numpy(np.ascontiguousarray(points[..., :2])).double(), crop).numpy()
        for points in (found.points, film.truth.landmarks)
    ]
    return film.truth.parts()["angle"][found.valid], (places[0] - places[1])[found.valid]


def rms(error):
    """Root mean square of errors (..., 2) in canonical pixels, over all points, lips and outline."""
    groups = (np.arange(error.shape[1]), landmarks.LIPS, landmarks.FACE_OVAL)
    return " ".join(f"{np.sqrt(np.square(error[:, ids]).sum(-1).mean()):.2f}" for ids in groups)


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m scripts.make_landmark_bias", description="Learn the landmarker's error on turned heads."
    )
    parser.add_argument("--people", type=int, default=40, help="made people, every fifth of them for the test (5..)")
    parser.add_argument("--frames", type=int, default=60, help="frames of each film")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side of the films")
    args = parser.parse_args(argv)
    if args.people < 5:
        parser.error(f"--people {args.people}: at least 5 are needed")
    films = [landmark_errors(k, args.frames, args.size) for k in tqdm(range(args.people), unit="film")]
    kept = [film for k, film in enumerate(films) if k % 5]
    table = learn(*(np.concatenate(x) for x in zip(*kept, strict=True)))
    angle, error = (np.concatenate(x) for x in zip(*films[::5], strict=True))
    left = error - np.einsum("tij,tlj->tli", roll_matrix(angle), np.tensordot(features(angle), table, 1))
    print(f"px of the canonical crop, all points, lips, outline: {rms(error)} before, {rms(left)} after")
    noise = np.sqrt(np.square(left).mean((0, 2)))
    table = learn(*(np.concatenate(x) for x in zip(*films, strict=True)))
    np.savez_compressed(TABLE, error=table.astype(np.float16), noise=noise.astype(np.float16))
    print(f"{TABLE.name}: {TABLE.stat().st_size} bytes, {bias(torch.zeros(1, 3)).norm(dim=-1).mean():.2f} px at rest")
    return 0


if __name__ == "__main__":
    sys.exit(main())
