"""BIWI B3D(AC)2 -> mesh folder. The set is no longer handed out; this serves those who have it.

    python -m data_process.BIWI data/raw/biwi --output data/meshes/biwi

Either form:
  raw         faces/SUBJECT/eNN/frame_*.vl (count, then count x 3 float32), rigid_scans/SUBJECT.obj, audio/SUBJECT_eNN.wav
  CodeTalker  vertices_npy/SUBJECT_eNN.npy (T, 70110), wav/SUBJECT_eNN.wav, templates.pkl

Raw faces are turned by half a turn about x, put at their subject's template's middle and divided by ONE number a subject, the root
of the template's surface. `--legacy_unit_area` centres and scales every frame by its own surface, as CodeTalker's preparation
does and as released weights expect; it takes away part of the jaw's travel and rescales the head when the mouth opens.
"""

import argparse
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_process import meshes_encoder, meshes_splits
from data_process.meshes import MeshClip, MeshError, MeshWriter
from data_process.process_voca_data import read_table
from deep_3drecon.topology import load_topology
from deep_3drecon.topology_files import read_mesh
from deepspeech.audio_io import load_audio

FPS, N_VERTICES = 25.0, 23370
HALF_TURN = np.array([1.0, -1.0, -1.0], np.float32)  # about x


def read_vl(path):
    """Vertices (V, 3) of one .vl frame: little-endian count, then the coordinates."""
    data = Path(path).read_bytes()
    count = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if count == 0 or len(data) != 4 + 12 * count:
        raise MeshError(
            f"{path}: {len(data)} bytes for {count} vertices, {4 + 12 * count} are needed: the file is cut off"
        )
    return np.frombuffer(data, "<f4", 3 * count, 4).reshape(-1, 3)


def surface(vertices, faces):
    """Area of a mesh in its unit squared; the sum of the mixed Voronoi areas is the sum of the triangles."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def to_units(frames, template, faces, legacy_unit_area=False):
    """Raw frames (T, V, 3) and template (V, 3) -> both in roots of the surface, turned upright.

    One shift and one scale, of the template, for all of a subject's frames; or, legacy, each frame its own.
    """
    frames, template = frames * HALF_TURN, template * HALF_TURN
    middle, scale = template.mean(0), np.sqrt(surface(template, faces))
    rest = (template - middle) / scale
    if not legacy_unit_area:
        return (frames - middle) / scale, rest
    own = np.array([np.sqrt(surface(frame, faces)) for frame in frames], np.float32)
    return (frames - frames.mean(1, keepdims=True)) / own[:, None, None], rest


def raw_clips(folder, legacy_unit_area):
    """Clips of the raw form."""
    folder = Path(folder)
    for person in sorted(p for p in (folder / "faces").iterdir() if p.is_dir()):
        scan = folder / "rigid_scans" / f"{person.name}.obj"
        if not scan.is_file():
            raise MeshError(f"{scan}: missing: the scan at rest of {person.name} is needed beside its frames")
        template, faces = read_mesh(scan)
        for take in sorted(p for p in person.iterdir() if p.is_dir()):
            parsed = meshes_splits.parse_name(f"{person.name}_{take.name}")
            split = parsed and take.name.startswith("e") and meshes_splits.biwi_split(*parsed)
            if not split:
                continue
            frames = [read_vl(path) for path in sorted(take.glob("*.vl"))]
            if not frames or {len(f) for f in frames} != {len(template)}:
                raise MeshError(
                    f"{take}: frames of {sorted({len(f) for f in frames})} vertices, {len(template)} are needed"
                )
            wav = _sound(folder / "audio" / f"{person.name}_{take.name}.wav")
            moved, rest = to_units(np.stack(frames), template, faces, legacy_unit_area)
            yield MeshClip(f"{person.name}_{take.name}", person.name, split, FPS, rest, moved, wav)


def array_clips(folder):
    """Clips of CodeTalker's form."""
    folder = Path(folder)
    templates = read_table(folder / "templates.pkl")
    for path in sorted((folder / "vertices_npy").glob("*.npy")):
        parsed = meshes_splits.parse_name(path.stem)
        split = parsed and meshes_splits.biwi_split(*parsed)
        if not split:
            continue
        if parsed[0] not in templates:
            raise MeshError(f"{folder / 'templates.pkl'}: no {parsed[0]}, there is {', '.join(map(str, templates))}")
        motion = np.load(path, allow_pickle=False)
        if motion.shape[1:] not in ((3 * N_VERTICES,), (N_VERTICES, 3)):
            raise MeshError(f"{path}: shape {motion.shape} came, (T, {3 * N_VERTICES}) is needed")
        wav = _sound(folder / "wav" / f"{path.stem}.wav")
        rest = np.asarray(templates[parsed[0]], np.float32).reshape(-1, 3)
        yield MeshClip(path.stem, parsed[0], split, FPS, rest, motion.reshape(len(motion), -1, 3), wav)


def _sound(path):
    if not path.is_file():
        raise MeshError(f"{path}: missing: every take needs its sound")
    return load_audio(path)


def clips_of(folder, legacy_unit_area=False):
    """The clips of whichever form a folder has."""
    folder = Path(folder)
    if (folder / "faces").is_dir():
        return raw_clips(folder, legacy_unit_area)
    if (folder / "vertices_npy").is_dir() and (folder / "templates.pkl").is_file():
        return array_clips(folder)
    raise MeshError(
        f"{folder}: neither faces/, rigid_scans/ and audio/ (raw BIWI) nor vertices_npy/, wav/ and templates.pkl (CodeTalker): "
        "unpack one of them here"
    )


def prepare(folder, output, legacy_unit_area=False, fps=None, basis=64, encoder=None, layer=None, progress=True):
    """Write the mesh folder -> MeshFolder."""
    extract, about = meshes_encoder.make_extract(encoder, layer)
    writer = MeshWriter(output, load_topology("biwi"), fps=fps, extract=extract, about=about)
    found, frames = Counter(), Counter()
    for clip in tqdm(clips_of(folder, legacy_unit_area), unit="clip", disable=not progress or None):
        found[clip.split] += 1
        frames[clip.split] += len(clip.motion)
        if not writer.has(clip.name):
            writer.add(clip)
    notes = [f"BIWI, split list {meshes_splits.checksum('biwi')}"] + meshes_splits.compare(
        found, meshes_splits.BIWI_COUNTS
    )
    if frames["test_seen"] != meshes_splits.BIWI_TEST_A_FRAMES:
        notes.append(
            f"Test-A has {frames['test_seen']} frames, CodeTalker's has {meshes_splits.BIWI_TEST_A_FRAMES}: numbers cannot be "
            "compared with published ones"
        )
    if legacy_unit_area:
        notes.append("every frame scaled by its own surface (legacy_unit_area)")
    return writer.finish(notes, basis)


def main(argv=None):
    """Exit status: 0 prepared, 1 refused with a reason."""
    parser = argparse.ArgumentParser(prog="python -m data_process.BIWI", description="BIWI to a mesh folder.")
    parser.add_argument("source", type=Path, help="folder of raw BIWI or of CodeTalker's arrays")
    parser.add_argument("--output", type=Path, default=Path("data/meshes/biwi"))
    parser.add_argument(
        "--legacy_unit_area", action="store_true", help="scale every frame by its own surface, as CodeTalker"
    )
    return meshes_encoder.run(
        parser, argv, lambda a: prepare(a.source, a.output, a.legacy_unit_area, a.fps, a.basis, a.encoder, a.layer)
    )


if __name__ == "__main__":
    sys.exit(main())
