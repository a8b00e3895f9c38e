"""The paper's batch calls, on faces made by the models themselves: places, light, texture, coefficients, and what is written where."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deep_3drecon import camera, landmark_bias, rasterizer
from deep_3drecon import reconstructor_pictures as pictures
from deep_3drecon.align import TEMPLATE, crop_affine
from deep_3drecon.assets import AssetError
from deep_3drecon.bfm_regressor import CoefficientNetwork
from deep_3drecon.coeffs import BFM_LAYOUT, OPEN_LAYOUT
from deep_3drecon.face_model import load_face_model
from deep_3drecon.reconstructor import Reconstructor
from deep_3drecon.reconstructor_faces import CropError, MissingFaceError, ReconstructionWarning, SeveralFacesError
from deep_3drecon.track import FaceTrack

YAW = (-0.5, 0.0, 0.5)
MAGENTA = (255.0, 0.0, 255.0)
K0 = 0.886226925


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


@pytest.fixture(scope="module")
def coeff(head):
    """(3, D) of one made person, jaw open, who turns from one side to the other."""
    rng = np.random.default_rng(0)
    exp = np.zeros((3, 52), np.float32)
    exp[:, head.index("jawOpen")] = 0.4
    angle = np.array([[0.05, yaw, 0.02] for yaw in YAW], np.float32)
    id = np.tile(rng.normal(0, 0.7, 80).astype(np.float32), (3, 1))
    return OPEN_LAYOUT.join(id=id, exp=exp, angle=angle, trans=np.array([[0.03, 0.02, 0.1]] * 3, np.float32))


@pytest.fixture(scope="module")
def maker(head):
    return Reconstructor(head, batch_size=2, bias=None)  # made landmarks are exact


@pytest.fixture(scope="module")
def places(maker, coeff):
    """uv (3, 224, 224, 2) and background (3, 224, 224)."""
    return maker.recon_uv_from_coeff(coeff, return_background=True)


def posed_of(model, coeff):
    parts = {name: torch.from_numpy(value) for name, value in model.layout.split(coeff).items()}
    return camera.pose(model.vertices(parts["id"], parts["exp"]), parts["angle"], parts["trans"])


def test_each_pixel_has_the_place_where_its_ray_meets_the_surface(head, coeff, places):
    posed = posed_of(head, coeff)
    rast = rasterizer.rasterize(camera.clip_positions(posed), head.triangles, (224, 224)).flip(1).numpy()
    uv, background = places
    assert uv.dtype == np.float32 and uv.shape == (3, 224, 224, 2)
    drawn = rast[..., 3] > 0
    assert np.array_equal(uv[..., 0] >= 0, drawn) and (uv[~drawn] == -1).all()
    for frame in range(3):
        row, column = np.nonzero(drawn[frame])
        corner = posed[frame].double().numpy()[head.triangles[rast[frame, row, column, 3].astype(int) - 1]]
        pixels = torch.tensor(np.stack([column, row], 1), dtype=torch.float64)
        eye = np.array([0, 0, camera.CAMERA_Z_DM])
        ray = camera.unproject(pixels, torch.zeros(len(row), dtype=torch.float64)).numpy() - eye
        # eye + s ray = sum of weights times corners, weights adding to one
        system = np.concatenate([np.swapaxes(corner, 1, 2), -ray[..., None]], -1)
        system = np.concatenate([system, np.tile([[1.0, 1, 1, 0]], (len(row), 1, 1))], 1)
        right = np.tile([*eye, 1.0], (len(row), 1))
        weights = np.linalg.solve(system, right[..., None])[:, :3, 0]
        here = head.uv[head.triangles[rast[frame, row, column, 3].astype(int) - 1]].astype(np.float64)
        error = np.abs((weights[..., None] * here).sum(1) - uv[frame, row, column]).max(1) * 256
        assert np.quantile(error, 0.99) < 0.05  # texels; rims snap to 1/256 pixel


def test_background_hangs_together_and_holes_are_face(places):
    uv, background = places
    assert background.dtype == np.uint8 and set(np.unique(background)) == {0, 255}
    assert (uv[background == 255] == -1).all()
    mask = np.zeros((1, 7, 9), bool)
    mask[0, 2:7, 2:7] = True
    mask[0, 4, 4] = False  # a hole such as an open mouth
    wanted = np.where(mask | (np.arange(63).reshape(1, 7, 9) == 40), 0, 255)
    assert np.array_equal(pictures.background(mask), wanted)
    halves = np.zeros((1, 5, 5), bool)
    halves[0, :, 2] = True  # a neck from top to bottom parts the background: both parts are background
    assert np.array_equal(pictures.background(halves), np.where(halves, 0, 255))


def test_even_light_gives_even_grey(maker, coeff, places):
    gamma = np.zeros((3, 27), np.float32)
    gamma[:, [0, 9, 18]] = [[0.1, 0.2, 0.3]]
    lit = OPEN_LAYOUT.join(**(OPEN_LAYOUT.split(coeff) | {"gamma": gamma}))
    video = maker.recon_video_from_coeff_notex(lit)
    assert video.dtype == np.uint8 and video.shape == (3, 224, 224, 3)
    face = places[0][..., 0] >= 0
    expected = 128 * K0 * (0.8 + np.array([0.1, 0.2, 0.3]))
    assert np.abs(video[face].astype(float) - expected).max() <= 0.51 and not video[~face].any()


def test_light_falls_where_it_should(maker, coeff, places):
    """Band 3 goes with minus the normal's x: light from the subject's left, which is right in the picture."""
    gamma = np.zeros((1, 27), np.float32)
    gamma[:, [3, 12, 21]] = -0.3
    frontal = {name: value[1:2] for name, value in OPEN_LAYOUT.split(coeff).items()}
    video = maker.recon_video_from_coeff_notex(OPEN_LAYOUT.join(**(frontal | {"gamma": gamma})))[0].astype(float)
    face = places[0][1, ..., 0] >= 0
    columns = np.nonzero(face.any(0))[0]
    middle = (columns.min() + columns.max()) // 2
    left, right = (video[:, part][face[:, part]].mean() for part in (slice(0, middle - 15), slice(middle + 15, 224)))
    assert right > 1.5 * left
    unlit = maker.recon_video_from_coeff_notex(coeff)[face[None].repeat(3, 0)].astype(float)
    assert unlit.std() > 8, "without any light a plain one shows the shape"


@pytest.fixture(scope="module")
def filmed(maker, coeff):
    """(smooth atlas (256, 256, 3), the head filmed with it before magenta (3, 224, 224, 3) uint8)."""
    y, x = np.mgrid[0:256, 0:256] / 40
    atlas = np.stack([120 + 60 * np.sin(x + y), 130 + 50 * np.cos(x), 90 + 60 * np.sin(y)], -1).astype(np.float32)
    video = maker.recon_video_from_coeff(coeff, texture=atlas)
    uv = maker.recon_uv_from_coeff(coeff)
    return atlas, np.where(uv[..., :1] < 0, np.uint8(MAGENTA), video)


def test_a_texture_is_what_the_frame_shows(maker, coeff, filmed):
    atlas, crops = filmed
    textures, seen = maker.recon_texture_from_coeff(coeff, crops, return_seen=True)
    assert textures.shape == (3, 256, 256, 3) and textures.dtype == np.uint8 and seen.shape == (3, 256, 256)
    for texture, weight in zip(textures, seen, strict=True):
        sure = weight > 0.5
        error = np.abs(texture[sure] - atlas[sure]).max(-1)
        assert 0.08 < sure.mean() < 0.5 and np.quantile(error, 0.98) < 6
    green = textures[..., 1].astype(float) - textures[..., [0, 2]].min(-1)
    own = atlas[..., 1] - atlas[..., [0, 2]].min(-1)
    assert green.min() > own.min() - 20, "no magenta of the background anywhere"
    # turned to one side, the head shows its other side only
    left, right = seen[0, 80:, :100].mean(), seen[0, 80:, 156:].mean()
    assert max(left, right) > 3 * min(left, right)
    mirrored = seen[2, 80:, :100].mean() > seen[2, 80:, 156:].mean()
    assert mirrored != (left > right)


def test_a_clip_shows_more_than_a_frame(maker, coeff, filmed):
    atlas, crops = filmed
    _, seen = maker.recon_texture_from_coeff(coeff, crops, return_seen=True)
    whole, best = maker.recon_texture_from_coeff(coeff, crops, whole_clip=True, return_seen=True)
    assert whole.shape == (256, 256, 3) and np.allclose(best, seen.max(0), atol=1e-5)
    assert (best > 0.5).sum() > 1.2 * (seen[1] > 0.5).sum()
    sure = best > 0.5
    assert np.abs(whole[sure] - atlas[sure]).mean() < 2.5
    again = maker.recon_video_from_coeff(coeff, texture=whole)  # and put on again it looks as before
    face = maker.recon_uv_from_coeff(coeff)[..., 0] >= 0
    assert np.abs(again[face].astype(float) - crops[face]).mean() < 6


def test_known_light_is_taken_off_and_put_on_again(maker, coeff, filmed):
    """The texture of a clip whose vectors have light is under even light, whatever fell on each frame."""
    atlas = filmed[0]
    gamma = np.zeros((3, 27), np.float32)
    gamma[:, [0, 9, 18]] = 0.2
    gamma[:, [3, 12, 21]] = np.array([[-0.25], [0.0], [0.25]])
    lit = OPEN_LAYOUT.join(**(OPEN_LAYOUT.split(coeff) | {"gamma": gamma}))
    crops = maker.recon_video_from_coeff(lit, texture=atlas)
    face = maker.recon_uv_from_coeff(lit)[..., 0] >= 0
    assert np.abs(crops[0][face[0]].astype(float) - filmed[1][0][face[0]]).mean() > 12
    whole, known = maker.recon_texture_from_coeff(lit, crops, whole_clip=True, return_seen=True)
    flat = maker.recon_texture_from_coeff(coeff, crops, whole_clip=True)
    sure = known > 0.5
    even, uneven = (np.abs(texture[sure] - atlas[sure]).mean() for texture in (whole, flat))
    assert sure.mean() > 0.1 and even < 4 < 2 * even < uneven
    again = maker.recon_video_from_coeff(lit, texture=whole)
    assert np.abs(again[face].astype(float) - crops[face]).mean() < 6


def test_hidden_texels_take_the_colours_around_them():
    colour = torch.full((1, 64, 64, 3), -999.0)
    weight = torch.zeros(1, 64, 64)
    colour[:, 8:16], weight[:, 8:16] = torch.tensor([200.0, 100.0, 50.0]), 1.0
    colour[:, 40:56], weight[:, 40:56] = torch.tensor([20.0, 10.0, 250.0]), 1.0
    filled = pictures.fill(colour, weight)[0]
    assert filled.min() > 9.9 and filled.max() < 250.1
    torch.testing.assert_close(filled[8:16], colour[0, 8:16])
    assert filled[4, :, 0].min() > 150 and filled[60, :, 0].max() < 60


def test_batches_and_regions(head, maker, coeff, places):
    single = Reconstructor(head, batch_size=1, threads=2)
    error = np.abs(single.recon_uv_from_coeff(coeff) - places[0]).max(-1)
    assert (error > 1e-4).mean() < 1e-3  # rims: sums in another order move a vertex by a 1/256 of a pixel
    face = Reconstructor(head, regions=("face", "lips", "eyelids", "brows"))
    drawn = face.recon_uv_from_coeff(coeff)[..., 0] >= 0
    whole = places[0][..., 0] >= 0
    assert 0.2 < drawn.sum() / whole.sum() < 0.8 and not (drawn & ~whole).any()
    assert maker.recon_uv_from_coeff(coeff[:1], size=64).shape == (1, 64, 64, 2)
    with pytest.raises(ValueError, match=r"regions \['nose'\] came, open has .*lips"):
        Reconstructor(head, regions=["nose"])
    with pytest.raises(ValueError, match=r"face vectors \(3, 257\) came, \(T, 165\) of the face model open"):
        maker.recon_uv_from_coeff(np.zeros((3, 257)))
    with pytest.raises(ValueError, match="3 aligned frames"):
        maker.recon_texture_from_coeff(coeff, np.zeros((2, 224, 224, 3), np.uint8))


# ---------------------------------------------------------------------------------------- coefficients


@pytest.fixture(scope="module")
def talk(head):
    """A made clip as landmarks (12, 478, 2) in frames of 320 x 260, and its true face vectors."""
    t = np.arange(12, dtype=np.float32)
    exp = np.zeros((12, 52), np.float32)
    exp[:, head.index("jawOpen")] = 0.2 + 0.15 * np.sin(t)
    angle = np.stack([0.1 * np.sin(t / 3), 0.2 * np.sin(t / 4), 0 * t], 1)
    truth = OPEN_LAYOUT.join(exp=exp, angle=angle, id=np.zeros((12, 80), np.float32))
    pixels = camera.project(head.landmarks(posed_of(head, truth)))
    back = camera.invert_affine(torch.from_numpy(crop_affine(1.1, (160, 130), 260)).float())
    return camera.apply_affine(pixels, back).numpy(), truth


@dataclasses.dataclass
class Found:
    """What a landmarker gives: see data_process.landmarks.LandmarkTrack."""

    points: np.ndarray
    scores: np.ndarray
    valid: np.ndarray
    n_faces: np.ndarray


def found(points, n_faces=1):
    n = len(points)
    return Found(points, np.zeros((n, 52), np.float32), np.ones(n, bool), np.full(n, n_faces))


def test_the_open_head_comes_from_landmarks(maker, head, talk):
    points, truth = talk
    frames = np.random.default_rng(1).integers(0, 256, (12, 260, 320, 3), dtype=np.uint8)
    coeff, aligned, crops = maker.recon_coeff(frames, points, True, return_crop=True)
    assert coeff.shape == (12, OPEN_LAYOUT.size) and coeff.dtype == np.float32
    assert aligned.shape == (12, 224, 224, 3) and crops.shape == (12, 2, 3)
    jaw = OPEN_LAYOUT.split(coeff)["exp"][:, head.index("jawOpen")]
    true_jaw = OPEN_LAYOUT.split(truth)["exp"][:, head.index("jawOpen")]
    assert np.corrcoef(jaw, true_jaw)[0, 1] > 0.98
    turn = OPEN_LAYOUT.split(coeff)["angle"] - OPEN_LAYOUT.split(truth)["angle"]
    assert np.abs(turn).max() < 0.04
    reprojected = camera.project(head.landmarks(posed_of(head, coeff)))
    in_crop = camera.apply_affine(torch.from_numpy(points), torch.from_numpy(crops))
    assert (reprojected - in_crop).norm(dim=-1).mean() < 1.5
    assert np.array_equal(maker.recon_coeff(frames, found(points)), coeff)


def test_the_landmarkers_error_is_taken_off(maker, head, talk):
    """Landmarks that err as ours do give, by default, what exact ones give."""
    points, truth = talk[0][:3], talk[1][:3]
    frames = np.zeros((3, 260, 320, 3), np.uint8)
    exact, crops = maker.recon_coeff(frames, points, return_crop=True)
    error = landmark_bias.bias(torch.from_numpy(OPEN_LAYOUT.split(truth)["angle"])).numpy() / crops[:, 0, 0, None, None]
    known, unknown = (m.recon_coeff(frames, points + error) for m in (Reconstructor(head), maker))
    angle = [OPEN_LAYOUT.split(c)["angle"] for c in (exact, known, unknown)]
    assert np.abs(angle[1] - angle[0]).max() < 0.3 * np.abs(angle[2] - angle[0]).max()


def test_from_frames_is_from_their_coefficients(maker, talk):
    frames, points = np.random.default_rng(2).integers(0, 256, (3, 260, 320, 3), dtype=np.uint8), talk[0][:3]
    coeff, aligned = maker.recon_coeff(frames, points, return_image=True)
    uv, background = maker.recon_uv(frames, points, return_background=True)
    assert np.array_equal(uv, maker.recon_uv_from_coeff(coeff)) and background.shape == (3, 224, 224)
    video = maker.recon_video(frames, points)
    assert video.shape == (3, 224, 224, 3) and video[uv[..., 0] < 0].max() == 0 and video[uv[..., 0] >= 0].std() > 5
    texture = maker.recon_texture(frames, points, whole_clip=True, size=64)
    assert np.array_equal(texture, maker.recon_texture_from_coeff(coeff, aligned, whole_clip=True, size=64))


def test_pixels_tell_the_light(maker, head, talk, filmed):
    """Frames lit from the subject's left: the photometric stage finds that, and keeps the pose."""
    some = np.arange(0, 12, 2)
    gamma = np.zeros((6, 27), np.float32)
    gamma[:, [0, 9, 18]], gamma[:, [3, 12, 21]] = 0.2, -0.2
    truth = OPEN_LAYOUT.join(**({k: v[some] for k, v in OPEN_LAYOUT.split(talk[1]).items()} | {"gamma": gamma}))
    frames = maker.recon_video_from_coeff(truth, texture=filmed[0])
    points = camera.project(head.landmarks(posed_of(head, truth))).numpy()
    found = Reconstructor(head, photometric=True, bias=None).recon_coeff(frames, points)
    light = OPEN_LAYOUT.split(found)["gamma"].reshape(6, 3, 9)
    assert (light[..., 3] < -0.05).all() and light[..., 3].mean() == pytest.approx(-0.2, abs=0.08)
    turn = OPEN_LAYOUT.split(found)["angle"] - OPEN_LAYOUT.split(truth)["angle"]
    assert np.abs(turn).max() < 0.05
    assert not OPEN_LAYOUT.split(maker.recon_coeff(frames, points))["gamma"].any()


def test_landmarks_are_found_where_none_are_given(head, maker, talk):
    class Landmarker:
        def track(self, frames):
            return found(talk[0][: len(frames)])

    frames = np.zeros((3, 260, 320, 3), np.uint8)
    with pytest.raises(ValueError, match="give lm_array, or a landmarker"):
        maker.recon_coeff(frames)
    made = Reconstructor(head, landmarker=Landmarker(), bias=None).recon_coeff(frames)
    assert np.array_equal(made, maker.recon_coeff(frames, talk[0][:3]))
    with pytest.raises(ValueError, match=r"68 landmarks came, the fit needs 478.*only five"):
        maker.recon_coeff(frames, talk[0][:3, :68])
    with pytest.raises(ValueError, match=r"\(3, 5, 68 or 478, 2\)"):
        maker.recon_coeff(frames, talk[0])
    with pytest.raises(ValueError, match=r"float64 came, \(T, H, W, 3\) uint8"):
        maker.recon_coeff(frames / 255, talk[0][:3])


def test_frames_without_a_face_are_named(head, maker, talk):
    frames, points = np.zeros((12, 260, 320, 3), np.uint8), talk[0].copy()
    points[[4, 5]] = np.nan
    with pytest.warns(ReconstructionWarning, match="frames 4, 5: no face there, coefficients are interpolated"):
        coeff = maker.recon_coeff(frames, points)
    assert np.isfinite(coeff).all()
    with pytest.raises(MissingFaceError, match="frames 4, 5: no face") as error:
        Reconstructor(head, strict=True).recon_coeff(frames, points)
    assert error.value.frames == (4, 5)
    points[:] = np.nan
    with pytest.raises(MissingFaceError, match=r"frames 0, 1, .*, 7 and 4 more: no face in any"):
        maker.recon_coeff(frames, points)


def test_several_faces_are_named(head, maker, talk):
    frames, many = np.zeros((12, 260, 320, 3), np.uint8), found(talk[0])
    many.n_faces[3] = 2
    with pytest.warns(ReconstructionWarning, match="frame 3: several faces there, the one followed"):
        maker.recon_coeff(frames, many)
    with pytest.raises(SeveralFacesError) as error:
        Reconstructor(head, strict=True).recon_coeff(frames, many)
    assert error.value.frames == (3,)


def test_crops_beyond_the_border_are_named(head, maker, talk):
    frames, points = np.zeros((3, 260, 320, 3), np.uint8), talk[0][:3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maker.recon_coeff(frames, points)
    beyond = points + [90, 0]
    with pytest.warns(ReconstructionWarning, match=r"frames 0, .*: up to \d\d% of the crop lies beyond the border"):
        maker.recon_coeff(frames, beyond)
    with pytest.raises(CropError):
        Reconstructor(head, strict=True).recon_coeff(frames, beyond)
    with pytest.raises(CropError, match="lies outside of the picture: are they in its pixels"):
        maker.recon_coeff(frames, points + [900, 0])


@pytest.fixture(scope="module")
def basel_maker(basel, tmp_path_factory):
    """(Reconstructor of the stand-in Basel model, face vector that its regressor gives for any picture)."""
    vector = np.random.default_rng(3).normal(0, 0.05, 257).astype(np.float32)
    network = CoefficientNetwork()
    for head, part in zip(network.final_layers, np.split(vector, np.cumsum([80, 64, 80, 3, 27, 2])), strict=True):
        head.bias.data[:] = torch.from_numpy(part)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(network.state_dict(), path)
    return Reconstructor(load_face_model("bfm", basel.folder), weights=path), vector


def five_points(scale, place, height):
    """Five landmarks (5, 2), y down, of the template at `scale` px to its unit, its origin at `place` (x, y up)."""
    up = TEMPLATE[:, :2] * scale + place
    return np.stack([up[:, 0], height - 1 - up[:, 1]], 1)


def test_the_basel_model_comes_from_the_regressor(basel_maker):
    maker, vector = basel_maker
    points = np.stack([five_points(80, (150, 130), 260), five_points(90, (160, 120), 260)])
    frames = np.zeros((2, 260, 320, 3), np.uint8)
    for frame, five in zip(frames, points, strict=True):
        x, y = np.round(five[2]).astype(int)
        frame[y - 1 : y + 2, x - 1 : x + 2] = 255
    coeff, aligned, crops = maker.recon_coeff(frames, points, True, return_crop=True)
    np.testing.assert_allclose(coeff, np.tile(vector, (2, 1)), atol=1e-6)
    # one size for the clip, the mean of 80 and 90; a place of its own for each frame
    assert crops[:, 0, 0] == pytest.approx([102 / 85] * 2) and crops[:, 1, 1] == pytest.approx([102 / 85] * 2)
    assert crops[0] @ [150, 259 - 130, 1] == pytest.approx([112, 111], abs=1e-3)
    assert crops[1] @ [160, 259 - 120, 1] == pytest.approx([112, 111], abs=1e-3)
    for picture, five, crop in zip(aligned, points, crops, strict=True):
        row, column = np.nonzero(picture[..., 0] > 128)
        nose = crop @ [*np.round(five[2]), 1]
        assert (column.mean(), row.mean()) == pytest.approx(nose, abs=0.3)


def test_a_track_of_the_basel_model_survives_the_disk(basel_maker, talk, tmp_path):
    maker, vector = basel_maker
    frames, points = np.zeros((3, 260, 320, 3), np.uint8), talk[0][:3].copy()
    points[1] = np.nan
    with pytest.warns(ReconstructionWarning, match="frame 1"):
        track = maker.recon_track(frames, points)
    assert track.face_model == "bfm" and track.face_model_hash == maker.model.hash and track.frame_size == (320, 260)
    np.testing.assert_allclose(track.coeff, np.tile(vector, (3, 1)), atol=1e-6)
    assert track.valid.tolist() == [True, False, True]
    assert track.landmarks[1] == pytest.approx(talk[0][[0, 2]].mean(0), abs=1e-3)
    track.save(tmp_path / "track.npz")
    loaded = FaceTrack.load(tmp_path / "track.npz")
    assert np.array_equal(loaded.coeff, track.coeff) and loaded.parts()["exp"].shape == (3, 64)
    with pytest.raises(ValueError, match="68 landmarks came, a track keeps 478"):
        maker.recon_track(frames, talk[0][:3, :68])


def test_pictures_of_the_basel_model_wear_its_own_colours(basel_maker):
    maker, vector = basel_maker
    gamma = np.zeros(27, np.float32)
    gamma[[0, 9, 18]] = 0.2
    parts = BFM_LAYOUT.split(vector[None]) | {"gamma": gamma[None], "tex": np.zeros((1, 80), np.float32)}
    video = maker.recon_video_from_coeff(BFM_LAYOUT.join(**parts))[0]
    uv = maker.recon_uv_from_coeff(BFM_LAYOUT.join(**parts))[0]
    face = uv[..., 0] >= 0
    assert face.mean() > 0.1 and not video[~face].any()
    posed = posed_of(maker.model, BFM_LAYOUT.join(**parts))[0]
    ids = maker.model.regions["face"][::50]
    nose = ids[posed[ids, 2].argmax()]
    column, row = camera.project(posed[nose][None])[0].round().long().tolist()
    expected = maker.model.texture_mean[nose].numpy() * K0
    assert video[row, column].astype(float) == pytest.approx(expected, abs=4)


def test_the_open_fit_stands_in_for_the_regressor(basel_maker, basel, talk):
    maker = Reconstructor(basel_maker[0].model, how="transfer", bias=None)
    frames = np.zeros((12, 260, 320, 3), np.uint8)
    coeff, crops = maker.recon_coeff(frames, talk[0], return_crop=True)
    assert coeff.shape == (12, 257)
    points = camera.project(maker.model.landmarks(posed_of(maker.model, coeff)))
    wanted = camera.apply_affine(torch.from_numpy(talk[0]), torch.from_numpy(crops))
    assert (points - wanted).norm(dim=-1).median() < 1.5
    with pytest.raises(ValueError, match="coefficients of open come by landmarks"):
        Reconstructor("open", how="regressor")


def test_absent_weights_are_named_when_they_are_needed(basel_maker, tmp_path, monkeypatch):
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path))
    maker = Reconstructor(basel_maker[0].model)
    assert maker.recon_uv_from_coeff(np.zeros((1, 257)), size=16).shape == (1, 16, 16, 2)
    points = five_points(80, (150, 130), 260)[None]
    with pytest.raises(AssetError, match=r"bfm/epoch_20.pth: missing"):
        maker.recon_coeff(np.zeros((1, 260, 320, 3), np.uint8), points)


# ---------------------------------------------------------------------------------------- files


def test_results_are_written_as_they_are(maker, coeff, places, filmed, tmp_path):
    uv = maker.recon_uv_from_coeff(coeff, tmp_path / "uv.npz", bg_path=tmp_path / "bg.npy")
    assert np.array_equal(np.load(tmp_path / "uv.npz")["arr_0"], uv)
    assert np.array_equal(np.load(tmp_path / "bg.npy"), places[1])
    video = maker.recon_video_from_coeff_notex(coeff, tmp_path / "grey.mp4")
    import av

    with av.open(str(tmp_path / "grey.mp4")) as container:
        stored = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert stored.shape == video.shape and np.abs(stored.astype(int) - video).mean() < 2
    texture = maker.recon_texture_from_coeff(coeff, filmed[1], tmp_path / "t.png", whole_clip=True, size=64)
    import cv2

    assert np.array_equal(cv2.imread(str(tmp_path / "t.png"))[..., ::-1], texture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bg.npy", "grey.mp4", "t.png", "uv.npz"]


def test_nothing_of_the_users_is_lost(maker, coeff, tmp_path):
    (tmp_path / "uv.npz").write_text("mine")
    (tmp_path / "0.jpg").write_text("mine too")
    with pytest.raises(FileExistsError, match="uv.npz: is there already.*overwrite=True"):
        maker.recon_uv_from_coeff(coeff, tmp_path / "uv.npz")
    assert (tmp_path / "uv.npz").read_text() == "mine"
    maker.recon_uv_from_coeff(coeff[:1], tmp_path / "uv.npz", overwrite=True, size=16)
    assert np.load(tmp_path / "uv.npz")["arr_0"].shape == (1, 16, 16, 2)
    assert (tmp_path / "0.jpg").read_text() == "mine too" and len(list(tmp_path.iterdir())) == 2


def test_a_wrong_name_is_told_before_the_work(maker, tmp_path):
    nothing = np.zeros((0, 0))  # would fail later
    with pytest.raises(ValueError, match=r"uv.mp4: numbers go into .*npy or .npz \(a video keeps 8 bits"):
        maker.recon_uv_from_coeff(nothing, tmp_path / "uv.mp4")
    with pytest.raises(ValueError, match=r"ends with .mp4 or .npy or .npz"):
        maker.recon_video_from_coeff(nothing, tmp_path / "x.avi")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        maker.recon_texture(nothing, nothing, tmp_path / "no" / "x.mp4")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_draws_the_same(head, coeff, places, filmed, maker):
    gpu = Reconstructor(head, device="cuda")
    uv = gpu.recon_uv_from_coeff(coeff)
    same = (uv[..., 0] >= 0) == (places[0][..., 0] >= 0)
    assert same.mean() > 0.995 and np.abs(uv - places[0])[same].mean() < 1e-3
    ours = maker.recon_texture_from_coeff(coeff, filmed[1]).astype(float)
    assert np.abs(gpu.recon_texture_from_coeff(coeff, filmed[1]) - ours).mean() < 1
