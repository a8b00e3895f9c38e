"""Two processes under torchrun train what one process trains with twice the batch, and go on after a stop as if there had been none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.test_train_style import TINY, lines, same, store  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
SHORT = {
    # Noise is drawn by each process for its own half of the batch, so there is none here.
    "model": TINY["model"] | {"dims": TINY["model"]["dims"] | {"dropout": 0.0}},
    "augment": {"feature_noise": 0.0, "style_gain": 1.0, "mask_bands": 0, "style_noise": 0.0},
    "optim": TINY["optim"] | {"iterations": 6},
    "run": TINY["run"] | {"val_every": 3, "save_every": 3},
}


def trained(folder, store, processes, *overrides):  # noqa: F811
    """last.pt of a run of `train_style.py` in its own processes."""
    settings = folder / "short.yaml"
    settings.write_text(json.dumps(TINY | SHORT))
    output = folder / f"run{processes}"
    line = ["train_style.py", "--config", str(settings), f"data.lmdb={store}", f"run.output={output}", *overrides]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, *(torchrun if processes > 1 else []), *line]
    done = subprocess.run(start, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def pair(store, tmp_path_factory):  # noqa: F811
    """(state of one process with batches of 8, state of two with batches of 4 each, their folder)."""
    folder = tmp_path_factory.mktemp("torchrun")
    one = trained(folder, store, 1, "data.batch_size=8")
    return one, trained(folder, store, 2, "data.batch_size=4"), folder


def test_two_processes_are_one_with_twice_the_batch(pair):
    one, two, folder = pair
    assert one["iteration"] == two["iteration"] == 6
    for state in ("method", "mean"):
        assert one[state].keys() == two[state].keys()
        for name, value in one[state].items():
            if value.dim() < 2 and name != "pose_power":
                continue  # a bias before batch norm has rounding for a gradient, and Adam makes steps of it
            assert torch.allclose(value, two[state][name], atol=1e-4, rtol=1e-3), name
    val = [lines(folder / f"run{n}", "val")[-1]["loss"] for n in (1, 2)]
    assert val[0] == pytest.approx(val[1], rel=1e-2)
    assert len(lines(folder / "run2", "val")) == 2  # by one of the two processes, not by both


def test_two_processes_go_on_to_the_bit(pair, store, tmp_path):  # noqa: F811
    _, two, _ = pair
    trained(tmp_path, store, 2, "data.batch_size=4", "run.stop_at=4")
    assert same(trained(tmp_path, store, 2, "data.batch_size=4", "--resume"), two)
