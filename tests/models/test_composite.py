"""The composite on a drawn head: what must stay, where uv and mask lie, and that parts equal the whole."""

import numpy as np
import pytest
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.atlas import PersonTexture
from deep_3drecon.face_model import load_face_model
from models.composite import Compositor
from tests.models.drawn_head import SKIN, draw

SIZE = 128
MODEL = load_face_model()
NAMES = ("id", "exp", "angle", "trans")


@pytest.fixture(scope="module")
def scene():
    """Compositor, source, and the source's own state (id, exp, angle, trans, gamma, affine) with a batch axis."""
    picture, track = draw(size=SIZE)
    texture = PersonTexture(np.full((64, 64, 3), SKIN, np.float32), np.ones((64, 64), np.float32))
    parts = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in track.parts().items()}
    affine = camera.invert_affine(torch.from_numpy(track.crop))
    compositor = Compositor(MODEL, texture, SIZE)
    source = compositor.source(picture, *(parts[name][0] for name in NAMES), affine[0])
    return compositor, source, [*(parts[name] for name in NAMES), torch.zeros(1, 27), affine]


def moved(state, yaw=0.1, jaw=0.4):
    """The state turned to the side with an open mouth."""
    id, exp, angle, trans, gamma, affine = (x.clone() for x in state)
    exp[:, MODEL.index("jawOpen")] = jaw
    return [id, exp, angle + torch.tensor([0.0, yaw, 0.0]), trans, gamma, affine]


def pixels(composite, k=0):
    return (composite.background[k] * 255).round().permute(1, 2, 0).numpy()


def test_own_pose_and_expression_give_the_source_back(scene):
    compositor, source, state = scene
    assert np.array_equal(pixels(compositor.make([source], *state)), source.picture)


def test_another_pose_moves_the_head_and_not_the_rim(scene):
    compositor, source, state = scene
    out = pixels(compositor.make([source], *moved(state)))
    change = np.abs(out - source.picture).max(-1)
    assert change[40:100, 40:90].max() > 40
    assert change[:, 0].max() == change[:, -1].max() == change[0].max() == 0


def test_mask_is_what_the_rasterizer_covers(scene):
    compositor, source, state = scene
    state = moved(state)
    composite = compositor.make([source], *state)
    id, exp, angle, trans, _, affine = state
    place = unwrap.places(camera.pose(compositor.vertices(id, exp), angle, trans), affine)
    still = unwrap.places(camera.pose(compositor.vertices(id, exp), source.angle, source.trans), source.affine)
    place = still + compositor.follow[:, None] * (place - still)
    clip = unwrap.box_clip(place, compositor.region, compositor.sink).numpy()
    covered = rasterizer.rasterize(clip, source.triangles, (SIZE, SIZE))[..., 3] > 0
    assert np.array_equal(composite.mask[0, 0].numpy() > 0, covered[0])
    assert composite.mouth[0, 0].numpy()[~covered[0]].max() == 0


def test_uv_is_the_place_that_the_ray_of_the_pixel_meets(scene):
    compositor, source, state = scene
    state = moved(state, jaw=0.0)
    composite = compositor.make([source], *state)
    id, exp, angle, trans, _, affine = state
    posed = camera.pose(compositor.vertices(id, exp), angle, trans)[0].double().numpy()
    place = unwrap.places(torch.from_numpy(posed)[None].float(), affine)
    clip = unwrap.box_clip(place, compositor.region, compositor.sink).numpy()
    number = rasterizer.rasterize(clip, source.triangles, (SIZE, SIZE))[0, ..., 3].astype(int) - 1
    to_canonical = camera.invert_affine(affine[0].double())
    head = compositor.follow.numpy() == 1  # the neck is bent between two poses
    far = []
    for row, column in np.random.default_rng(0).permutation(np.argwhere(number >= 0))[:300]:
        corners = source.triangles[number[row, column]]
        if not head[corners].all():
            continue
        pixel = camera.apply_affine(torch.tensor([[column, row]], dtype=torch.float64), to_canonical)
        eye = np.array([0, 0, camera.CAMERA_Z_DM])
        ray = camera.unproject(pixel, torch.zeros(1, dtype=torch.float64)).numpy()[0] - eye
        a, b, c = posed[corners]
        # eye + s ray = a + p (b - a) + q (c - a)
        _, p, q = np.linalg.solve(np.column_stack([ray, a - b, a - c]), a - eye)
        uv = np.array([1 - p - q, p, q]) @ MODEL.uv[corners]
        far.append(np.abs(composite.uv[0, row, column].numpy() - uv).max() * 512)
    # vertices snap to 1/256 pixel, which a triangle seen from its edge stretches
    assert len(far) > 100 and np.quantile(far, 0.95) < 0.05 * 512 / SIZE


def test_squares_threads_and_batches_equal_whole_single_frames(scene):
    compositor, source, state = scene
    two = [torch.cat([a, b]) for a, b in zip(state, moved(state), strict=True)]
    both = compositor.make([source, source], *two)
    threads = compositor.make([source, source], *two, threads=2)
    corners = [(10, 20), (30, 40)]
    part = compositor.make([source, source], *two, corners=corners, side=64)
    for name, x in vars(both).items():
        assert torch.equal(x.nan_to_num(), getattr(threads, name).nan_to_num()), name
        if name == "places":
            continue
        x = x.movedim(-1, 1) if name == "uv" else x
        y = getattr(part, name).movedim(-1, 1) if name == "uv" else getattr(part, name)
        cut = torch.stack([z[:, r : r + 64, c : c + 64] for z, (r, c) in zip(x, corners, strict=True)])
        # a pixel of the outline may fall on the other side when the square it is drawn in is another
        assert ((cut - y).abs() > 1e-2).float().mean() < 2e-3, name
    alone = compositor.make([source], *moved(state))
    for name, x in vars(alone).items():
        assert ((x[0] - getattr(both, name)[1]).abs() > 1e-3).float().mean() < 1e-3, name


def test_a_source_of_another_size_is_refused(scene):
    compositor, source, state = scene
    with pytest.raises(ValueError, match=r"uint8 \(128, 128, 3\) is needed"):
        compositor.source(source.picture[:64], *(x[0] for x in state[:4]), state[-1][0])
