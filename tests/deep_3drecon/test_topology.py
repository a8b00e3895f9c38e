"""Topologies, mesh files, pictures and exports: sizes checked, files come back as they went, nothing needs a display."""

import pickle

import numpy as np
import pytest

from deep_3drecon import topology as topologies
from deep_3drecon.topology import TopologyError, load_topology, near_aperture, topology_of
from deep_3drecon.topology_export import ExportError, clip_basis, read_glb, write_glb
from deep_3drecon.topology_files import MeshFileError, read_ids, read_mesh, write_obj, write_ply
from deep_3drecon.topology_film import MeshFilm
from deep_3drecon.topology_shown import plain

FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], np.int32)
TETRA = np.array([[0, 1, 0], [-1, -0.5, -0.5], [1, -0.5, -0.5], [0, -0.5, 1]], np.float32)


@pytest.fixture
def assets(tmp_path, monkeypatch):
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path))
    topologies._load.cache_clear()
    yield tmp_path
    topologies._load.cache_clear()


def test_the_open_head_is_complete():
    topology = load_topology("open")
    assert topology.n_vertices == 5070 and len(topology.names) == 52 and topology.unit_mm == 100
    assert not set(topology.lips) & set(topology.upper)
    assert topology_of(np.zeros((5070, 3))) is topology
    with pytest.raises(TopologyError, match="5070 .our head."):
        topology_of(np.zeros((17, 3)))
    with pytest.raises(TopologyError, match=r"\(4, 12\) came, open has 5070"):
        topology.check(np.zeros((4, 12)))


def test_licensed_regions_come_from_the_users_files(assets):
    bare = load_topology("vocaset")
    assert (bare.n_vertices, bare.unit_mm, bare.fps) == (5023, 1000.0, 30.0) and bare.faces is None
    with pytest.raises(TopologyError, match="put FLAME_masks.pkl"):
        _ = bare.lips
    with pytest.raises(TopologyError, match="put FLAME_sample.ply"):
        bare.need_faces()
    template = np.full((5023, 3), 9.0)
    template[[3546, 3504]] = 0
    template[:40] = [0, 0.01, 0]
    assert len(near_aperture(bare, template)) == 42
    topologies._load.cache_clear()
    (assets / "flame").mkdir()
    masks = {"lips": [5, 7, 5], "forehead": [1], "eye_region": [1, 2], "face": [1, 5, 7]}
    (assets / "flame" / "FLAME_masks.pkl").write_bytes(pickle.dumps({k: np.array(v) for k, v in masks.items()}))
    write_ply(assets / "flame" / "FLAME_sample.ply", np.zeros((5023, 3), np.float32), FACES)
    full = load_topology("mead")
    assert full.lips.tolist() == [5, 7] and full.upper.tolist() == [1, 2] and np.array_equal(full.faces, FACES)


def test_regions_beyond_the_mesh_are_refused(assets):
    (assets / "biwi").mkdir()
    (assets / "biwi" / "lve.txt").write_text("3, 4\n4, 23370")
    with pytest.raises(TopologyError, match="ids 3 to 23370 came, there are 23370"):
        load_topology("biwi")
    assert read_ids(assets / "biwi" / "lve.txt").tolist() == [3, 4, 23370]
    with pytest.raises(TopologyError, match="'teeth' came, there is open, vocaset, biwi"):
        load_topology("teeth")


@pytest.mark.parametrize(("end", "write"), [("ply", write_ply), ("obj", write_obj)])
def test_meshes_come_back(tmp_path, end, write):
    write(tmp_path / f"m.{end}", TETRA, FACES)
    vertices, faces = read_mesh(tmp_path / f"m.{end}")
    assert np.abs(vertices - TETRA).max() < 1e-6 and np.array_equal(faces, FACES)


def test_other_peoples_meshes_are_read(tmp_path):
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0 9\n1 0 0 9\n1 1 0 9\n0 1 0 9\n4 0 1 2 3\n"
    )
    assert read_mesh(tmp_path / "a.ply")[1].tolist() == [[0, 1, 2], [0, 2, 3]]
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1/1 2/1 -1\n")
    assert read_mesh(tmp_path / "a.obj")[1].tolist() == [[0, 1, 2]]
    (tmp_path / "b.obj").write_text("v 0 0 0\nf 1 2 3\n")
    with pytest.raises(MeshFileError, match="faces name vertex 2, there are 1"):
        read_mesh(tmp_path / "b.obj")
    (tmp_path / "c.ply").write_bytes(b"ply\nnothing")
    with pytest.raises(MeshFileError, match="not readable as a mesh"):
        read_mesh(tmp_path / "c.ply")


def made_clip():
    rng = np.random.default_rng(0)
    targets = rng.normal(0, 0.1, (3, 4, 3)).astype(np.float32)
    weights = rng.normal(size=(20, 3)).astype(np.float32)
    return targets, weights, TETRA + np.tensordot(weights, targets, 1)


def test_a_gltf_says_the_same_motion(tmp_path):
    targets, weights, vertices = made_clip()
    write_glb(
        tmp_path / "a.glb", TETRA, FACES, targets, weights, 25.0, 100.0, ["x", "y", "z"], extras={"note": "made up"}
    )
    back = read_glb(tmp_path / "a.glb")
    assert back["names"] == ["x", "y", "z"] and np.array_equal(back["faces"], FACES)
    assert back["times"][-1] == pytest.approx(19 / 25)
    again = back["template"] + np.tensordot(back["weights"], back["targets"], 1)
    assert np.abs(again - vertices * 0.1).max() < 1e-6  # metres
    data = (tmp_path / "a.glb").read_bytes()
    (tmp_path / "cut.glb").write_bytes(data[:-4])
    with pytest.raises(ExportError, match="cut off"):
        read_glb(tmp_path / "cut.glb")


def test_a_basis_of_a_clip_is_small_and_near():
    targets, _, vertices = made_clip()
    weights, found, left = clip_basis(vertices, TETRA, 100.0, tolerance_mm=0.05)
    assert len(found) == 3 and left < 0.05
    assert np.abs(TETRA + np.tensordot(weights, found, 1) - vertices).max() * 100 < 0.05


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_pictures_show_the_head_and_its_motion(backend):
    film = MeshFilm(plain(FACES, 4), TETRA, size=96, backend=backend)
    rest, moved = film.frame(TETRA), film.frame(TETRA + [0.3, 0, 0])
    covered = [np.any(x != film.ground.round(), axis=-1) for x in (rest, moved)]
    assert 0.1 < covered[0].mean() < 0.9
    places = [np.flatnonzero(c.any(0)).mean() for c in covered]
    assert places[1] - places[0] > 5 and covered[0][: 96 // 2].any()
    assert not covered[0][0, 0] and rest.dtype == np.uint8


def test_both_rasterizers_draw_the_same():
    a, b = (MeshFilm(plain(FACES, 4), TETRA, size=64, backend=x).frame(TETRA).astype(int) for x in ("numba", "torch"))
    assert np.mean(np.abs(a - b).max(-1) > 2) < 0.01
