"""Settings: strict keys and types, order of strength, round trip."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from configs import ConfigError, TrainConfig, config_hash, load, save
from configs.evaluation import EvaluateConfig

SHIPPED = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_are_the_dataclass():
    assert load() == TrainConfig()


def test_base_file_and_overrides_in_order_of_strength(tmp_path):
    write(tmp_path, "base.yaml", "optim: {lr: 0.1, warmup: 7, iterations: 9}\nloss: {lip: 1, velocity: 2}\n")
    top = write(tmp_path, "top.yaml", "base: base.yaml\noptim: {lr: 0.2, warmup: 8}\nloss: {lip: 3}\n")
    config = load(top, ["optim.lr=1e-3", "loss.new=0.5", "data.stats=other.json"])
    assert (config.optim.lr, config.optim.warmup, config.optim.iterations) == (1e-3, 8, 9)
    assert config.loss == {"lip": 3.0, "velocity": 2.0, "new": 0.5}
    assert config.data.stats == "other.json"
    assert config.run == TrainConfig().run


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.lrr=1", ["optim.lrr", "did you mean optim.lr?"]),
        ("optm.lr=1", ["unknown key optm", "did you mean optim?"]),
        ("run.xyzzy=1", ["run.xyzzy", "run.seed"]),
        ("optim.lr=fast", ["optim.lr", "'fast' (str)", "float"]),
        ("optim.lr=true", ["optim.lr", "True (bool)"]),
        ("data.batch_size=2.5", ["data.batch_size", "2.5 (float)", "int"]),
        ("data.lmdb=3", ["data.lmdb", "3 (int)", "str"]),
        ("data=3", ["data", "3 (int)", "keys below"]),
        ("loss.lip=much", ["loss.lip", "'much'"]),
        ("loss=3", ["loss", "mapping"]),
        ("optim.schedule=linear", ["optim.schedule", "'constant', 'cosine'"]),
        ("optim.lr=", ["optim.lr", "None"]),
        ("data.batch_size=0", ["data.batch_size", "above 0"]),
        ("optim.lr=.nan", ["optim.lr", "above 0"]),
        ("optim.ema=1.0", ["optim.ema", "1"]),
        ("optim.lr=${nowhere}", ["nowhere"]),
        ("optim.lr", ["optim.lr", "section.key=value"]),
    ],
)
def test_a_wrong_override_is_refused_with_its_name(override, parts):
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "optim: [1, 2", "base: 3\n", "base: absent.yaml\n"])
def test_a_wrong_file_is_refused_with_its_name(tmp_path, text):
    path = write(tmp_path, "broken.yaml", text)
    with pytest.raises(ConfigError, match="broken.yaml|absent.yaml"):
        load(path)


def test_a_missing_file_and_a_circle_of_bases_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        load(tmp_path / "nowhere.yaml")
    write(tmp_path, "a.yaml", "base: b.yaml\n")
    write(tmp_path, "b.yaml", "base: a.yaml\n")
    with pytest.raises(ConfigError, match="a.yaml -> b.yaml -> a.yaml"):
        load(tmp_path / "a.yaml")


def test_an_empty_file_means_the_defaults(tmp_path):
    assert load(write(tmp_path, "empty.yaml", "# nothing yet\n")) == TrainConfig()


def test_save_and_load_give_the_same_object_and_hash(tmp_path):
    config = load(None, ["optim.lr=3e-5", "loss.lip=2", "run.output=data/runs/other", "model.dims.width=64"])
    save(config, tmp_path / "run" / "config.yaml")
    again = load(tmp_path / "run" / "config.yaml")
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_numbers_of_a_network_may_be_counts_or_shares():
    dims = load(None, ["model.dims.width=64", "model.dims.dropout=0.0"]).model.dims
    assert dims == {"width": 64, "dropout": 0.0} and [type(x) for x in dims.values()] == [int, float]
    with pytest.raises(ConfigError, match="model.dims.width: 'wide' .* a number"):
        load(None, ["model.dims.width=wide"])


def test_hash_follows_values_not_order_or_spelling():
    first = load(None, ["optim.lr=0.001", "loss.a=1", "loss.b=2"])
    second = load(None, ["loss.b=2.0", "loss.a=1.0", "optim.lr=1e-3"])
    assert config_hash(first) == config_hash(second)
    assert config_hash(first) != config_hash(load(None, ["optim.lr=0.002", "loss.a=1", "loss.b=2"]))


def test_another_schema_with_lists():
    @dataclass
    class Small:
        sizes: list[int] = field(default_factory=list)
        quick: bool = False

    assert load(None, ["sizes=[1,2]", "quick=true"], Small) == Small([1, 2], True)
    with pytest.raises(ConfigError, match=r"sizes\[1\]"):
        load(None, ["sizes=[1,x]"], Small)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_file_loads(path):
    """The settings of a training run; `evaluate_*` are of an evaluation, files of another schema start with `renderer_`."""
    if path.stem.startswith("renderer_"):
        pytest.skip("not a training config")
    load(path, schema=EvaluateConfig if path.stem.startswith("evaluate_") else TrainConfig)
