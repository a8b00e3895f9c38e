"""The training loop on a small store: it learns, resumes to the bit, refuses what it should."""

import json
import math

import numpy as np
import pytest
import torch

import configs
import train_style
from data_process import schema, stats
from data_process.batches import endless
from data_process.dataset import WindowDataset
from data_process.store import Store, StoreWriter
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FaceTrack
from models import METHODS, checkpoint
from models.style import Style
from scripts.training import objective, setup
from scripts.training.folder import RunError
from tests.models.toy import toy_clip

TINY = {
    "data": {"window_frames": 24, "context_frames": 9, "batch_size": 4, "workers": 0},
    "model": {"preset": "tiny", "dims": {"width": 16, "depth": 2, "style_width": 8, "head_width": 8}},
    "optim": {"lr": 0.003, "iterations": 20, "warmup": 3, "schedule": "cosine", "clip_norm": 5.0, "ema": 0.9},
    "loss": {"expression": 1.0, "lips": 0.1, "lip_opening": 0.1, "pose": 0.1},
    "augment": {"feature_noise": 0.1, "style_gain": 1.5, "mask_bands": 3, "style_noise": 0.1},
    "run": {"threads": 1, "val_every": 10, "save_every": 5, "log_every": 5, "device": "cpu", "seed": 7},
}


def add_clip(store, split, name, clip, face):
    """One toy clip as the records that training reads."""
    n = len(clip["exp"])
    coeff = OPEN_LAYOUT.join(exp=clip["exp"], angle=clip["angle"], trans=clip["trans"])
    crop = np.tile(np.eye(2, 3, dtype=np.float32), (n, 1, 1))
    arrays = (coeff, np.zeros((n, 478, 2), np.float32), crop, np.ones(n, bool), np.zeros((n, 52), np.float32))
    track = FaceTrack(*arrays, 25.0, (64, 64), "open", face.hash)
    records = {key: schema.pack_array(clip[key]) for key in schema.FEATURES}
    records |= {"coeff": schema.pack_array(coeff), "track": schema.pack_track(track)}
    store.add(name, "key", split, records, {"n_frames": n, "speaker": "somebody"})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """LMDB with 6 train and 2 val clips of the toy world."""
    path, face = tmp_path_factory.mktemp("store") / "toy.lmdb", load_face_model("open")
    with StoreWriter(path, {}) as writer:
        for i in range(8):
            add_clip(writer, "train" if i < 6 else "val", f"clip{i}", toy_clip(i, 0.8 + 0.1 * i, 50 + 7 * i), face)
        about = {
            "face_model": "open",
            "face_model_hash": face.hash,
            "layout": OPEN_LAYOUT.sizes,
            "speakers": ["somebody"],
        }
        writer.finish(about, {})
    (path / "stats.json").write_text(json.dumps(stats.compute(Store(path))))
    return path


@pytest.fixture
def run(store, tmp_path, capsys):
    """Function that trains in a folder of tmp_path with overrides -> (exit status, its error text)."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))  # JSON is YAML

    def start(name, *overrides, resume=False):
        line = [
            "--config",
            str(tmp_path / "tiny.yaml"),
            f"data.lmdb={store}",
            f"run.output={tmp_path / name}",
            *overrides,
        ]
        status = train_style.main(line + ["--resume"] * resume)
        return status, capsys.readouterr().err

    return start


def lines(folder, kind):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def same(a, b):
    """Equality of nested states to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


def test_resumed_run_equals_the_straight_one_to_the_bit(run, tmp_path):
    assert run("straight")[0] == 0
    assert run("pieces", "run.stop_at=7")[0] == 0
    assert run("pieces", "run.stop_at=10", resume=True)[0] == 0
    torch.manual_seed(123)  # what happened in between does not matter
    assert run("pieces", resume=True)[0] == 0
    straight, pieces = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("straight", "pieces"))
    assert straight["iteration"] == 20 and same(straight, pieces)
    assert (tmp_path / "straight/best.safetensors").read_bytes() == (tmp_path / "pieces/best.safetensors").read_bytes()
    other = run("other", "run.seed=8")[0]
    assert other == 0 and not same(
        straight["method"], torch.load(tmp_path / "other/last.pt", weights_only=True)["method"]
    )


def test_run_learns_and_leaves_what_inference_needs(run, tmp_path):
    assert run("run", "optim.iterations=150", "run.val_every=50", "model.dims.width=32")[0] == 0
    folder = tmp_path / "run"
    train, val = lines(folder, "train"), lines(folder, "val")
    assert [row["iteration"] for row in val] == [50, 100, 150]
    assert np.mean([r["loss"] for r in train[-3:]]) < 0.8 * np.mean([r["loss"] for r in train[:3]])
    assert val[-1]["lip_correlation"] > 0.5
    config = configs.load(folder / "config.yaml")
    assert config.optim.iterations == 150 and config.augment.style_gain == 1.5
    best = checkpoint.read(folder)
    assert best["val"]["loss"] == min(row["loss"] for row in val)
    clip = toy_clip(77)
    motion = checkpoint.load(folder).generate(clip, Style.from_statistics(clip["statistics"]))
    assert motion["exp"].shape == (75, 52)
    assert not list(folder.glob("*.part"))


def test_a_run_is_not_started_over_another(run, tmp_path):
    assert run("run", "optim.iterations=5")[0] == 0
    before = (tmp_path / "run/last.pt").read_bytes()
    status, error = run("run", "optim.iterations=5")
    assert status == 1 and "--resume" in error
    assert (tmp_path / "run/last.pt").read_bytes() == before


def test_resume_without_a_run_is_refused(run):
    status, error = run("nothing", resume=True)
    assert status == 1 and "no last.pt" in error


def test_a_damaged_state_is_refused(run, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half/last.pt").write_bytes(b"half a file")
    status, error = run("half", resume=True)
    assert status == 1 and "last.pt: cannot be read" in error


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("loss.lipz=1", "lipz"),
        ("data.context_frames=4", "data.context_frames"),
        ("data.lmdb=/nowhere", "/nowhere"),
        ("optim.lrr=1", "did you mean optim.lr"),
        ("run.best_by=beauty", "lip_correlation"),
        ("model.preset=huge", "preset 'huge' came, there is paper, tiny"),
        ("model.dims.widht=3", "widht"),
        ("model.method=style_avtar", "style_avatar_renderer"),
        ("model.method=talking_style", "no mesh data here"),
        ("run.device=gpu", "device 'gpu'"),
    ],
)
def test_settings_that_do_not_fit_are_named(run, override, named):
    status, error = run("bad", override)
    assert status == 1 and named in error


def test_a_loss_that_is_no_number_stops_the_run_and_is_named(run, tmp_path):
    status, error = run("bad", "optim.lr=1e30", "optim.clip_norm=0", "optim.warmup=0", "run.val_every=1000")
    assert status == 1 and "not finite" in error and "expression" in error and "clips [" in error
    parts = {"a": torch.tensor(1.0), "b": torch.tensor(math.nan)}
    with pytest.raises(RunError, match="'b'"):
        objective.check_finite(parts["b"], parts, {"clip": torch.tensor([3, 1])}, 5)


def test_a_store_of_another_face_model_is_refused(run, store, tmp_path):
    wrong = json.loads((store / "stats.json").read_text()) | {"face_model_hash": "0" * 64}
    (tmp_path / "stats.json").write_text(json.dumps(wrong))
    status, error = run("bad", f"data.stats={tmp_path / 'stats.json'}")
    assert status == 1 and "face model" in error


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_can_be_entered_anywhere_and_processes_share_them(store, workers):
    def read(start, n, rank=0, world=1, size=4):
        dataset = WindowDataset(store, "train", 24, 9, seed=1)
        batches = endless(dataset, size, 1, start, workers, rank, world)
        return [next(batches) for _ in range(n)]

    whole = read(0, 30)
    for a, b in zip(whole[17:], read(17, 13), strict=True):
        assert same(a, b)
    epoch = len(WindowDataset(store, "train", 24, 9)) // 4
    assert not same(whole[0]["exp"], whole[epoch]["exp"])
    halves = [read(3, 2, rank, 2, 2) for rank in (0, 1)]
    for i in range(2):
        both = torch.cat([halves[0][i]["exp"], halves[1][i]["exp"]])
        assert sorted(both.sum((1, 2)).tolist()) == pytest.approx(sorted(whole[3 + i]["exp"].sum((1, 2)).tolist()))


def test_learning_rate_warms_up_and_falls():
    optim = configs.OptimConfig(lr=1.0, warmup=4, iterations=104, schedule="cosine")
    rates = [objective.learning_rate(i, optim) for i in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1.0 and rates[54] == pytest.approx(0.5)
    assert np.all(np.diff(rates[4:]) < 0) and rates[-1] < 1e-3
    assert objective.learning_rate(10**6, configs.OptimConfig(lr=0.1)) == 0.1


def test_schedules_of_the_paper():
    """Renderer: x 0.7 at ten milestones. Motion: the loss counts 50 times from iteration 3000 on."""
    optim = configs.load("configs/renderer_style_avatar.yaml").optim
    rates = [objective.learning_rate(i, optim) for i in (0, 599_999, 600_000, 650_000, 999_999)]
    assert rates == pytest.approx([2e-4, 2e-4, 0.7 * 2e-4, 0.49 * 2e-4, 0.7**10 * 2e-4])
    config = configs.load("configs/style_avatar_paper.yaml")
    assert [objective.loss_weights(config, i)["expression"] for i in (0, 2999, 3000, 49_999)] == [1, 1, 50, 50]
    assert objective.loss_weights(configs.TrainConfig(loss={"a": 2.0}), 10**6) == {"a": 2.0}


def test_shipped_settings_fit_their_networks(store):
    for name in ("style_avatar", "style_avatar_tiny", "style_avatar_paper"):
        config = configs.load(f"{configs.__path__[0]}/{name}.yaml", [f"data.lmdb={store}"])
        method = setup.build_method(config, setup.read_stats(config.data))
        batch = WindowDataset(store, "train", config.data.window_frames, config.data.context_frames)
        parts = method.losses(torch.utils.data.default_collate([batch[0], batch[5]]), "motion")
        assert torch.isfinite(objective.weighted(parts, config.loss))


class TwoPhases(torch.nn.Module):
    """A generator of the mean expression and a critic of it: the smallest model with two phases."""

    phases = ("generator", "discriminator")
    not_released = ("critic.",)
    face = None

    def __init__(self, settings, stats, face=None):
        super().__init__()
        self.settings, self.stats = settings, stats
        self.generator, self.critic = torch.nn.Linear(1, 52), torch.nn.Linear(52, 1)
        self.begun = 0

    def begin(self, train_set):
        self.begun = len(train_set)

    def parameters_of(self, phase):
        return (self.generator if phase == "generator" else self.critic).parameters()

    def losses(self, batch, phase):
        real = batch["exp"].mean(1)
        made = self.generator(real.new_ones(len(real), 1))
        if phase == "generator":
            return {"l1": (made - real).abs().mean(), "adversarial": -self.critic(made).mean()}
        return {"critic": (self.critic(made.detach()) - self.critic(real)).mean() + self.critic(real).square().mean()}

    def evaluate(self, batch):
        return {"l1": self.losses(batch, "generator")["l1"]}


@pytest.fixture
def two_phases(monkeypatch):
    monkeypatch.setitem(METHODS, "two_phases", "tests.test_train_style:TwoPhases")
    line = "model.method=two_phases", "loss={l1: 1.0, adversarial: 0.1, critic: 1.0}"
    return (*line, "data.window_frames=24", "optim.clip_norm=0", "optim.schedule=constant", "optim.warmup=0")


def replaced_loss(tmp_path):
    """The file of settings without its losses: those of an override are merged into, not put in place of, a file's."""
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "loss"}))


def test_every_phase_trains_its_own_parameters_and_resumes_to_the_bit(run, two_phases, tmp_path):
    replaced_loss(tmp_path)
    assert run("straight", *two_phases)[0] == 0
    assert run("pieces", *two_phases, "run.stop_at=7")[0] == 0
    assert run("pieces", *two_phases, resume=True)[0] == 0
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("straight", "pieces")]
    assert same(*states) and set(states[0]["optimisers"]) == {"generator", "discriminator"}
    shapes = {p: [s["exp_avg"].shape for s in o["state"].values()] for p, o in states[0]["optimisers"].items()}
    assert shapes == {"generator": [(52, 1), (52,)], "discriminator": [(1, 52), (1,)]}
    weights = torch.load(tmp_path / "straight/last.pt", weights_only=True)["method"]
    released = checkpoint.load_file(tmp_path / "straight/best.safetensors")
    assert set(weights) - set(released) == {"critic.weight", "critic.bias"}


def test_batches_accumulated_are_one_large_batch(run, two_phases, tmp_path):
    replaced_loss(tmp_path)
    plain = (*two_phases, "optim.iterations=3", "optim.ema=0", "data.stats=null")
    assert run("large", *plain, "data.batch_size=8")[0] == 0
    assert run("small", *plain, "data.batch_size=4", "optim.accumulate=2")[0] == 0
    large, small = (torch.load(tmp_path / n / "last.pt", weights_only=True)["method"] for n in ("large", "small"))
    assert all(torch.allclose(large[name], small[name], atol=1e-6) for name in large)


def test_a_run_starts_from_another_runs_weights(run, two_phases, tmp_path):
    replaced_loss(tmp_path)
    assert run("first", *two_phases)[0] == 0
    assert run("second", *two_phases, f"run.init={tmp_path / 'first'}", "optim.lr=1e-12")[0] == 0
    first, second = (checkpoint.load_file(tmp_path / n / "best.safetensors") for n in ("first", "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert run("third", *two_phases, f"run.init={tmp_path / 'nothing'}")[0] == 1


def test_bf16_follows_fp32(run, two_phases, tmp_path):
    replaced_loss(tmp_path)
    for precision in ("fp32", "bf16"):
        assert run(precision, *two_phases, f"optim.precision={precision}")[0] == 0
    full, half = (lines(tmp_path / n, "val")[-1]["l1"] for n in ("fp32", "bf16"))
    assert abs(half / full - 1) < 0.02
