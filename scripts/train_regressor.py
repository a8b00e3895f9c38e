"""Train the face regressor `deep_3drecon.open_regressor` on made faces, measure it, release it.

    python -m scripts.train_regressor render   --data data/runs/faces --people 480
    python -m scripts.train_regressor train    --data data/runs/faces --output data/runs/open_regressor
    python -m scripts.train_regressor evaluate --data data/runs/faces
    python -m scripts.train_regressor clips    --videos FOLDER

`render` makes the pictures, about 1.2 s a person on one core; `train` needs about 15 minutes of one core and writes the
regressor. Both go on where they were stopped, and --minutes stops them.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_process.made_crop_batches import Cost, FaceData, whole
from data_process.made_faces import make_faces
from deep_3drecon.face_model import load_face_model
from deep_3drecon.open_regressor import FaceNetwork, OpenRegressor, RegressorError

N_FOR_SPREAD = 2048
ROUND = 16  # batches whose crops are drawn together, and used twice


def render(args):
    """Pictures of every person who is not there yet."""
    folder, began = Path(args.data), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(args.first, args.people), unit="person", desc="render"):
        if time.monotonic() - began > 60 * args.minutes:
            print(f"{number} of {args.people} people: run again to go on")
            return
        path = folder / f"{number:05d}.npz"
        if not path.exists():
            make_faces(number, args.seed).save(path)


def new_network(data, args, rng):
    """A network that knows mean and spread of the faces it will see."""
    network = FaceNetwork(args.width)
    batch = data.crops(rng.choice(len(data), min(N_FOR_SPREAD, len(data)), replace=False), rng)
    for name, start in zip(network.parts, np.cumsum([0, *network.parts.values()]), strict=False):
        part = slice(start, start + network.parts[name])
        if name in ("trans", "exp", "id"):
            network.mean[part], network.spread[part] = batch[name].mean(0), batch[name].std(0).clamp(min=0.02)
    network.mean[:6] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    network.mean[-3:] = torch.tensor([2.0, 1.5, 0.5])
    network.spread[:6] = 0.5
    return network


def spreads(network):
    """Spread of expression and identity that the network knows."""
    parts = dict(zip(network.parts, network.spread.split(list(network.parts.values())), strict=True))
    return parts["exp"], parts["id"]


def train(args):
    """Go on from the last state in the output folder, if any; at the end write the regressor there."""
    folder, began = Path(args.output), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    data, state_path = FaceData(args.data, "train"), folder / "state.pt"
    rng = np.random.default_rng((args.seed, 0))
    torch.manual_seed(args.seed)
    network = new_network(data, args, rng)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps, pct_start=0.1)
    step, seconds = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        step, seconds = state["step"], state["seconds"]
    cost, model = Cost(load_face_model("open"), *spreads(network)), network.train()
    model.half = True
    bar = tqdm(total=args.steps, initial=step, unit="step", desc="train")
    while step < args.steps and time.monotonic() - began < 60 * args.minutes:
        rng = np.random.default_rng((args.seed, 1, step))
        pool = data.crops(rng.choice(len(data), ROUND * args.batch), rng)
        order = np.concatenate([rng.permutation(ROUND * args.batch) for _ in range(2)])
        for numbers in np.split(order, 2 * ROUND):
            batch = {name: value[numbers] for name, value in pool.items()}
            costs = cost(model(batch["crops"].float()), batch)
            value = whole(costs)
            if not torch.isfinite(value):
                raise RegressorError(f"step {step}: the loss is not finite ({costs}); use a smaller --lr")
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step += 1
            if step < args.steps:
                schedule.step()
            bar.update()
            if step == args.steps:
                break
        if step % (4 * 2 * ROUND) == 0 or step >= args.steps:
            print(f"step {step}: " + ", ".join(f"{name} {v.item():.3f}" for name, v in costs.items()), flush=True)
    state = {"network": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    state |= {"step": step, "seconds": seconds + time.monotonic() - began}
    torch.save(state, state_path.with_suffix(".part"))
    os.replace(state_path.with_suffix(".part"), state_path)
    if step < args.steps:
        print(f"{step} of {args.steps} steps: run again to go on")
    model.half = False
    facts = {name: getattr(args, name) for name in ("seed", "steps", "batch", "lr")}
    facts |= {
        "trained_on": f"{len(data)} pictures of {len(data.people)} made people",
        "minutes": round(state["seconds"] / 60, 1),
    }
    OpenRegressor(model.eval()).save(folder, steps_done=step, **facts)


def main(argv=None):
    """Exit status: 0, or 1 after an error."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    rendering = commands.add_parser("render", help="make pictures of made faces")
    rendering.add_argument("--people", type=int, default=480, help="default 480")
    rendering.add_argument("--first", type=int, default=0, help="number of the first one (default 0)")
    training = commands.add_parser("train", help="make weights")
    training.add_argument("--output", required=True, help="folder for the regressor and the state of its training")
    for name, value in {"steps": 5120, "batch": 64, "width": 24}.items():
        training.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    training.add_argument("--lr", type=float, default=2e-3, help="largest step size (default 0.002)")
    for command in (rendering, training):
        command.add_argument("--data", required=True, help="folder of the pictures, 2.5 MB a person")
        command.add_argument("--seed", type=int, default=0, help="default 0")
        command.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        {"render": render, "train": train}[args.command](args)
    except (RegressorError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
