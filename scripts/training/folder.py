"""The folder of a training run: its log, the state to go on from, and how it refuses."""

import json
import os
import pickle
from pathlib import Path

import torch

# what a file that is no state, or half of one, makes torch.load say
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError)


class RunError(RuntimeError):
    """A run that cannot start, go on or be trusted."""


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
        except DAMAGE as error:
            raise RunError(
                f"{self.path}/last.pt: cannot be read ({error}): start anew in another folder, from this run's best with run.init"
            ) from error

    def close(self):
        """Finish the files."""
        if self.active:
            self.log.close()
            if self.board is not None:
                self.board.close()
