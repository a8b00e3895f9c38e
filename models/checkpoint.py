"""A trained method on disk: weights as safetensors, everything else that inference needs as JSON beside them.

best.safetensors   the state of the network
best.json          method, settings, statistics of the training split, face model and its hash, where it came from
release.json       in a released folder: sha256 of every file, which `load` compares; see scripts/release.py
"""

import json
import os
import subprocess
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from deep_3drecon.assets import hash_file
from models import METHODS, RENDERERS, find, json_files
from models.device import pick_device

FORMAT = "idiolect-method-1"
RELEASE, RELEASE_FORMAT = "release.json", "idiolect-release-1"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or made for something else."""


def save(path, method_name, method, extra=None):
    """Write `path`.safetensors and `path`.json, both aside first; an interrupted save leaves the last pair as it was.

    method: module with `settings`, `stats` and `face` (None where there is no face model) and, where it has weights that
    only training needs, their prefixes as `not_released`. extra: more for the JSON, such as iteration and metrics.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights, text = path.with_suffix(".safetensors"), path.with_suffix(".json")
    content = {
        "format": FORMAT,
        "method": method_name,
        "settings": method.settings,
        "stats": method.stats,
        "face_model": method.face and method.face.name,
        "face_model_hash": method.face and method.face.hash,
        "git_commit": git_commit(),
        **(extra or {}),
    }
    aside_weights, aside_text = weights.with_suffix(".safetensors.part"), text.with_suffix(".json.part")
    save_file(_released(method), aside_weights)
    aside_text.write_text(json.dumps(content, indent=1))
    os.chmod(aside_weights, 0o644)  # safetensors makes files that only their owner reads
    os.replace(aside_weights, weights)
    os.replace(aside_text, text)
    return weights


def _released(method):
    """State by name without what only training needs."""
    hidden = tuple(getattr(method, "not_released", ()))
    return {n: x.detach().cpu().contiguous() for n, x in method.state_dict().items() if not n.startswith(hidden)}


def read(path):
    """JSON part of a checkpoint. path: with or without its ending, or a folder that holds `best`."""
    path = stem(path).with_suffix(".json")
    return json_files.read(path, FORMAT, CheckpointError, "checkpoint", "train one with train_style.py")


def load(path, device="cpu", face=None):
    """The trained method, ready to generate. Refuses weights of another network, another face model's numbers, and a released
    folder whose files are not those that were released.
    """
    check_release(path, texts=False)
    content, path = read(path), stem(path)
    method = find(METHODS | RENDERERS, content["method"])(content["settings"], content["stats"], face)
    if method.face is not None and method.face.hash != content["face_model_hash"]:
        raise CheckpointError(
            f"{path}: was trained on face model {content['face_model']} {content['face_model_hash'][:12]}, here it is "
            f"{method.face.hash[:12]}: fetch the assets of this version with python -m scripts.download, or train anew"
        )
    try:
        weights = load_file(path.with_suffix(".safetensors"))
        released = _released(method)
        hidden = {name: x for name, x in method.state_dict().items() if name not in released}
        method.load_state_dict(weights | hidden)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}.safetensors: does not hold this method's weights ({error})") from error
    return method.to(pick_device(device)).eval()


def load_motion(path, device="cpu", face=None):
    """`load` of a method that moves a face in a given Style; refuses the others."""
    method = load(path, device, face)
    if not hasattr(method, "mean_style"):
        raise CheckpointError(
            f"{path}: holds {read(path)['method']}, which takes no style of a face: give a checkpoint of style_avatar"
        )
    return method


def load_matching(path, method):
    """Weights of another run, where name and shape agree, into `method`; returns the names that found none."""
    path = stem(path)
    try:
        weights = load_file(path.with_suffix(".safetensors"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}.safetensors: not readable ({error}): give the folder of a trained run"
        ) from error
    own = method.state_dict()
    taken = {name: x for name, x in weights.items() if name in own and own[name].shape == x.shape}
    if not taken:
        raise CheckpointError(
            f"{path}.safetensors: no tensor has a name and shape of this network: give a run of its kind"
        )
    method.load_state_dict(own | taken)
    return sorted(set(own) - set(taken))


def check_release(folder, texts=True):
    """Compare a folder with its release.json; CheckpointError names every file that is absent or differs. Without one, nothing.

    texts: the model card (*.md) too. Files beside the released ones, such as styles of one's own, are nobody's business. Returns
    the release, or None.
    """
    folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    if not (folder / RELEASE).is_file():
        return None
    try:
        release = json.loads((folder / RELEASE).read_text())
        if release.get("format") != RELEASE_FORMAT:
            raise ValueError(f"format {release.get('format')!r} came, {RELEASE_FORMAT!r} is needed")
        wanted = {name: about["sha256"] for name, about in release["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / RELEASE}: cannot be read ({error}): fetch the release again") from error
    faults = []
    for name, digest in sorted(wanted.items()):
        if name.endswith(".md") and not texts:
            continue
        if not (folder / name).is_file():
            faults.append(f"{name} is absent")
        elif hash_file(folder / name) != digest:
            faults.append(f"{name} differs")
    if faults:
        raise CheckpointError(
            f"{folder}: not as it was released: {', '.join(faults)}: fetch it again, or delete {RELEASE} if the change is yours"
        )
    return release


def stem(path):
    """A checkpoint's path without ending; a folder means its `best`."""
    path = Path(path)
    if path.is_dir():
        return path / "best"
    return path.with_suffix("") if path.suffix in (".safetensors", ".json") else path


def git_commit():
    """Commit of the code that runs, or "unknown" outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
