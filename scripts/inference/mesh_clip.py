"""What `inference.py --mesh` writes of one moving mesh: video, arrays, glTF, meshes, ARKit curves."""

from contextlib import ExitStack

import numpy as np

import deepspeech
from data_process.meshes import MeshError
from data_process.video import VideoWriter
from deep_3drecon.face_model import load_face_model
from deep_3drecon.topology_export import clip_basis, write_curves, write_glb
from deep_3drecon.topology_files import write_obj, write_ply
from models import mark
from scripts.inference.encode import SYNTHETIC

DRAWN = ("mp4", "glb", "ply", "obj")  # which need faces
FORMATS = ("mp4", "npz", "npy", "glb", "ply", "obj", "csv", "json")
CHUNK = 250  # frames that are in memory at a time
LONGEST_GLB_S = 120  # a basis of raw vertices is found in memory; our own basis has no such end


class Clip:
    """One result: coefficients (T, K) of the network's basis, or a function that gives vertices piece by piece.

    shown: `topology_shown.Shown`, which glTF gets, as the film does; None where nothing is drawn. Other files keep the mesh itself.
    """

    def __init__(self, stem, motion, template, topology, shown, fps, method):
        self.stem, self.motion, self.template, self.topology = stem, motion, np.asarray(template, np.float32), topology
        self.shown, self.fps, self.basis = shown, fps, None
        if not callable(motion):
            self.basis = method.basis.cpu().numpy()
            if topology.name == "open":  # whose basis leaves out the turn of the eyes
                self.basis = self.basis + load_face_model("open").gaze_basis().numpy()

    def vertices(self):
        """Yield (n, V, 3), at most CHUNK frames at a time."""
        if self.basis is None:
            yield from self.motion()
            return
        flat = self.basis.reshape(len(self.basis), -1)
        for start in range(0, len(self.motion), CHUNK):
            part = self.motion[start : start + CHUNK]
            yield self.template + (part @ flat).reshape(len(part), -1, 3)

    def write(self, formats, film, wav):
        """Yield paths."""
        named = {end: self.stem.with_name(f"{self.stem.name}.{end}") for end in formats}
        if "mp4" in formats:
            self._film(named["mp4"], film, wav)
        if "npz" in formats or "npy" in formats:
            self._arrays(named)
        if "glb" in formats:
            self._glb(named["glb"])
        for end, write in (("ply", write_ply), ("obj", write_obj)):
            if end in formats:
                named[end] = self.stem.with_name(f"{self.stem.name}_{end}")
                named[end].mkdir(exist_ok=True)
                frames = (frame for piece in self.vertices() for frame in piece)
                for t, frame in enumerate(frames):
                    write(named[end] / f"{t:05d}.{end}", frame, self.topology.faces)
        for end in ("csv", "json"):
            if end in formats:
                if not self.topology.names:
                    raise MeshError(
                        f"--formats {end}: ARKit curves exist for our own head, not for {self.topology.name}"
                    )
                write_curves(named[end], self.motion, self.topology.names, self.fps)
        yield from named.values()

    def _film(self, path, film, wav):
        with VideoWriter(path, self.fps, wav, deepspeech.SAMPLE_RATE, comment=SYNTHETIC) as video:
            for piece in self.vertices():
                for frame in piece:
                    video.write(mark.stamp(film.frame(frame)))

    def _arrays(self, named):
        """.npz: coefficients with basis and template, or all vertices; .npy: vertices (T, 3 V) float32, as the papers' scripts write."""
        about = {
            "fps": self.fps,
            "template": self.template,
            "unit_mm": self.topology.unit_mm,
            "topology": self.topology.name,
        }
        if "npy" in named:
            n = sum(len(piece) for piece in self.vertices())
            out = np.lib.format.open_memmap(named["npy"], "w+", np.float32, (n, self.template.size))
            start = 0
            for piece in self.vertices():
                out[start : start + len(piece)] = piece.reshape(len(piece), -1)
                start += len(piece)
        if "npz" in named:
            if self.basis is not None:
                np.savez_compressed(named["npz"], coefficients=self.motion, basis=self.basis, **about)
            else:
                np.savez(named["npz"], vertices=np.concatenate(list(self.vertices())), **about)

    def _glb(self, path):
        if self.basis is not None:
            targets, weights, names = self.basis, self.motion, self.topology.names
        else:
            limit = int(LONGEST_GLB_S * self.fps)
            weights, targets, left = clip_basis(
                np.concatenate(list(self.vertices()))[:limit], self.template, self.topology.unit_mm
            )
            names = ()
        rest, targets = (self.shown.vertices(x) for x in (self.template, targets))
        write_glb(
            path, rest, self.shown.faces, targets, weights, self.fps, self.topology.unit_mm, names, self.shown.colours,
            {"note": SYNTHETIC},
        )  # fmt: skip


def side_by_side(clips, path, film, wav):
    """All clips in one video -> its path."""
    with ExitStack() as stack:
        options = {"fps": clips[0].fps, "audio": wav, "sample_rate": deepspeech.SAMPLE_RATE, "comment": SYNTHETIC}
        video = stack.enter_context(VideoWriter(path, **options))
        for pieces in zip(*(clip.vertices() for clip in clips), strict=True):
            for frames in zip(*pieces, strict=True):
                video.write(mark.stamp(np.concatenate([film.frame(frame) for frame in frames], 1)))
    return path
