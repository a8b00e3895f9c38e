"""3D-MEAD (FLAME parameters of MEAD's videos) -> mesh folder.

    python -m data_process.MEAD data/raw/mead --output data/meshes/mead --raw_fps 30

NAME.npz with expression (T, 50) and pose (T, 6), whose first three are the head's turn and are left out, beside NAME.m4a, .wav or
.mp4; NAME is SPEAKER_NUMBER, such as M003_012. Vertices come from the user's own FLAME (data/assets/flame). The set does not say its
frame rate: its demo assumes 24, its renderer 30, so --raw_fps has to be given, and is kept with every clip; an `fps` inside a file wins.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_process import meshes_encoder, meshes_splits
from data_process.meshes import MeshClip, MeshError, MeshWriter
from deep_3drecon.face_model import rotation_from_vector
from deep_3drecon.flame import FILES, default_path, read_arrays
from deep_3drecon.topology import load_topology
from deepspeech.audio_io import load_audio

N_SHAPE, N_EXPRESSION, JAW = 300, 50, 2
SOUNDS = (".wav", ".m4a", ".mp4", ".flac", ".mp3")


class FlameMesh:
    """FLAME's 5,023 vertices from expression and jaw, identity zero: linear blend skinning about the jaw, in metres."""

    def __init__(self, arrays):
        self.rest = arrays["v_template"].astype(np.float32)
        self.shapes = arrays["shapedirs"][..., N_SHAPE : N_SHAPE + N_EXPRESSION].astype(np.float32)
        self.regressor = arrays["J_regressor"][JAW].astype(np.float32)
        self.weight = arrays["weights"][:, JAW].astype(np.float32)
        # the file's correctives come joint after joint, without the root
        self.corrective = arrays["posedirs"][..., 9 * (JAW - 1) : 9 * JAW].astype(np.float32)

    @classmethod
    def load(cls):
        """From the user's files."""
        found = [default_path() / name for name in FILES if (default_path() / name).is_file()]
        if not found:
            raise MeshError(
                f"{default_path() / FILES[0]}: missing: 3D-MEAD holds FLAME parameters, so FLAME is needed: register at "
                "https://flame.is.tue.mpg.de"
            )
        return cls(read_arrays(found[0]))

    def vertices(self, expression, jaw):
        """expression (T, 50), jaw (T, 3) rotation vectors in radians -> (T, 5023, 3)."""
        turn = rotation_from_vector(torch.as_tensor(np.asarray(jaw, np.float32))).numpy()
        shaped = self.rest + np.einsum("tk,vck->tvc", expression, self.shapes)
        centre = np.einsum("v,tvc->tc", self.regressor, shaped)[:, None]
        bent = turn - np.eye(3, dtype=np.float32)
        posed = shaped + np.einsum("tk,vck->tvc", bent.reshape(-1, 9), self.corrective)
        return posed + self.weight[:, None] * ((posed - centre) @ bent.transpose(0, 2, 1))


def read_parameters(path, raw_fps):
    """(expression (T, 50), jaw (T, 3), fps) of one file."""
    with np.load(path, allow_pickle=False) as npz:
        if not {"expression", "pose"} <= set(npz.files):
            raise MeshError(f"{path}: holds {npz.files}, expression (T, 50) and pose (T, 6) are needed")
        expression, pose = npz["expression"].astype(np.float32), npz["pose"].astype(np.float32)
        fps = float(npz["fps"]) if "fps" in npz.files else raw_fps
    if expression.ndim != 2 or expression.shape[1] < N_EXPRESSION or pose.shape != (len(expression), 6):
        raise MeshError(f"{path}: expression {expression.shape}, pose {pose.shape}: (T, 50) and (T, 6) are needed")
    if fps is None:
        raise MeshError(f"{path}: no fps in the file: give --raw_fps (the set's demo assumes 24, its renderer 30)")
    return expression[:, :N_EXPRESSION], pose[:, 3:], fps


def prepare(folder, output, raw_fps=None, fps=None, basis=64, encoder=None, layer=None, progress=True, flame=None):
    """Write the mesh folder -> MeshFolder. flame: FlameMesh, default the user's."""
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise MeshError(
            f"{folder}: no .npz: the FLAME parameters of 3D-MEAD are needed, SPEAKER_NUMBER.npz beside their sound"
        )
    flame = FlameMesh.load() if flame is None else flame
    extract, about = meshes_encoder.make_extract(encoder, layer)
    writer = MeshWriter(output, load_topology("mead"), fps=fps, extract=extract, about=about)
    skipped = []
    for path in tqdm(files, unit="clip", disable=not progress or None):
        parsed = meshes_splits.parse_name(path.stem)
        split = parsed and meshes_splits.mead_split(parsed[0])
        if not split:
            skipped.append(path.stem)
            continue
        if writer.has(path.stem):
            continue
        sounds = [path.with_suffix(end) for end in SOUNDS if path.with_suffix(end).is_file()]
        if not sounds:
            raise MeshError(f"{path}: no sound beside it: {path.stem} with one of {', '.join(SOUNDS)} is needed")
        expression, jaw, rate = read_parameters(path, raw_fps)
        motion = flame.vertices(expression, jaw)
        writer.add(MeshClip(path.stem, parsed[0], split, rate, flame.rest, motion, load_audio(sounds[0])))
    notes = ["3D-MEAD by way of FLAME, identity zero"]
    if skipped:
        notes.append(f"{len(skipped)} files of no listed speaker left out, such as {skipped[0]}")
    return writer.finish(notes, basis)


def main(argv=None):
    """Exit status: 0 prepared, 1 refused with a reason."""
    parser = argparse.ArgumentParser(prog="python -m data_process.MEAD", description="3D-MEAD to a mesh folder.")
    parser.add_argument("source", type=Path, help="folder with SPEAKER_NUMBER.npz and their sound")
    parser.add_argument("--output", type=Path, default=Path("data/meshes/mead"))
    parser.add_argument("--raw_fps", type=float, help="frame rate of the parameters")
    return meshes_encoder.run(
        parser, argv, lambda a: prepare(a.source, a.output, a.raw_fps, a.fps, a.basis, a.encoder, a.layer)
    )


if __name__ == "__main__":
    sys.exit(main())
