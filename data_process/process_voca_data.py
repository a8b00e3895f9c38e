"""VOCASET -> mesh folder.

    python -m data_process.process_voca_data data/raw/vocaset --output data/meshes/vocaset

Reads the four files of https://voca.is.tue.mpg.de (registration, non-commercial): data_verts.npy, raw_audio_fixed.pkl,
templates.pkl, subj_seq_to_idx.pkl. Nothing in a pickle is run. 60 fps are brought to 30 by time, which keeps every second
frame, as the papers' loaders do; `--fps 60` keeps all. The splits are those of the papers.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process import meshes_encoder, meshes_splits
from data_process.meshes import MeshClip, MeshError, MeshWriter
from deep_3drecon import safe_pickle
from deep_3drecon.topology import load_topology
from deepspeech.audio_io import load_audio

FILES = ("data_verts.npy", "raw_audio_fixed.pkl", "templates.pkl", "subj_seq_to_idx.pkl")
RAW_FPS, FPS = 60.0, 30.0


def read_raw(folder):
    """(vertices (N, 5023, 3) left on disk, sound, templates, rows) of the four files, their forms checked."""
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise MeshError(
            f"{folder}: {', '.join(missing)} missing: register at https://voca.is.tue.mpg.de and unpack the training data "
            f"here; needed are {', '.join(FILES)}"
        )
    try:
        vertices = np.load(folder / FILES[0], mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise MeshError(f"{folder / FILES[0]}: no array ({error}): fetch it again") from error
    if vertices.ndim != 3 or vertices.shape[1:] != (5023, 3):
        raise MeshError(f"{folder / FILES[0]}: shape {vertices.shape} came, (frames, 5023, 3) is needed")
    tables = [read_table(folder / name) for name in FILES[1:]]
    return vertices, *tables


def read_table(path):
    try:
        with open(path, "rb") as file:
            table = safe_pickle.load(file)
    except safe_pickle.UnsafePickleError as error:
        raise MeshError(f"{path}: {error}") from error
    if not isinstance(table, dict):
        raise MeshError(f"{path}: a {type(table).__name__} came, a dict by subject is needed: fetch the file again")
    return table


def raw_clips(folder):
    """Every clip of the papers' splits, one after the other, at 60 fps."""
    vertices, sound, templates, rows = read_raw(folder)
    for subject in sorted(rows):
        if subject not in templates or subject not in sound:
            lacks = "templates.pkl" if subject not in templates else "raw_audio_fixed.pkl"
            raise MeshError(
                f"{folder}: {subject} is in subj_seq_to_idx.pkl and not in {lacks}: the files are not of one set"
            )
        for sequence in sorted(rows[subject]):
            parsed = meshes_splits.parse_name(f"{subject}_{sequence}")
            split = parsed and meshes_splits.vocaset_split(*parsed)
            if not split or sequence not in sound[subject]:
                continue
            yield _clip(folder, subject, sequence, split, vertices, templates, rows, sound)


def _clip(folder, subject, sequence, split, vertices, templates, rows, sound):
    table = rows[subject][sequence]
    index = np.array([table[frame] for frame in sorted(table)])
    if len(index) and (index.min() < 0 or index.max() >= len(vertices)):
        raise MeshError(f"{folder}: {subject} {sequence} names row {index.max()}, data_verts.npy has {len(vertices)}")
    record = sound[subject][sequence]
    wav = load_audio(np.asarray(record["audio"]), int(record["sample_rate"]))
    return MeshClip(
        f"{subject}_{sequence}",
        subject,
        split,
        RAW_FPS,
        np.asarray(templates[subject]),
        np.asarray(vertices[index]),
        wav,
    )


def prepare(folder, output, fps=None, basis=64, encoder=None, layer=None, progress=True):
    """Write the mesh folder -> MeshFolder."""
    extract, about = meshes_encoder.make_extract(encoder, layer)
    writer = MeshWriter(output, load_topology("vocaset"), fps=fps or FPS, extract=extract, about=about)
    found = Counter()
    for clip in tqdm(raw_clips(folder), unit="clip", disable=not progress or None):
        found[clip.split] += 1
        if not writer.has(clip.name):
            writer.add(clip)
    notes = [f"VOCASET, split list {meshes_splits.checksum('vocaset')}"]
    return writer.finish(notes + meshes_splits.compare(found, meshes_splits.VOCASET_COUNTS), basis)


def main(argv=None):
    """Exit status: 0 prepared, 1 refused with a reason."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.process_voca_data", description="VOCASET to a mesh folder."
    )
    parser.add_argument("source", type=Path, help="folder with the four files")
    parser.add_argument("--output", type=Path, default=Path("data/meshes/vocaset"))
    return meshes_encoder.run(parser, argv, lambda a: prepare(a.source, a.output, a.fps, a.basis, a.encoder, a.layer))


if __name__ == "__main__":
    sys.exit(main())
