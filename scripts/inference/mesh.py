"""`inference.py --mesh`: one mesh, one sound, one or more manners -> moving meshes, as video and for other programs.

    python inference.py --mesh open --driven_audio speech.wav --style someone.npz --checkpoint_dir data/runs/mesh
    python inference.py --mesh template.ply --driven_audio speech.wav --style FaceTalk_170728_03272_TA pivot --formats mp4 glb

Writes NAME.<format> for each manner to --result_dir and prints where; several manners also side by side as NAME__side_by_side.mp4.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import deepspeech
from data_process.meshes import MeshError, MeshFolder
from data_process.meshes_sources import read_curves
from data_process.outputs import make_folder
from data_process.video import VIDEO_SUFFIXES
from deep_3drecon.face_model import load_face_model
from deep_3drecon.topology import TopologyError, load_topology, topology_of
from deep_3drecon.topology_export import ExportError
from deep_3drecon.topology_files import MeshFileError, read_mesh
from deep_3drecon.topology_film import MeshFilm
from deep_3drecon.topology_shown import show
from deep_3drecon.track import FaceTrack
from deepspeech import WeightsError
from deepspeech.encoders import Encoder
from models import checkpoint
from models.blinks import BlinkHabit, add_blinks, generate_blinks
from models.checkpoint import CheckpointError
from models.talking_style_codes import MeshStyle, MeshStyleError
from models.talking_style_released import ReleasedPaper
from scripts.inference.mesh_clip import CHUNK, DRAWN, FORMATS, Clip, side_by_side

USER_ERRORS = (
    ExportError, MeshError, MeshFileError, MeshStyleError, TopologyError, WeightsError,
)  # fmt: skip


def parse(argv, description=None):
    """Command line of --mesh."""
    p = argparse.ArgumentParser(prog="inference.py --mesh", description=description or __doc__.split("\n")[0])
    p.add_argument(
        "--mesh", required=True, help="head at rest: .ply, .obj or .npy, MESH_FOLDER:SUBJECT, or open for our own"
    )
    p.add_argument("--driven_audio", required=True, type=Path, help="speech: any sound or video file")
    p.add_argument("--style", "--condition", nargs="+", default=["pivot"], metavar="STYLE",
                   help="manner: motion of somebody (.npz face track, .csv or .json curves, .npy vertices (T, V, 3), a video), a saved "
                   "manner (.style.json), a training subject, pivot for nobody's, or all: every training subject")  # fmt: skip
    p.add_argument("--style_audio", type=Path, nargs="+", help="sound of each style sample, where it is known")
    p.add_argument("--style_template", type=Path, help="head at rest of a .npy style sample (default: --mesh)")
    p.add_argument(
        "--style_fps", type=float, help="frame rate of a .npy style sample (default: that of the training data)"
    )
    p.add_argument("--style_weights", type=float, nargs="+", help="blend all styles into one with these weights")
    p.add_argument(
        "--fit", action="store_true", help="fit the manner to the sample, which needs its sound; some seconds longer"
    )
    p.add_argument("--save_style", type=Path, help="write the (first) manner as .style.json")
    p.add_argument(
        "--checkpoint_dir",
        type=Path,
        default=Path("data/checkpoints/talking_style"),
        help="run folder of talking_style(_paper)",
    )
    p.add_argument("--released", type=Path, help=".pth of TalkingStyle's authors, in place of --checkpoint_dir")
    p.add_argument("--subjects", nargs="+", help="names of its one-hot subjects in order (default 0 1 2 ...)")
    p.add_argument("--faces", type=Path, help="mesh whose faces to draw, where the topology's are not known")
    p.add_argument("--fps", type=float, help="frames a second (default: that of the training data)")
    p.add_argument("--formats", nargs="+", choices=FORMATS, help="default: mp4 npz glb, and csv json for our head")
    p.add_argument("--size", type=int, default=512, help="side of the video in px, 64 to 2048")
    p.add_argument("--yaw", type=float, default=0.0, help="degrees the head is turned in the video")
    p.add_argument("--no_blinks", action="store_true", help="our own head: no made blinks")
    p.add_argument("--seed", type=int, default=0, help="of the blinks")
    p.add_argument("--result_dir", type=Path, default=Path("data/runs/mesh_results"))
    p.add_argument("--name", help="default: sound__style")
    p.add_argument("--encoder", help="folder of the speech encoder the checkpoint was trained with")
    p.add_argument("--layer", type=int)
    p.add_argument("--overwrite", action="store_true", help="replace results of the same name")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--verbose", action="store_true", help="show the whole trace of an error")
    args = p.parse_args(argv)
    if not 64 <= args.size <= 2048:
        p.error(f"--size {args.size}: 64 to 2048 is needed")
    if args.style_weights and len(args.style_weights) != len(args.style):
        p.error(f"--style_weights: {len(args.style_weights)} for {len(args.style)} styles")
    if args.style_audio and len(args.style_audio) != len(args.style):
        p.error(f"--style_audio: {len(args.style_audio)} for {len(args.style)} styles: one each is needed")
    return args


def read_template(source):
    """(template (V, 3), Topology) of what --mesh names."""
    if source == "open":
        topology = load_topology("open")
        return load_face_model("open").mean.numpy(), topology
    folder, _, subject = str(source).rpartition(":")
    if folder and (Path(folder) / "meshes.json").is_file():
        data = MeshFolder(folder)
        return data.template(subject), data.topology
    vertices, _ = read_mesh(source)
    return vertices, topology_of(vertices)


def sound_features(wav, method, encoder=None, layer=None):
    """Features of a sound that a checkpoint needs."""
    if method.streams == ("sound",):  # it brings its own encoder
        return {"sound": wav}
    if "encoder" not in method.streams:
        return deepspeech.features(wav)
    about = method.stats["about"].get("encoder", {})
    if not encoder:
        raise MeshError(f"trained on {about.get('source')}, layer {about.get('layer')}: give its folder with --encoder")
    network = Encoder.load(encoder, layer if layer is not None else about.get("layer"))
    if about.get("identity") not in (None, network.identity):
        raise MeshError(f"{encoder}: other weights than those of the training ({about['source']}): give that encoder")
    return {"encoder": network(wav)}


class Manner:
    """What a --style says, for either kind of network."""

    def __init__(self, args, method, template, topology):
        self.args, self.method, self.template, self.topology = args, method, template, topology

    def read(self, k):
        """MeshStyle of the k-th style."""
        source, method = str(self.args.style[k]), self.method
        if source == "pivot":
            return method.identity(None)
        if source in method.stats["subjects"]:
            return method.identity(source)
        if source.endswith(".style.json"):
            return MeshStyle.load(source)
        if not Path(source).is_file():
            raise MeshStyleError(
                f"style {source!r}: no such file, and no training subject; there is {', '.join(method.stats['subjects'])}, pivot"
            )
        motion, fps = self.sample(source)
        features = None
        if self.args.style_audio or source.lower().endswith(VIDEO_SUFFIXES):
            wav = deepspeech.load_audio(self.args.style_audio[k] if self.args.style_audio else source)
            features = sound_features(wav, method, self.args.encoder, self.args.layer)
        if self.args.fit:
            if features is None:
                raise MeshStyleError(f"--fit: the sound of {source} is needed: give it with --style_audio")
            return method.fit(motion, fps, features, source=Path(source).stem)
        return method.style_of(motion, fps, features, source=Path(source).stem)

    def sample(self, source):
        """(coefficients (T, K), fps) of a file with motion."""
        end = Path(source).suffix.lower()
        if end == ".npy":
            vertices = self.topology.check(np.load(source, allow_pickle=False), source)
            rest = read_template(self.args.style_template)[0] if self.args.style_template else self.template
            return self.method.coefficients_of(vertices, rest), self.args.style_fps or self.method.stats["fps"][0]
        if self.topology.name != "open":
            raise MeshStyleError(
                f"{source}: curves and tracks move our own head; for {self.topology.name} give vertices as .npy"
            )
        if end in (".csv", ".json"):
            return read_curves(source, list(self.topology.names))
        if end in VIDEO_SUFFIXES:
            from data_process.face_tracks import track_video

            track = track_video(source)
        else:
            track = FaceTrack.load(source)
        if track.face_model != "open":
            raise MeshStyleError(f"{source}: a track of {track.face_model}, one of the open head is needed")
        seen = np.flatnonzero(track.valid)
        if len(seen) < track.fps:
            raise MeshStyleError(f"{source}: a face in {len(seen)} frames, at least a second is needed")
        return track.parts()["exp"][seen[0] : seen[-1] + 1], track.fps


def run(args):
    """Yield the paths of what was written."""
    torch.set_num_threads(args.threads)
    method = ReleasedPaper.load(args.released, args.subjects) if args.released else checkpoint.load(args.checkpoint_dir)
    template, topology = read_template(args.mesh)
    if "topology" not in method.stats:
        raise CheckpointError(f"{args.checkpoint_dir}: moves no meshes: give a checkpoint of talking_style")
    if topology.name != method.stats["topology"]:
        raise MeshError(
            f"{args.mesh}: a mesh of {topology.name}, this checkpoint was trained on {method.stats['topology']}"
        )
    fps = args.fps or method.stats["fps"][0]
    wav = deepspeech.load_audio(args.driven_audio)
    features = sound_features(wav, method, args.encoder, args.layer)
    n_frames = max(1, int(len(wav) / deepspeech.SAMPLE_RATE * fps + 1e-6))
    if args.faces:
        topology = replace(topology, faces=read_mesh(args.faces)[1])
    more = ["glb"] * (topology.faces is not None) + ["csv", "json"] * bool(topology.names)
    formats = args.formats or ["mp4", "npz", *more]
    shown = show(topology) if set(formats) & set(DRAWN) else None  # without faces, it says where to get them
    make_folder(args.result_dir)
    clips = []
    for name, make in manners(args, method, template, topology):
        stem = args.result_dir / (args.name or f"{args.driven_audio.stem}__{name}")
        if args.name and len(args.style) > 1:
            stem = args.result_dir / f"{args.name}__{name}"
        taken = [stem.with_name(f"{stem.name}.{end}") for end in formats]
        taken = [path for path in taken if path.exists() and not args.overwrite]
        if taken:
            raise MeshError(f"{taken[0]}: is there already: add --overwrite or --name")
        motion = make(features, fps, n_frames)
        if topology.names and not callable(motion):
            motion = finished(motion, topology.names, fps, None if args.no_blinks else args.seed)
        clips.append(Clip(stem, motion, template, topology, shown, fps, method))
    film = MeshFilm(shown, template, args.size, args.yaw) if "mp4" in formats else None
    for clip in clips:
        yield from clip.write(formats, film, wav)
    if film is not None and len(clips) > 1:
        path = args.result_dir / f"{args.name or args.driven_audio.stem}__side_by_side.mp4"
        yield side_by_side(clips, path, film, wav)


def manners(args, method, template, topology):
    """[(name, function (features, fps, n_frames) -> motion: coefficients, or function giving pieces of vertices)]."""
    if hasattr(method, "net") and not hasattr(method, "identity"):  # the published network: one-hot only
        names = method.stats["subjects"] if args.style == ["all"] else args.style
        return [
            (f"condition_{n}", lambda f, fps, t, n=n: lambda: method.stream(f, n, template, fps, t, CHUNK))
            for n in names
        ]
    if args.style == ["all"]:
        args.style = list(method.stats["subjects"])
    reader = Manner(args, method, template, topology)
    styles = [reader.read(k) for k in range(len(args.style))]
    if args.style_weights:
        styles = [MeshStyle.blend(styles, args.style_weights)]
    if args.save_style:
        styles[0].save(args.save_style)
    labels = ["blend"] if args.style_weights else [Path(str(s)).name.split(".")[0] for s in args.style]
    return [
        (label, lambda f, fps, t, s=s: np.concatenate(list(method.coefficients(f, s, fps, t, CHUNK))))
        for label, s in zip(labels, styles, strict=True)
    ]


def finished(motion, names, fps, seed):
    """ARKit curves (T, 52) in their range, with blinks, which no sound tells; seed None: without."""
    if seed is not None:
        lids = [names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
        motion[:, lids] = add_blinks(motion[:, lids], generate_blinks(len(motion), fps, BlinkHabit(), seed))
    return motion.clip(0, 1)
