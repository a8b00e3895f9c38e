"""Train a method or a renderer: the one loop for all of them.

    python train_style.py --config configs/style_avatar_tiny.yaml data.lmdb=data/lmdb run.output=data/runs/mine
    python train_style.py --config data/runs/mine/config.yaml --resume
    torchrun --nproc_per_node 4 train_style.py --config configs/style_avatar.yaml

Settings are the fields of configs.TrainConfig by dotted name. The run folder gets config.yaml, log.jsonl (and
TensorBoard files where that is installed), last.pt with all that is needed to go on, and the best checkpoint by the
val split as best.safetensors and best.json. Nothing in a run folder is ever deleted.

What the loop asks of a model (any entry of models.METHODS and models.RENDERERS):

    Model(settings, stats)          settings: the fields of ModelConfig and AugmentConfig; stats: facts of the data, JSON
    settings, stats, face           kept as attributes for the checkpoint; face: FaceModel, or None where there is none
    phases                          names; each has an optimiser of its own and a step in every iteration
    losses(batch, phase)            {name: scalar}, unweighted; batch["iteration"] counts from 0
    evaluate(batch)                 {name: scalar} of one validation item
    data_kind                       optional, default "motion": a name of data_process.batches.DATASETS
    parameters_of(phase)            optional: what a phase trains; default everything
    attach(train_set)               optional: called in every run, for what training needs and no checkpoint holds
    begin(train_set)                optional: called once on a fresh run, for first values that come from the data
    not_released                    optional: prefixes of weights that only training needs, such as ("discriminator.",)
"""

import argparse
import copy
import dataclasses
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import configs
from data_process.batches import endless, open_dataset
from data_process.schema import StoreError
from models import METHODS, RENDERERS, checkpoint, find


class RunError(RuntimeError):
    """A run that cannot start, go on or be trusted."""


class Steps(torch.nn.Module):
    """A method as the module that DistributedDataParallel wants: batch -> losses by name."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, batch, phase):
        return self.method.losses(batch, phase)


def learning_rate(iteration, optim):
    """Rate of one iteration (from 0): linear warm-up, then constant, in steps, or half a cosine down to 0."""
    if iteration < optim.warmup:
        return optim.lr * (iteration + 1) / optim.warmup
    if optim.schedule == "steps":
        return optim.lr * optim.gamma ** sum(iteration >= milestone for milestone in optim.milestones)
    if optim.schedule == "constant":
        return optim.lr
    done = (iteration - optim.warmup) / max(1, optim.iterations - optim.warmup)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def weighted(parts, weights):
    """Total of losses by name. A loss without a weight is only reported, a weight without a loss belongs elsewhere."""
    used = [weight * parts[name] for name, weight in weights.items() if name in parts]
    if not used:
        raise RunError(
            f"loss: weights of {', '.join(weights) or 'nothing'} came, the method has {', '.join(parts)}: weigh these"
        )
    return sum(used)


def loss_weights(config, iteration):
    """Weights of the losses at one iteration (from 0)."""
    late = config.later_from and iteration >= config.later_from
    return config.loss | (config.loss_later if late else {})


def check_weights(weights, names):
    """Refuse a weight of a loss that no phase has."""
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise RunError(f"loss: weights of {unknown} came, the method has {', '.join(names)}: weigh these")


def check_finite(total, parts, batch, iteration):
    """Stop at the first loss that is not a number and say which part of it, and which clips."""
    if torch.isfinite(total):
        return
    bad = {name: value.item() for name, value in parts.items() if not torch.isfinite(value)}
    raise RunError(
        f"iteration {iteration}: loss is not finite: {bad or 'only the sum'}, clips {sorted(set(batch['clip'].tolist()))}: "
        "lower optim.lr, set optim.clip_norm or look at these clips; last.pt and best are from before"
    )


def to_device(batch, device):
    """The batch with its tensors on `device`."""
    return {name: x.to(device) if torch.is_tensor(x) else x for name, x in batch.items()}


@torch.no_grad()
def follow(mean, method, decay, iteration):
    """Move the running mean of weights towards the method; faster in the beginning, when weights are still far off."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    for ours, new in zip(mean.state_dict().values(), method.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(new, 1 - decay)
        else:
            ours.copy_(new)


def validate(method, clips, weights, device):
    """Mean over the val items of what `method.evaluate` says, and "loss", the weighted total of its losses."""
    method.eval()
    sums = {}
    for i in range(len(clips)):
        clip = torch.utils.data.default_collate([clips[i]])
        for name, value in method.evaluate(to_device(clip, device)).items():
            sums[name] = sums.get(name, 0.0) + value.item()
    out = {name: value / len(clips) for name, value in sums.items()}
    return {"loss": weighted(out, weights)} | out


class RunFolder:
    """What a run writes. Only process 0 of a distributed run has one that does anything."""

    def __init__(self, path, active):
        self.path, self.active, self.board = Path(path), active, None
        if not active:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.log = (self.path / "log.jsonl").open("a")
        except OSError as error:
            raise RunError(
                f"run.output {path}: cannot be written ({error}): give a folder that you may write to"
            ) from error
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # optional: log.jsonl holds the same numbers
            return
        self.board = SummaryWriter(self.path)

    def write(self, kind, iteration, values):
        """One line of log.jsonl, the same numbers to TensorBoard, and a line to read on the terminal."""
        if not self.active:
            return
        self.log.write(json.dumps({"kind": kind, "iteration": iteration} | values) + "\n")
        self.log.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, iteration)
        print(
            f"{kind} {iteration:6d}  " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True
        )

    def save_state(self, state):
        """last.pt, aside first and then renamed."""
        if self.active:
            torch.save(state, self.path / "last.pt.part")
            os.replace(self.path / "last.pt.part", self.path / "last.pt")

    def load_state(self):
        """What `save_state` wrote; tensors and plain values only."""
        try:
            return torch.load(self.path / "last.pt", map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise RunError(f"{self.path}: no last.pt to resume from: start the run without --resume") from error

    def close(self):
        """Finish the files."""
        if self.active:
            self.log.close()
            if self.board is not None:
                self.board.close()


def read_stats(data):
    """stats.json of the training split as a dict."""
    path = Path(data.stats or Path(data.lmdb, "stats.json"))
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(
            f"{path}: no statistics ({error}): run python -m data_process.stats --lmdb {data.lmdb}"
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
    return find(METHODS | RENDERERS, name)


def open_data(config):
    """(training set, validation set, facts for the model's constructor) of the kind of data that the model reads."""
    kind = getattr(find_model(config.model.method), "data_kind", "motion")
    train_set, val_set = (open_dataset(kind, config.data, split, config.run.seed) for split in ("train", "val"))
    # A kind of data that needs no statistics of a corpus says itself what the model must know.
    return train_set, val_set, train_set.about() if hasattr(train_set, "about") else read_stats(config.data)


class Run:
    """One training run: everything that changes from iteration to iteration, and where it is kept."""

    def __init__(self, config, resume, rank, world, device):
        self.config, self.rank, self.world, self.device = config, rank, world, device
        output = Path(config.run.output)
        if not resume and (output / "log.jsonl").exists():
            raise RunError(f"run.output {output}: holds a run: add --resume to go on with it, or name another folder")
        torch.manual_seed(config.run.seed)
        self.train_set, self.val_set, stats = open_data(config)
        layout = torch.channels_last if config.optim.channels_last else torch.preserve_format
        self.method = build_method(config, stats).to(device, memory_format=layout)
        if hasattr(self.method, "attach"):
            self.method.attach(self.train_set)
        if not resume:
            self._begin()
        self.mean = copy.deepcopy(self.method) if config.optim.ema else self.method
        self.optimisers = {phase: self._optimiser(phase) for phase in self.method.phases}
        self.folder = RunFolder(output, rank == 0)
        self.iteration, self.best, self.stopped = 0, math.inf, False
        if resume:
            self._resume()
        elif rank == 0:
            configs.save(config, output / "config.yaml")
        self.steps = Steps(self.method)
        if world > 1:
            # Ranks hold their own batch norm statistics while training; rank 0 validates and saves.
            self.steps = DistributedDataParallel(
                self.steps,
                device_ids=[device.index] if device.type == "cuda" else None,
                find_unused_parameters=len(self.optimisers) > 1,
            )

    def _begin(self):
        """First weights: from the data, where the model asks for it, or from the checkpoint `run.init`."""
        if hasattr(self.method, "begin"):
            self.method.begin(self.train_set)
        if self.config.run.init:
            left = checkpoint.load_matching(self.config.run.init, self.method)
            print(f"started from {self.config.run.init}; {len(left)} tensors keep their first values {left[:4]}")

    def _parameters(self, phase):
        own = getattr(self.method, "parameters_of", None)
        return list(own(phase) if own else self.method.parameters())

    def _optimiser(self, phase):
        optim = self.config.optim
        kind = torch.optim.Adam if optim.optimiser == "adam" else torch.optim.AdamW
        return kind(self._parameters(phase), lr=optim.lr, betas=tuple(optim.betas), weight_decay=optim.weight_decay)

    def state(self):
        """All of a run that is not in its settings: noise and order of batches follow from seed and iteration."""
        return {
            "iteration": self.iteration,
            "best": self.best,
            "method": self.method.state_dict(),
            "mean": self.mean.state_dict(),
            "optimisers": {phase: optimiser.state_dict() for phase, optimiser in self.optimisers.items()},
        }

    def _resume(self):
        state = self.folder.load_state() if self.rank == 0 else RunFolder(self.folder.path, False).load_state()
        try:
            self.method.load_state_dict(state["method"])
            self.mean.load_state_dict(state["mean"])
            for phase, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][phase])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(
                f"{self.folder.path}: last.pt is of another network ({error}): resume with its config.yaml"
            ) from error
        self.iteration, self.best = state["iteration"], state["best"]

    def _only(self, phase):
        """Gradients for the parameters of this phase alone: the rest costs time and would be thrown away."""
        if len(self.optimisers) > 1:
            self.method.requires_grad_(False)
            for parameter in self._parameters(phase):
                parameter.requires_grad_(True)

    def _phase(self, phase, batches):
        """Forward and backward of one phase over the batches of an iteration -> (total, losses by name)."""
        optim, sums = self.config.optim, {}
        self._only(phase)
        self.optimisers[phase].zero_grad(set_to_none=True)
        for batch in batches:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.precision == "bf16"):
                parts = self.steps(batch, phase)
            parts = {name: value.float() for name, value in parts.items()}
            total = weighted(parts, loss_weights(self.config, self.iteration))
            check_finite(total, parts, batch, self.iteration)
            (total / len(batches)).backward()
            for name, value in ({"loss": total} | parts).items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(batches)
        return sums.pop("loss"), sums

    def step(self, batches):
        """One iteration of every phase -> losses by name, their total (of the first phase), the gradient's norm.

        batches: list of `optim.accumulate` batches, whose gradients are averaged before the step.
        """
        optim = self.config.optim
        # Noise depends on seed, process and iteration alone: a resumed run draws what the first one would have drawn.
        torch.manual_seed((self.config.run.seed * 4096 + self.rank) * 100_000_007 + self.iteration)
        self.method.train()
        batches = [to_device(batch, self.device) | {"iteration": self.iteration} for batch in batches]
        out, rate = {}, learning_rate(self.iteration, optim)
        for phase, optimiser in self.optimisers.items():
            total, parts = self._phase(phase, batches)
            for group in optimiser.param_groups:
                group["lr"] = rate
            norm = torch.nn.utils.clip_grad_norm_(self._parameters(phase), optim.clip_norm or math.inf)
            optimiser.step()
            out = {"loss": total} | out | parts | {("gradient" if not out else f"gradient_{phase}"): norm}
        if not self.iteration:
            check_weights(self.config.loss | self.config.loss_later, out)
        self.iteration += 1
        if self.mean is not self.method:
            follow(self.mean, self.method, optim.ema, self.iteration)
        return out

    def train(self):
        """Iterate to the end, to run.stop_at or until told to stop."""
        run, optim = self.config.run, self.config.optim
        last = min(optim.iterations, run.stop_at or optim.iterations)
        batches = endless(
            self.train_set,
            self.config.data.batch_size,
            run.seed,
            self.iteration * optim.accumulate,
            self.config.data.workers,
            self.rank,
            self.world,
        )
        started, first = time.monotonic(), self.iteration
        while self.iteration < last and not self.stopped:
            parts = self.step([next(batches) for _ in range(optim.accumulate)])
            if self.iteration % run.log_every == 0 or self.iteration == last:
                speed = (self.iteration - first) / (time.monotonic() - started)
                values = {name: value.item() for name, value in parts.items()}
                rate = learning_rate(self.iteration - 1, optim)
                self.folder.write("train", self.iteration, values | {"lr": rate, "iterations_per_s": speed})
            if self.iteration % run.val_every == 0 or self.iteration == last:
                self.validate()
            if self.iteration % run.save_every == 0 or self.iteration == last or self.stopped:
                self.folder.save_state(self.state())

    def stop(self, *signal_and_frame):
        """Ask `train` to save and end after the present iteration; what Ctrl-C and SIGTERM do."""
        self.stopped = True

    def validate(self):
        """The val split through the (mean) weights; the best so far become the released checkpoint."""
        if self.rank == 0:
            values = validate(self.mean, self.val_set, self.config.loss, self.device)
            self.folder.write("val", self.iteration, values)
            name = self.config.run.best_by
            if name not in values:
                raise RunError(f"run.best_by: {name!r} came, validation gives {', '.join(values)}: use one of these")
            score = -values[name] if name.endswith("correlation") else values[name]
            if score < self.best:
                self.best = score
                extra = {"iteration": self.iteration, "val": values, "data": self.config.data.lmdb}
                checkpoint.save(self.folder.path / "best", self.config.model.method, self.mean, extra)
        if self.world > 1:
            distributed.barrier()


def pick_device(name, local_rank):
    """torch.device of run.device; auto takes this process's GPU where there is one."""
    if name == "auto":
        return torch.device(f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def train(config, resume=False):
    """Run the settings to their end -> Run. Joins the other processes when started by torchrun."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = pick_device(config.run.device, int(os.environ.get("LOCAL_RANK", 0)))
    torch.set_num_threads(config.run.threads)
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    run = None
    try:
        run = Run(config, resume, rank, world, device)
        before = {number: signal.signal(number, run.stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            run.train()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return run
    finally:
        if run is not None:
            run.folder.close()
        if world > 1:
            distributed.destroy_process_group()


def main(argv=None):
    """Exit status: 0 trained, 1 refused with a reason."""
    parser = argparse.ArgumentParser(
        description="Train a method or a renderer.", epilog="Overrides: any setting as section.key=value."
    )
    parser.add_argument(
        "--config", help="YAML with settings; what it leaves out has its default in configs/__init__.py"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in run.output")
    parser.add_argument("overrides", nargs="*", help="section.key=value, such as optim.lr=1e-3")
    args = parser.parse_intermixed_args(argv)
    try:
        config = configs.load(args.config, args.overrides)
        run = train(config, args.resume)
    except (RunError, checkpoint.CheckpointError, configs.ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if run.stopped:
        print(f"stopped at iteration {run.iteration}: go on with --resume")
    best = Path(config.run.output, "best.json")
    if run.rank == 0 and best.is_file():
        content = checkpoint.read(best)
        print(
            f"best of {run.iteration} iterations: {best.with_suffix('.safetensors')} (iteration {content['iteration']})"
        )
        print("val " + "  ".join(f"{name} {value:.4g}" for name, value in content["val"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
