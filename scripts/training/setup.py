"""Model and data of a training run, from its settings."""

import dataclasses
import json
from pathlib import Path

from data_process.batches import open_dataset
from models import METHODS, RENDERERS, find
from scripts.training.folder import RunError


def read_stats(data):
    """stats.json of the training split as a dict."""
    path = Path(data.stats or Path(data.lmdb, "stats.json"))
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(
            f"{path}: no statistics ({reason}): run python -m data_process.stats --lmdb {data.lmdb}"
        ) from error


def build_method(config, stats):
    """The model that the settings name, with fresh weights; refuses windows and face models that do not fit it."""
    settings = dataclasses.asdict(config.model) | {"augment": dataclasses.asdict(config.augment)}
    name = settings.pop("method")
    method = find_model(name)(settings, stats)
    wanted = {"context_frames": getattr(method, "context_frames", None)}
    wanted["window_frames"] = getattr(method, "window_frames", None)
    for key, value in wanted.items():
        if value is not None and getattr(config.data, key) != value:
            raise RunError(
                f"data.{key}: {getattr(config.data, key)} came, {config.model.preset} needs {value}: set it so"
            )
    if method.face is not None and stats["face_model_hash"] != method.face.hash:
        raise RunError(
            f"the store was made with face model {stats['face_model_hash'][:12]}, here it is {method.face.hash[:12]}: "
            "fetch the assets of this version with python -m scripts.download and build the store anew"
        )
    return method


def find_model(name):
    """Class of a method or renderer by its name."""
    try:
        return find(METHODS | RENDERERS, name)
    except KeyError as error:
        raise RunError(f"model.method: {error.args[0]}") from error


def open_data(config):
    """(training set, validation set, facts for the model's constructor) of the kind of data that the model reads."""
    kind = getattr(find_model(config.model.method), "data_kind", "motion")
    train_set, val_set = (open_dataset(kind, config.data, split, config.run.seed) for split in ("train", "val"))
    # A kind of data that needs no statistics of a corpus says itself what the model must know.
    return train_set, val_set, train_set.about() if hasattr(train_set, "about") else read_stats(config.data)
