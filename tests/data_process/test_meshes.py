"""Mesh data: the files of the papers' sets become one kind of folder; what is wrong or missing is named."""

import importlib.util
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from data_process import BIWI, MEAD, meshes_splits, process_voca_data
from data_process.meshes import MeshClip, MeshError, MeshFolder, MeshWriter, to_common_time
from data_process.meshes_dataset import MeshWindows
from data_process.meshes_sources import read_curves
from deep_3drecon.topology import load_topology
from deep_3drecon.topology_export import write_curves

_spec = importlib.util.spec_from_file_location("mesh_files", Path(__file__).with_name("mesh_files.py"))
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)


def few_features(wav):
    """Loudness at 50 Hz, in place of the slow features."""
    n = 2 * -(-len(wav) // 640)
    padded = np.pad(wav, (0, 320 * n - len(wav)))
    return {"energy": np.sqrt((padded.reshape(n, 320) ** 2).mean(1, keepdims=True))}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Preparation without the phoneme network, and region files among the assets."""
    from data_process import meshes_encoder

    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setattr(meshes_encoder, "features", few_features)
    files.region_files(tmp_path / "assets")
    return tmp_path


def test_split_lists_are_those_of_the_papers():
    """Sizes, checksums, and no clip in two splits."""
    for name, counts, digest in (
        ("vocaset", meshes_splits.VOCASET_COUNTS, "128343df77f07b4a"),
        ("biwi", meshes_splits.BIWI_COUNTS, "18bcf59fd64811f8"),
    ):
        lines = meshes_splits.clip_list(name)
        assert {s: sum(line.split()[0] == s for line in lines) for s in counts} == counts
        assert len({line.split(" ", 1)[1] for line in lines}) == len(lines)
        assert meshes_splits.checksum(name) == digest
    assert meshes_splits.BIWI_TEST_A_FRAMES == 3879
    assert meshes_splits.vocaset_split("FaceTalk_170809_00138_TA", 3) is None


def test_vocaset(quick):
    raw = files.vocaset(quick / "raw")
    data = process_voca_data.prepare(raw, quick / "out", basis=4, progress=False)
    assert {s: len(data.of(s)) for s in ("train", "val", "test")} == {"train": 4, "val": 1, "test": 1}
    name = "FaceTalk_170728_03272_TA_sentence01"
    raw_frames = np.load(raw / "data_verts.npy")[:60]
    vertices = data.vertices(name)
    assert vertices.shape == (30, 5023, 3) and np.array_equal(vertices, raw_frames[::2])  # 60 -> 30 by time
    basis, _ = data.basis
    rebuilt = data.template("FaceTalk_170728_03272_TA") + np.tensordot(data.coefficients(name), basis, 1)
    assert np.abs(rebuilt - vertices).max() * 1000 < 0.05  # mm: the fields have rank 1
    assert len(data.wav(name)) == 16000 and "320 listed" in " ".join(data.content["notes"])
    again = process_voca_data.prepare(raw, quick / "out", basis=4, progress=False)  # goes on, changes nothing
    assert again.clips == data.clips


def test_vocaset_faults_are_named(quick):
    with pytest.raises(MeshError, match=r"data_verts.npy.*templates.pkl.*missing: register"):
        process_voca_data.prepare(quick / "nothing", quick / "out")
    raw = files.vocaset(quick / "raw", sentences=(1,))
    (raw / "templates.pkl").write_bytes(pickle.dumps({"x": print}))
    with pytest.raises(MeshError, match="templates.pkl: the pickle asks for"):
        process_voca_data.prepare(raw, quick / "out", progress=False)
    np.save(raw / "data_verts.npy", np.zeros((4, 5022, 3), np.float32))
    with pytest.raises(MeshError, match=r"\(4, 5022, 3\) came, \(frames, 5023, 3\)"):
        process_voca_data.prepare(raw, quick / "out", progress=False)


def test_biwi_raw(quick):
    raw = files.biwi_raw(quick / "raw")
    data = BIWI.prepare(raw, quick / "out", basis=3, progress=False)
    assert {c["name"]: c["split"] for c in data.clips} == {"F2_e01": "train", "F2_e37": "test_seen", "F1_e37": "test"}
    template, moved = data.template("F2"), data.vertices("F2_e01")
    faces = np.stack([np.arange(23368), np.arange(1, 23369), np.arange(2, 23370)], 1)
    assert BIWI.surface(template, faces) == pytest.approx(1, rel=1e-3)
    first = BIWI.read_vl(raw / "faces/F2/e01/frame_001.vl") * [1, -1, -1]
    ratio = np.linalg.norm(moved[0] - moved[0].mean(0)) / np.linalg.norm(first - first.mean(0))
    last = BIWI.read_vl(sorted((raw / "faces/F2/e01").glob("*.vl"))[-1]) * [1, -1, -1]
    assert np.linalg.norm(moved[-1] - moved[-1].mean(0)) / np.linalg.norm(last - last.mean(0)) == pytest.approx(ratio)
    assert any("3879" in note for note in data.content["notes"])


def test_biwi_legacy_scale_is_another_and_cut_frames_are_named(quick):
    rng = np.random.default_rng(0)
    template, faces = rng.normal(0, 60, (30, 3)), rng.integers(0, 30, (50, 3))
    frames = template + rng.normal(0, 2, (4, 30, 3))
    ours, rest = BIWI.to_units(frames, template, faces)
    legacy, same_rest = BIWI.to_units(frames, template, faces, legacy_unit_area=True)
    assert all(BIWI.surface(f, faces) == pytest.approx(1) for f in legacy) and np.allclose(rest, same_rest)
    assert np.abs(legacy.mean(1)).max() < 1e-6 and np.abs(ours - legacy).max() > 1e-4
    scale = np.linalg.norm(template - template.mean(0)) / np.linalg.norm(rest)
    assert np.allclose((ours[1] - ours[0]) * scale, (frames[1] - frames[0]) * [1, -1, -1])
    bad = quick / "frame.vl"
    bad.write_bytes(struct.pack("<I", 23370) + b"1234")
    with pytest.raises(MeshError, match="8 bytes for 23370 vertices"):
        BIWI.read_vl(bad)


def test_biwi_arrays(quick):
    raw = files.biwi_arrays(quick / "raw")
    data = BIWI.prepare(raw, quick / "out", basis=3, progress=False)
    assert {s: len(data.of(s)) for s in ("train", "val", "test_seen", "test")} == {
        "train": 2,
        "val": 2,
        "test_seen": 2,
        "test": 1,
    }
    assert len(data.topology.lips) == 250  # the id that came twice counts once
    (raw / "wav" / "F3_e33.wav").unlink()
    with pytest.raises(MeshError, match="F3_e33.wav: missing"):
        BIWI.prepare(raw, quick / "out2", progress=False)
    with pytest.raises(MeshError, match="neither faces/"):
        BIWI.prepare(quick, quick / "out3")


def test_mead(quick):
    arrays = files.flame_arrays()
    flame = MEAD.FlameMesh(arrays)
    raw = files.mead(quick / "raw")
    data = MEAD.prepare(raw, quick / "out", raw_fps=25, basis=4, progress=False, flame=flame)
    assert {s: len(data.of(s)) for s in ("train", "val", "test")} == {"train": 4, "val": 2, "test": 2}
    assert data.clips[0]["fps"] == 25 and data.topology.name == "vocaset"
    with pytest.raises(MeshError, match="give --raw_fps"):
        MEAD.prepare(raw, quick / "out2", flame=flame, progress=False)
    with pytest.raises(MeshError, match="register at"):
        MEAD.FlameMesh.load()


def test_flame_by_hand():
    """A jaw turned by a right angle about x carries the vertex that hangs wholly on it; the correctives add theirs."""
    arrays = files.flame_arrays()
    arrays["weights"][3400:3700, 2] = 1
    arrays["posedirs"][:] = 0
    flame = MEAD.FlameMesh(arrays)
    out = flame.vertices(np.zeros((1, 50), np.float32), [[np.pi / 2, 0, 0]])[0]
    centre, v = flame.rest[3300], flame.rest[3450]
    assert np.allclose(out[3450] - centre, [v[0] - centre[0], -(v[2] - centre[2]), v[1] - centre[1]], atol=1e-6)
    assert np.array_equal(out[:3300], flame.rest[:3300])


def test_motion_and_sound_are_cut_and_resampled_by_time():
    """A step in motion and sound stays at its second for 24, 25, 30 and 60 fps, to half a frame; nothing is stretched."""
    for fps in (24.0, 25.0, 30.0, 60.0):
        for new in (24.0, 25.0, 30.0, 60.0):
            motion = (np.arange(int(3 * fps)) / fps >= 1.0).astype(np.float32)[:, None]
            wav = np.concatenate([np.zeros(16000), np.ones(24000)]).astype(np.float32)  # half a second shorter
            cut, rate, sound = to_common_time(motion, fps, wav, new)
            assert abs(2.5 - len(cut) / rate) <= 1 / fps + 1 / new and len(sound) / 16000 <= len(cut) / rate + 1e-3
            onset = np.interp(0.5, cut[:, 0], np.arange(len(cut)) / rate)
            assert abs(onset - 1.0) <= 0.5 / min(fps, rate) + 1e-6


def open_folder(path, fps=25.0, n_clips=4, seconds=3.0, subjects=("anna", "ben")):
    """A mesh folder of a small head: three coefficients over the open head's vertices."""
    topology = load_topology("open")
    rng = np.random.default_rng(0)
    basis = np.zeros((3, topology.n_vertices, 3), np.float32)
    basis[0, topology.lips, 1], basis[1, :200, 2], basis[2, :, 0] = -0.1, 0.02, 0.01
    writer = MeshWriter(path, topology, basis, ["a", "b", "c"], extract=few_features)
    for s, subject in enumerate(subjects):
        for k in range(n_clips):
            n = int(seconds * fps)
            loud = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * np.arange(n) / fps + 0.1 * k))
            motion = np.stack([(1 + s) * loud, rng.normal(size=n) * 0.1, np.full(n, 0.3 * s)], 1)
            split = "val" if k == n_clips - 1 else "train"
            template = rng.normal(0, 0.5, (topology.n_vertices, 3))
            writer.add(MeshClip(f"{subject}_{k}", subject, split, fps, template, motion, files.tone(seconds, 16000, k)))
    return writer.finish()


@pytest.mark.parametrize("fps", [24.0, 30.0])
def test_windows_say_where_frames_lie_in_the_sound(tmp_path, fps):
    data = open_folder(tmp_path / "m", fps)
    windows = MeshWindows(data.path, "train", 20, 4)
    for index in (0, 3):
        item = windows[index]
        clip = data.of("train")[int(item["clip"])]
        whole = data.features(clip["name"])["energy"]
        start = [
            t for t in range(clip["n_frames"]) if np.allclose(data.coefficients(clip["name"])[t], item["motion"][0])
        ][0]  # fmt: skip
        rows = (start + np.arange(20)) / fps * 50
        inside = rows < len(whole) - 1
        expected = np.interp(rows, np.arange(len(whole)), whole[:, 0])
        got = np.interp(item["positions"], np.arange(len(item["energy"])), item["energy"][:, 0])
        assert np.allclose(got[inside], expected[inside], atol=1e-5)


def test_windows_are_repeatable_and_styles_are_of_the_same_person(tmp_path):
    data = open_folder(tmp_path / "m")
    first, second = MeshWindows(data.path, "train", 20, 4), MeshWindows(data.path, "train", 20, 4)
    assert all(torch.equal(first[2][k], second[2][k]) for k in first[2])
    second.set_epoch(1)
    assert not torch.equal(first[2]["motion"], second[2]["motion"])
    for index in range(len(first)):
        item = first[index]
        known = item["style_valid"]
        assert torch.allclose(
            item["style_motion"][known][:, 2], torch.full((int(known.sum()),), 0.3 * int(item["speaker"]))
        )
    raw = MeshWindows(data.path, "train", 20, 4, form="vertices")[2]["motion"]
    basis = torch.from_numpy(data.basis[0]).flatten(1)
    assert torch.allclose(raw, first[2]["motion"] @ basis, atol=1e-5)


def test_a_style_sample_comes_from_other_clips(tmp_path):
    data = open_folder(tmp_path / "m", n_clips=3, subjects=("anna",))
    windows = MeshWindows(data.path, "train", 20, 4, style_frames=40)
    item = windows[0]
    own = data.coefficients(data.of("train")[int(item["clip"])]["name"])[:, 1]
    sampled = item["style_motion"][item["style_valid"]][:, 1].numpy()
    assert not np.isin(sampled.round(6), own.round(6)).any()


def test_bad_clips_are_named(tmp_path):
    writer = MeshWriter(tmp_path / "m", load_topology("open"), extract=few_features)
    rest = np.zeros((5070, 3), np.float32)
    for motion, wav, message in (
        (np.zeros((30, 5069, 3)), files.tone(2), "5070 vertices"),
        (np.zeros((5, 5070, 3)), files.tone(2), "0.20 s"),
        (np.full((30, 5070, 3), np.nan), files.tone(2), "not finite"),
        (np.zeros((30, 5070, 3)), None, "no sound"),
    ):
        with pytest.raises(ValueError, match=message):
            writer.add(MeshClip("x", "s", "train", 25.0, rest, motion, wav))
    with pytest.raises(MeshError, match="prepare it with"):
        MeshFolder(tmp_path / "none")


@pytest.mark.parametrize("end", ["csv", "json"])
def test_arkit_curves_come_back(tmp_path, end):
    names = list(load_topology("open").names)
    curves = np.random.default_rng(0).random((12, 52)).astype(np.float32)
    write_curves(tmp_path / f"c.{end}", curves, names, 30.0)
    back, fps = read_curves(tmp_path / f"c.{end}", names)
    assert fps == pytest.approx(30, rel=1e-4) and np.abs(back - curves).max() < 1e-5
    live = "Timecode,BlendShapeCount," + ",".join(n[0].upper() + n[1:] for n in names) + ",HeadYaw\n"
    (tmp_path / "live.csv").write_text(live + "00:00:01,61," + ",".join(["0.5"] * 53) + "\n")
    assert (read_curves(tmp_path / "live.csv", names)[0] == 0.5).all()
    (tmp_path / "bad.json").write_text(json.dumps({"fps": 25, "names": ["a"], "weights": [[1]]}))
    with pytest.raises(MeshError, match="0 of 52 ARKit curves"):
        read_curves(tmp_path / "bad.json", names)
