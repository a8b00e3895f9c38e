"""Released weights of style_avatar to this program's checkpoints: tensors by name, strictly; nothing else in the files is run.

    python -m scripts.convert_weights --backbone backbone.pkl --statistics exp.npy pose.npy --output data/checkpoints/paper
    python -m scripts.convert_weights --tex_encoder tex_encoder.pkl --face_unet face_unet.pkl --output data/checkpoints/paper_renderer

The files are those of https://github.com/wuhaozhe/style_avatar, brought by the user. --statistics: the released dicts of means and
deviations of expression and pose, by which raw styles become the codes of the network; without them styles must come as codes.
The motion network listens to DeepSpeech's 29 posteriors and says 64 coefficients of the Basel model; the renderer's textures lay on
the originals' UV map, on ours it needs tuning. Both need the user's Basel model, see data/README.md.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from deep_3drecon import safe_pickle
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import FaceModelError, load_face_model
from models import checkpoint
from models.judges import JudgeError, read_tensors
from models.style_avatar import StyleAvatar
from models.style_avatar_networks import (
    RELEASED_ENCODER,
    RELEASED_ENHANCER,
    LocalEnhancer,
    TextureEncoder,
    released_name,
)
from models.style_avatar_renderer import StyleAvatarRenderer
from models.style_fusion import RELEASED_BACKBONE, StyleFusionNet, paper_preset

N_EXP, N_POSE, N_DEEPSPEECH = 64, 7, 29
STATISTICS = ("m_m", "m_s", "s_m", "s_s", "d_s_m", "d_s_s")
FRAME_SIZE, HEADS = 224, 1.5  # pixels a side of the frames, and heights of the head
FILES = ("backbone", "tex_encoder", "face_unet")


class ConversionError(ValueError):
    """A file that is not what it was given as."""


def read_state(path):
    """{name: tensor} of a file of torch.save or of a plain pickle of arrays."""
    try:
        return read_tensors(path)
    except JudgeError as first:
        try:
            with open(path, "rb") as file:
                found = safe_pickle.load(file)
        except (OSError, safe_pickle.UnsafePickleError) as error:
            raise ConversionError(f"{first}; as a plain pickle: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(x, np.ndarray) for x in found.values()):
            raise ConversionError(f"{path}: holds no arrays by name: give one of {', '.join(FILES)}") from first
        return {name: torch.from_numpy(x) for name, x in found.items()}


def backbone():
    """The motion network of the released file, its weights not drawn."""
    dims = paper_preset()
    del dims["stems"]
    streams = {"phonemes": (N_DEEPSPEECH, 48), "energy": (1, 16)}
    return StyleFusionNet(streams, 2 * N_EXP + N_POSE, {"expression": N_EXP}, **dims)


def networks():
    """{name of FILES: (network without memory of its own, its name for one of our names)}."""
    with torch.device("meta"):
        return {
            "backbone": (backbone(), lambda name: released_name(name, RELEASED_BACKBONE)),
            "tex_encoder": (TextureEncoder(), lambda name: released_name(name, RELEASED_ENCODER)),
            "face_unet": (LocalEnhancer(), lambda name: released_name(name, RELEASED_ENHANCER)),
        }


def faults(state, network, name_of):
    """What keeps a released state from filling a network: [text]; empty if nothing does."""
    wanted = {name_of(name): tuple(x.shape) for name, x in network.state_dict().items()}
    lacking, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} {tuple(state[name].shape)} where {shape} is needed"
        for name, shape in wanted.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    return [
        f"{what} {len(names)}: {', '.join(names[:3])}"
        for what, names in (("lacks", lacking), ("has beyond", extra), ("has of another shape", shapes))
        if names
    ]


def renamed(path, given_as, known=None):
    """{our name: tensor} of the released file given as one of FILES; one that is another of them is called by its name."""
    known = known or networks()
    state = read_state(path)
    network, name_of = known[given_as]
    wrong = faults(state, network, name_of)
    if wrong:
        other = [name for name, pair in known.items() if not faults(state, *pair)]
        said = f"it is {other[0]}: give it as --{other[0]}" if other else f"it {'; '.join(wrong)}"
        raise ConversionError(f"{path}: given as {given_as}, but {said}")
    return {name: state[name_of(name)] for name in network.state_dict()}


def read_statistics(paths):
    """Released dicts of expression and pose -> {statistic: {"exp": (64,), "pose": (7,)}}; None without files."""
    if not paths:
        return None
    found = []
    for path, n in zip(paths, (N_EXP, N_POSE), strict=True):
        try:
            content = safe_pickle.load_npy(path).item()
            arrays = {name: np.asarray(content[name], np.float64).ravel() for name in STATISTICS}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConversionError(f"{path}: no statistics file of style_avatar ({error!r})") from error
        sizes = {name: len(x) for name, x in arrays.items() if len(x) != n}
        if sizes:
            raise ConversionError(f"{path}: {sizes} numbers came, {n} are needed: give expression first, then pose")
        found.append(arrays)
    return {name: {"exp": found[0][name], "pose": found[1][name]} for name in STATISTICS}


def motion_stats(face, statistics):
    """What a store's stats.json says, for a network whose inputs are not z-scored and whose outputs are raw."""

    def plain(n):
        return {"mean": [0.0] * n, "std": [1.0] * n}

    parts = {"std_exp": ("exp", "s"), "std_exp_change": ("exp", "d_s"), "std_pose_change": ("pose", "d_s")}
    parts |= {"std_pose": ("pose", "s"), "mean_exp": ("exp", "m")}
    sizes = {name: N_EXP if kind == "exp" else N_POSE for name, (kind, _) in parts.items()}
    style = plain(sum(sizes.values()))
    if statistics:
        for moment, ending in (("mean", "_m"), ("std", "_s")):
            style[moment] = np.concatenate([statistics[s + ending][kind] for kind, s in parts.values()]).tolist()
    return {
        "face_model": face.name,
        "face_model_hash": face.hash,
        "features": {"phonemes": plain(N_DEEPSPEECH), "energy": plain(1)},
        "exp": plain(N_EXP),
        "pose": plain(6),
        "style": {"parts": sizes} | style,
    }


def convert_backbone(path, output, face, statistics=None):
    """backbone.pkl -> checkpoint of method style_avatar, preset paper."""
    weights = renamed(path, "backbone")
    settings = {"preset": "paper", "dims": {}, "pose": False, "augment": {}}
    method = StyleAvatar(settings, motion_stats(face, statistics), face)
    method.net.load_state_dict(weights)
    return checkpoint.save(Path(output) / "best", "style_avatar", method, {"data": "released weights of style_avatar"})


def convert_renderer(encoder, painter, output, face, known=None, settings=None):
    """tex_encoder.pkl and face_unet.pkl -> checkpoint of style_avatar_renderer. known, settings: of a smaller network, for tests."""
    weights = {f"encoder.{name}": x for name, x in renamed(encoder, "tex_encoder", known).items()}
    weights |= {f"painter.{name}": x for name, x in renamed(painter, "face_unet", known).items()}
    stats = {"face_model": face.name, "face_model_hash": face.hash, "size": FRAME_SIZE, "n_people": 1, "heads": HEADS}
    with torch.device("meta"):
        renderer = StyleAvatarRenderer(settings or {"preset": "paper", "dims": {}}, stats, face)
    own = {name for name in renderer.state_dict() if not name.startswith(renderer.not_released)}
    if own != set(weights):
        raise ConversionError(f"{sorted(own ^ set(weights))[:3]} do not fit the renderer")
    renderer.load_state_dict(weights, strict=False, assign=True)
    extra = {"data": "released weights of style_avatar"}
    return checkpoint.save(Path(output) / "best", "style_avatar_renderer", renderer, extra)


def main(argv=None):
    """Exit status: 0 converted, 1 a file was not what it was given as."""
    parser = argparse.ArgumentParser(prog="python -m scripts.convert_weights", description=__doc__.split("\n")[0])
    for name in FILES:
        parser.add_argument(f"--{name}", type=Path, help=f"released {name}.pkl")
    parser.add_argument("--statistics", type=Path, nargs=2, metavar=("EXP", "POSE"), help="released statistics, .npy")
    parser.add_argument("--output", required=True, type=Path, help="folder for best.safetensors and best.json")
    args = parser.parse_args(argv)
    if bool(args.backbone) == bool(args.tex_encoder or args.face_unet) or bool(args.tex_encoder) != bool(
        args.face_unet
    ):
        parser.error("give --backbone, or --tex_encoder and --face_unet")
    try:
        face = load_face_model("bfm")
        if args.backbone:
            done = convert_backbone(args.backbone, args.output, face, read_statistics(args.statistics))
        else:
            done = convert_renderer(args.tex_encoder, args.face_unet, args.output, face)
    except (ConversionError, JudgeError, AssetError, FaceModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
