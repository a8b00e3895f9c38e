"""Places, visibility and the texture atlas."""

import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.face_model import load_face_model
from tests.models.drawn_head import SKIN, draw

MODEL = load_face_model()


def head(yaw=0.0):
    """Posed mean head, its places in a 200 px picture and their affine."""
    posed = camera.pose(MODEL.mean, torch.tensor([0.0, yaw, 0.0]), torch.zeros(3))
    to_picture = torch.tensor([[0.5, 0.1, 30.0], [-0.1, 0.5, 50.0]])
    return posed, unwrap.places(posed, to_picture), to_picture


def test_place_is_the_projection():
    posed, place, to_picture = head(0.3)
    expected = camera.apply_affine(camera.project(posed), to_picture)
    assert torch.allclose(place[:, :2] / place[:, 2:], expected, atol=1e-4)


def test_surface_in_its_own_view_finds_its_own_pixels():
    """Places mixed over triangles under perspective: each drawn pixel gets itself."""
    _, place, _ = head(0.3)
    box = (12.5, 20.25, 150.0)
    size = 300
    at, mask = rasterizer.raster_attributes(
        unwrap.box_clip(place, box)[None].numpy(), MODEL.triangles, place[None].numpy(), (size, size)
    )
    row, column = np.nonzero(mask[0])
    found = at[0, row, column]
    expected = np.stack([box[0] + (column + 0.5) * box[2] / size, box[1] + (row + 0.5) * box[2] / size], 1)
    assert len(row) > 10_000 and np.abs(found[:, :2] / found[:, 2:] - expected).max() < 0.01


def test_sunk_points_are_drawn_in_place_but_behind():
    _, place, _ = head()
    box = unwrap.bounding_box(place, 0.1)
    plain, sunk = unwrap.box_clip(place, box), unwrap.box_clip(place, box, torch.full((len(place),), 0.2))
    assert torch.equal(plain[:, [0, 1, 3]], sunk[:, [0, 1, 3]]) and (sunk[:, 2] > plain[:, 2]).all()
    deeper = unwrap.box_clip(unwrap.places(head()[0] - torch.tensor([0, 0, 0.2]), head()[2]), box)
    assert torch.allclose(sunk[:, 2] / sunk[:, 3], deeper[:, 2] / deeper[:, 3], atol=1e-5)


def test_seen_is_the_front_and_not_the_back_nor_the_inside():
    posed, place, _ = head()
    cosine = unwrap.facing(MODEL, posed)
    box = unwrap.bounding_box(place, 0.02)
    flat = (place[:, :2] / place[:, 2:]).numpy()
    shown = unwrap.seen(
        flat, place[:, 2].numpy(), cosine, unwrap.depth_picture(place, MODEL.triangles, box), box, (200, 200)
    )
    nose = MODEL.landmark_ids[1]
    assert shown[nose].all()
    for name in ("tongue", "teeth_upper", "teeth_lower"):
        assert not shown[MODEL.regions[name]].any()
    assert not shown[MODEL.mean[:, 2].numpy() < -1.2].any()
    outside = unwrap.seen(flat + 500, place[:, 2].numpy(), cosine, np.zeros((8, 8), np.float32), box, (200, 200))
    assert not outside.any()


def test_fill_is_smooth_and_keeps_what_is_known():
    colours = np.zeros((MODEL.n_vertices, 3), np.float32)
    known = np.zeros(MODEL.n_vertices, bool)
    known[MODEL.regions["lips"]] = True
    colours[known] = [200, 100, 90]
    filled = unwrap.fill_vertices(colours, known, MODEL.triangles, MODEL.weld, np.array([10.0, 20.0, 30.0]))
    assert np.abs(filled[known] - [200, 100, 90]).max() < 0.1
    assert (
        np.abs(filled[MODEL.regions["face"]] - [200, 100, 90]).max() < 15
    )  # the only colour its piece of the mesh knows
    assert np.abs(filled[MODEL.regions["tongue"]] - [10, 20, 30]).max() < 0.1  # a piece without any
    assert np.abs(filled - filled[MODEL.weld]).max() == 0


def test_atlas_has_the_picture_where_it_shows_and_skin_elsewhere():
    picture, track = draw(angle=(0.0, 0.5, 0.0))
    parts = {name: torch.from_numpy(value[0]) for name, value in track.parts().items()}
    posed = camera.pose(MODEL.vertices(parts["id"], parts["exp"]), parts["angle"], parts["trans"])
    place = unwrap.places(posed, camera.invert_affine(torch.from_numpy(track.crop[0])))
    atlas = unwrap.unwrap(picture, place, unwrap.facing(MODEL, posed), MODEL, size=256)
    assert np.isfinite(atlas.colour).all() and 0.2 < atlas.seen.mean() < 0.8

    def texel(ids):
        return tuple((MODEL.uv[ids] * 255).round().astype(int).T[::-1])

    nose = MODEL.landmark_ids[1]
    flat = (place[nose, :2] / place[nose, 2:]).numpy()
    assert (atlas.seen[texel(nose)] == 1).all()
    assert np.abs(atlas.colour[texel(nose)] - unwrap.sample(picture, flat)).max() < 12
    # turned to one side, the cheek of the other is unseen: it takes skin, not background (60, 110, 150) nor black
    cheek = MODEL.regions["face"]
    hidden = cheek[atlas.seen[texel(cheek)] == 0]
    assert len(hidden) > 50
    colour = atlas.colour[texel(hidden)]
    assert (colour[:, 0] > colour[:, 2]).mean() > 0.95 and colour.sum(1).min() > 0.4 * sum(SKIN)
