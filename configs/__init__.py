"""Settings: dataclasses that hold every default, and a strict `load` of YAML plus dotted overrides.

    config = load("configs/style_avatar_tiny.yaml", ["optim.lr=1e-3", "run.device=cpu"])

A YAML file holds only what differs from the defaults below. Its key `base: other.yaml` (relative to the file) starts
from another file. Order of strength: defaults, base, file, overrides. A key that no dataclass has, or a value of
another type than the field's, is refused.
"""

import dataclasses
import difflib
import hashlib
import json
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type or out of range; the message names it with its dotted path."""


@dataclass
class DataConfig:
    """What is read. A window is `window_frames` of motion (25 fps) plus sound for `context_frames` on each side."""

    lmdb: str = "data/lmdb"
    stats: str | None = None  # None: stats.json inside the LMDB folder
    window_frames: int = 32
    context_frames: int = 4
    batch_size: int = 32
    workers: int = 2  # DataLoader processes; 0 reads in the training process
    features: list[str] = field(default_factory=list)  # audio features beyond the usual three, by name in the store
    style_frames: int = 0  # frames of the same person beside each window, for a learnt style; 0 is none
    picture_size: int = 256  # pixels along a side of the crops that renderers are trained on
    crop_heads: float = 1.5  # side of these crops in heights of the head


@dataclass
class ModelConfig:
    """Which network. `dims` overrides single numbers of the preset by name."""

    method: str = "style_avatar"
    preset: str = "paper"
    dims: dict[str, float | int] = field(default_factory=dict)
    pose: bool = True  # head pose beside expression


@dataclass
class OptimConfig:
    """AdamW, one for each phase. The rate rises from 0 to `lr` over `warmup` iterations, then follows `schedule` down to
    0 or stays.

    optimiser: adam is the one of before 2017, whose weight decay is part of the gradient. steps: the rate is multiplied by
    `gamma` at each of `milestones` (iterations).
    """

    lr: float = 5e-4
    weight_decay: float = 1e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    iterations: int = 50_000
    warmup: int = 0
    optimiser: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    clip_norm: float = 0.0  # largest norm of the gradient; 0 leaves it alone
    accumulate: int = 1  # batches whose gradients are averaged into one step
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, where the processor has it
    channels_last: bool = False  # memory order of convolutions over pictures; faster on most processors
    ema: float = 0.0  # decay of the running mean of weights that is validated and released; 0 is off


@dataclass
class AugmentConfig:
    """Disturbances of a training batch; all off by default."""

    feature_noise: float = 0.0  # standard deviation, on z-scored audio features
    feature_drop: float = 0.0  # share of audio rows set to zero
    gain_db: float = 0.0  # mel and energy louder or softer by up to this much, uniformly
    colour: float = 0.0  # standard deviation of a smooth curve over the z-scored mel bands: another microphone
    shift_bands: float = 0.0  # mel bands by which a voice is moved up or down: another length of the vocal tract
    mask_bands: int = 0  # widest stretch of mel bands that is hidden
    stream_drop: float = 0.0  # chance of each of phonemes and mel to be hidden for a whole window
    style_noise: float = 0.0  # standard deviation, on the z-scored style code
    style_drop: float = 0.0  # chance that the network sees no style code for a window
    style_gain: float = 1.0  # speakers made livelier or calmer by up to this factor, truth and style alike


@dataclass
class RunConfig:
    """Where a run lives and how often it speaks. Counts are in iterations."""

    output: str = "data/runs/train"
    init: str | None = None  # checkpoint folder whose weights, where names and shapes agree, a fresh run starts from
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int = 2  # torch threads of the training process
    log_every: int = 50
    val_every: int = 500
    save_every: int = 1000
    best_by: str = "loss"  # what of validation chooses the best checkpoint; less is better, but for a correlation
    stop_at: int = 0  # stop at this iteration, to be resumed later; 0: go on to optim.iterations


@dataclass
class TrainConfig:
    """Everything that `train_style.py` needs to know; `loss` weighs, by name, the losses that the method returns.

    From iteration `later_from` on the weights in `loss_later` take the place of those of the same names; 0 is never.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: dict[str, float] = field(default_factory=dict)
    loss_later: dict[str, float] = field(default_factory=dict)
    later_from: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self):
        """Refuse numbers that no run can use; called by `load`."""
        positive = {
            "data.window_frames": self.data.window_frames,
            "data.batch_size": self.data.batch_size,
            "optim.lr": self.optim.lr,
            "optim.iterations": self.optim.iterations,
            "optim.accumulate": self.optim.accumulate,
            "run.threads": self.run.threads,
            "run.log_every": self.run.log_every,
            "run.val_every": self.run.val_every,
            "run.save_every": self.run.save_every,
        }
        for name, value in positive.items():
            if not value > 0:  # also catches nan
                raise ConfigError(f"{name}: {value} came, a number above 0 is needed")
        shares = {"optim.ema": self.optim.ema}
        shares |= {f"augment.{n}": getattr(self.augment, n) for n in ("feature_drop", "stream_drop", "style_drop")}
        shares |= {f"optim.betas[{i}]": value for i, value in enumerate(self.optim.betas)}
        if len(self.optim.betas) != 2:
            raise ConfigError(f"optim.betas: {self.optim.betas} came, two numbers are needed")
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise ConfigError(f"{name}: {value} came, a number from 0 up to, not including, 1 is needed")


def load(path=None, overrides=(), schema=TrainConfig):
    """Settings as a `schema` instance: its defaults, then the YAML at `path` with its bases, then `overrides`.

    path: file, or None for the defaults alone. overrides: ["section.key=value", ...], the value read as YAML.
    Raises ConfigError for an unreadable file, an unknown key, a wrong type or a number out of range.
    """
    merged = OmegaConf.merge(*([] if path is None else _with_bases(Path(path))), _dotted(overrides))
    try:
        plain = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error}") from error
    config = _build(schema, plain, "", str(path or "overrides"))
    if hasattr(config, "check"):
        config.check()
    return config


def save(config, path):
    """Write every setting, defaults included, as YAML that `load` reads back to an equal object."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config))))
    os.replace(part, path)


def config_hash(config):
    """Twelve hexadecimal digits that depend on the values of all settings, not on order or how they were given."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_bases(path, seen=()):
    """OmegaConf objects of the file and, before it, of the files its `base` key leads to; weakest first."""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: its `base` leads back to itself: {' -> '.join(p.name for p in (*seen, path))}")
    try:
        content = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}: give a YAML file of settings, such as those in configs/"
        ) from error
    except (UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not readable as YAML settings: {' '.join(str(error).split())}") from error
    if not OmegaConf.is_dict(content):
        raise ConfigError(f"{path}: a list came, sections such as `optim:` with keys below are needed")
    base = content.pop("base", None)
    if base is None:
        return [content]
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: {base!r} came, one file name is needed")
    return [*_with_bases(path.parent / base, (*seen, path)), content]


def _dotted(overrides):
    """Overrides as an OmegaConf object."""
    for override in overrides:
        name, equals, _ = override.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"override {override!r}: section.key=value is needed, for example optim.lr=1e-3")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"overrides {' '.join(overrides)}: {error}") from error


def _build(schema, values, where, source):
    """An instance of the dataclass `schema` from a plain dict, every key and type checked."""
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: {where}: {_came(values)}, keys below it are needed")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = typing.get_type_hints(schema)
    checked = {}
    for name, value in values.items():
        dotted = f"{where}.{name}" if where else str(name)
        if name not in fields:
            raise ConfigError(f"{source}: unknown key {dotted}: {_suggest(str(name), fields, where)}")
        checked[name] = _convert(hints[name], value, dotted, source)
    return schema(**checked)


def _suggest(name, fields, where):
    """The valid key nearest to `name`, or all of them when none is near."""
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    prefix = f"{where}." if where else ""
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return "valid keys here are " + ", ".join(prefix + field for field in fields)


def _convert(hint, value, where, source):
    """`value` as the type `hint` asks, where that loses nothing; ConfigError otherwise."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where, source)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [a for a in arguments if a is not type(None)]
        return value if type(value) in kinds else _convert(kinds[0], value, where, source)
    if origin is Literal and value in arguments:
        return value
    if origin is dict and isinstance(value, dict):
        return {str(k): _convert(arguments[1], v, f"{where}.{k}", source) for k, v in value.items()}
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], v, f"{where}[{i}]", source) for i, v in enumerate(value)]
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{source}: {where}: {_came(value)}, {_wanted(hint)} is needed")


def _came(value):
    """A value and its type in words."""
    return f"{value!r} ({type(value).__name__}) came"


def _wanted(hint):
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is dict:
        return f"a mapping of names to {arguments[1].__name__}"
    if origin is list:
        return f"a list of {arguments[0].__name__}"
    return {int: "a whole number (int)", float: "a number (float)", str: "a text (str)", bool: "true or false"}.get(
        hint, str(hint)
    )
