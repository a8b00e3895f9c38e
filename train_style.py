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
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import distributed

import configs
from data_process.batches import endless
from data_process.schema import StoreError
from models import checkpoint
from models.device import DeviceError, pick_device
from models.presets import PresetError
from scripts.training.folder import RunError, RunFolder
from scripts.training.objective import check_finite, check_weights, learning_rate, loss_weights, weighted
from scripts.training.processes import together
from scripts.training.setup import build_method, open_data

USER_ERRORS = (RunError, checkpoint.CheckpointError, configs.ConfigError, DeviceError, PresetError, StoreError)


class Steps(torch.nn.Module):
    """A method as the module that DistributedDataParallel wants: batch -> losses by name."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, batch, phase):
        return self.method.losses(batch, phase)


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
            self.steps = together(self.steps, device, len(self.optimisers) > 1)

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
    except USER_ERRORS as error:
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
