"""Each published data set end to end on generated files of its true form and size: prepare, two epochs, test, animate."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import configs
import inference
import train_style
from data_process import BIWI, MEAD, meshes, process_voca_data
from data_process.meshes_splits import BIWI_SEEN, VOCASET
from data_process.video import read_frames
from deep_3drecon import topology as topologies
from deep_3drecon.topology_export import read_glb, write_curves
from deep_3drecon.topology_files import read_mesh, write_ply
from deep_3drecon.topology_shown import show
from scripts import mesh_report
from scripts.inference import mesh

_spec = importlib.util.spec_from_file_location(
    "mesh_files", Path(__file__).parents[1] / "data_process" / "mesh_files.py"
)
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)
CONFIGS = Path(__file__).parents[2] / "configs"


def few_features(wav):
    """Loudness at 50 Hz, in place of the slow features."""
    n = 2 * -(-len(wav) // 640)
    padded = np.pad(wav, (0, 320 * n - len(wav)))
    return {"energy": np.sqrt((padded.reshape(n, 320) ** 2).mean(1, keepdims=True)).astype(np.float32)}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    from data_process import meshes_encoder

    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path / "assets"))
    topologies._load.cache_clear()
    monkeypatch.setattr(meshes_encoder, "features", few_features)
    monkeypatch.setattr("scripts.inference.mesh.deepspeech.features", few_features)
    files.region_files(tmp_path / "assets")
    soundfile.write(tmp_path / "speech.wav", files.tone(0.8, 16000), 16000)
    yield tmp_path
    topologies._load.cache_clear()


def train(data, output, config, *overrides):
    """Two epochs through the one loop -> last line of validation."""
    n = len(data.of("train"))
    settings = [
        f"data.lmdb={data.path}", f"run.output={output}", f"optim.iterations={2 * n}", f"run.val_every={n}", "run.threads=1",
        f"run.save_every={n}", "run.log_every=1", *overrides,
    ]  # fmt: skip
    train_style.train(configs.load(CONFIGS / config, settings))
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "val"][-1]


def vocaset(folder):
    subjects = [*VOCASET["train"][:2], VOCASET["val"][0], VOCASET["test"][0]]
    raw = files.vocaset(folder / "raw", subjects, sentences=(21, 22, 23, 24), seconds=0.6)
    return process_voca_data.prepare(raw, folder / "data", basis=4, progress=False)


def biwi(folder):
    raw = files.biwi_arrays(folder / "raw", (*BIWI_SEEN[:2], "F1"), takes=(1, 33, 37, 38, 39, 40))
    return BIWI.prepare(raw, folder / "data", basis=4, progress=False)


def mead(folder):
    raw = files.mead(folder / "raw", seconds=0.6, numbers=(1, 2, 3, 4))
    flame = MEAD.FlameMesh(files.flame_arrays())
    return MEAD.prepare(raw, folder / "data", raw_fps=24, basis=4, progress=False, flame=flame)


@pytest.mark.parametrize(("prepare", "paper"), [(vocaset, "vocaset"), (biwi, "biwi"), (mead, "mead")])
def test_a_data_set_end_to_end(quick, prepare, paper, capsys):
    data = prepare(quick)
    tiny = "model.dims={width: 16, depth: 1, style_width: 8}"
    ours = train(
        data, quick / "ours", "talking_style_tiny.yaml", tiny, "data.context_frames=3", "data.window_frames=10"
    )
    small = ("model.dims={width: 16, layers: 1}", "data.window_frames=8")
    published = train(data, quick / "paper", f"talking_style_paper_{paper}.yaml", *small)
    assert np.isfinite([ours["lve"], published["lve"]]).all()
    # test: every row on the unseen, and the published protocol
    command = [str(data.path), "--ours", str(quick / "ours"), "--paper", str(quick / "paper"), "--style_seconds", "0.5"]
    assert mesh_report.main([*command, "--all_conditions", "--output", str(quick / "report")]) == 0
    assert mesh_report.main(["--table", str(quick / "report" / "metrics.jsonl"), "--protocol", "codetalker"]) == 0
    said = capsys.readouterr().out
    assert "| template |" in said and "| paper_all |" in said and "LVE as mm" in said
    # animate
    write_ply(quick / "mesh.ply", np.zeros((12, 3), np.float32), np.array([[0, 1, 2], [3, 4, 5]], np.int32))
    who = data.of("test")[0]["subject"]
    common = [
        "--mesh",
        f"{data.path}:{who}",
        "--driven_audio",
        str(quick / "speech.wav"),
        "--faces",
        str(quick / "mesh.ply"),
    ]
    common += ["--result_dir", str(quick / "out"), "--size", "64", "--formats", "mp4", "glb", "npy"]
    inference.main([*common, "--checkpoint_dir", str(quick / "ours"), "--style", data.subjects()[0]])
    inference.main([*common, "--checkpoint_dir", str(quick / "paper"), "--style", "all"])
    fps = data.clips[0]["fps"]
    made = np.load(quick / "out" / f"speech__condition_{data.subjects()[1]}.npy")
    assert made.shape == (int(0.8 * fps), 3 * data.topology.n_vertices) and made.dtype == np.float32
    assert len(list(read_frames(quick / "out" / f"speech__{data.subjects()[0]}.mp4", fps=None))) == int(0.8 * fps)
    glb = read_glb(quick / "out" / f"speech__condition_{data.subjects()[1]}.glb")
    rebuilt = glb["template"] + np.tensordot(glb["weights"], glb["targets"], 1)
    assert (
        np.abs(rebuilt.reshape(len(made), -1) * 1000 / data.topology.unit_mm - made).max() * data.topology.unit_mm < 1
    )


def test_curves_of_our_head_end_to_end(tmp_path, monkeypatch):
    """ARKit curves in, a manner from a file, a blend, a fit; every format out."""
    monkeypatch.setattr("data_process.meshes.features", few_features)
    monkeypatch.setattr("scripts.inference.mesh.deepspeech.features", few_features)
    names, raw = list(topologies.load_topology("open").names), tmp_path / "raw"
    raw.mkdir()
    for who, gain in (("anna", 0.2), ("ben", 0.6)):
        for k in range(6):
            loud = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * np.arange(25) / 25 + 0.1 * k))
            curves = np.zeros((25, 52))
            curves[:, names.index("jawOpen")] = gain * loud
            write_curves(raw / f"{who}_{k}.json", curves, names, 25.0)
            soundfile.write(raw / f"{who}_{k}.wav", files.tone(1.0, 16000, k), 16000)
    assert meshes.main([str(raw), "--output", str(tmp_path / "data")]) == 0
    data = meshes.MeshFolder(tmp_path / "data")
    tiny = "model.dims={width: 16, depth: 1, style_width: 8}"
    train(data, tmp_path / "run", "talking_style_tiny.yaml", tiny, "data.context_frames=3", "data.window_frames=10")
    speech, samples = raw / "anna_0.wav", [str(raw / f"{who}_1.json") for who in ("anna", "ben")]
    common = ["--mesh", "open", "--driven_audio", str(speech), "--checkpoint_dir", str(tmp_path / "run")]
    common += ["--result_dir", str(tmp_path / "out"), "--size", "64"]
    inference.main([*common, "--style", *samples, "--formats", *mesh.FORMATS])
    stem = tmp_path / "out" / "anna_0__ben_1"
    assert (tmp_path / "out" / "anna_0__side_by_side.mp4").is_file()
    assert all(stem.with_name(f"{stem.name}.{end}").is_file() for end in ("mp4", "npz", "npy", "glb", "csv", "json"))
    assert len(list(stem.with_name(f"{stem.name}_ply").iterdir())) == 25
    vertices = np.load(f"{stem}.npy").reshape(25, -1, 3)
    assert np.abs(read_mesh(tmp_path / "out" / "anna_0__ben_1_obj" / "00007.obj")[0] - vertices[7]).max() < 1e-5
    glb = read_glb(f"{stem}.glb")
    assert glb["names"] == names
    rebuilt = glb["template"] + np.tensordot(glb["weights"], glb["targets"], 1)
    shown = show(topologies.load_topology("open")).vertices(vertices)
    assert np.abs(rebuilt - shown * 0.1).max() < 1e-6  # metres of decimetres
    with pytest.raises(SystemExit, match="is there already: add --overwrite"):
        inference.main([*common, "--style", *samples])
    manner = ["--style_weights", "0.5", "0.5", "--save_style", str(tmp_path / "half.style.json"), "--formats", "csv"]
    inference.main([*common, "--style", *samples, *manner])
    inference.main([*common, "--style", str(tmp_path / "half.style.json"), "--formats", "csv"])
    blend, again = (
        np.loadtxt(tmp_path / "out" / f"anna_0__{n}.csv", delimiter=",", skiprows=1) for n in ("blend", "half")
    )
    assert np.allclose(blend, again, atol=1e-4) and blend.shape == (25, 54)
    fit = [
        "--style",
        samples[1],
        "--fit",
        "--style_audio",
        str(raw / "ben_1.wav"),
        "--name",
        "fit",
        "--formats",
        "json",
    ]
    inference.main([*common, *fit])
    with pytest.raises(SystemExit, match="no such file, and no training subject; there is anna, ben"):
        inference.main([*common, "--style", "carl"])


def test_faults_of_the_commands_are_named(quick, capsys):
    assert process_voca_data.main([str(quick)]) == 1 and "templates.pkl" in capsys.readouterr().err
    assert BIWI.main([str(quick)]) == 1 and "CodeTalker" in capsys.readouterr().err
    assert MEAD.main([str(quick)]) == 1 and "FLAME parameters" in capsys.readouterr().err
    assert meshes.main([str(quick), "--output", str(quick / "x")]) == 1 and "no .csv" in capsys.readouterr().err
    assert mesh_report.main([str(quick)]) == 1 and "prepare it with" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no checkpoint here"):
        inference.main(["--mesh", "open", "--driven_audio", str(quick / "speech.wav"), "--checkpoint_dir", str(quick)])
