"""Landmarks: the points move as the picture moves, tracking agrees with detection, and hard pictures are found or refused."""

import sys
import types

import cv2
import numpy as np
import pytest
from skimage import data

from data_process.landmarks import (
    LANDMARKS_68,
    SCORE_NAMES,
    FaceAlignmentLandmarker,
    FaceLandmarker,
    NoFaceError,
    points5,
)
from data_process.video import VideoWriter, read_frames, read_image
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import EYE_LEFT, EYE_RIGHT, interocular, lip_opening

# points on the mirror plane, and pairs that change places in a mirror
MIDDLE = [1, 10, 152, 13, 14, 168, 4]
PAIRS = [(33, 263), (133, 362), (61, 291), (78, 308), (468, 473), (234, 454), (70, 300), (107, 336)]


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker()


@pytest.fixture(scope="module")
def portrait():
    """NASA portrait, 512x512, face of 92x109 pixels, smiling."""
    return data.astronaut()


@pytest.fixture(scope="module")
def face(landmarker, portrait):
    return landmarker.image(portrait)


def shift(image, dx, dy=0):
    return np.roll(image, (dy, dx), (0, 1))


def placed(portrait, width, height, face_width, x, y):
    """A picture of soft colours with the face, `face_width` pixels wide, in a patch whose corner lies at (x, y)."""
    scale = face_width / 92
    patch = cv2.resize(portrait[40:240, 130:330], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    soft = np.random.default_rng(0).integers(60, 200, (5, 9, 3), dtype=np.uint8)
    image = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    image[y : y + len(patch), x : x + patch.shape[1]] = patch
    return image, lambda points: (points[:, :2] - (130, 40) + 0.5) * scale - 0.5 + (x, y)


def error(points, truth):
    """Mean distance in percent of the distance between the eyes."""
    return 100 * np.linalg.norm(points[:, :2] - truth[:, :2], axis=1).mean() / interocular(truth)


def test_shapes_and_names(face):
    assert face.points.shape == (478, 3) and face.points.dtype == np.float32
    assert face.scores.shape == (52,) and 0 <= face.scores.min() <= face.scores.max() <= 1
    assert face.points68.shape == (68, 2) and np.array_equal(face.points68, face.points[LANDMARKS_68, :2])
    assert face.presence > 0.99 and face.n_faces == 1
    assert SCORE_NAMES == (*sorted(SCORE_NAMES[:-1]), "tongueOut")
    assert tuple(load_face_model("open").expression_names) == SCORE_NAMES


def test_five_points_lie_where_they_should(face):
    left, right, nose, mouth_left, mouth_right = points5(face.points68)
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert left[1] < nose[1] < mouth_left[1] and abs(left[1] - right[1]) < 8
    assert np.allclose(left, face.points[468, :2], atol=4) and np.allclose(right, face.points[473, :2], atol=4)


def test_points_are_on_the_features(face, portrait):
    """Oracles out of the picture itself: dark pupils, and teeth that are less red than the lips around them."""

    def colour(point):
        x, y = point[:2].round().astype(int)
        return portrait[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)

    points = face.points
    assert max(colour(points[468]).mean(), colour(points[473]).mean()) < 0.6 * colour(points[6]).mean()
    teeth, lips = (
        colour((points[13] + points[14]) / 2),
        [colour((points[a] + points[b]) / 2) for a, b in ((0, 13), (14, 17))],
    )
    assert all(lip[0] - lip[1] > teeth[0] - teeth[1] + 15 for lip in lips)
    assert lip_opening(points[:, :2]) > 0.1 * interocular(points)


@pytest.mark.parametrize(("eye", "side", "other"), [(EYE_LEFT, "Left", "Right"), (EYE_RIGHT, "Right", "Left")])
def test_left_is_the_subjects_left(landmarker, face, portrait, eye, side, other):
    """An eye painted over with the skin around it raises the lid scores of its own side."""
    mask = np.zeros(portrait.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(face.points[eye, :2].round().astype(np.int32)), 255)
    painted = cv2.inpaint(portrait, cv2.dilate(mask, np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA)
    rise = dict(zip(SCORE_NAMES, landmarker.image(painted).scores - face.scores, strict=True))
    assert rise[f"eyeBlink{side}"] + rise[f"eyeSquint{side}"] > 0.3
    assert abs(rise[f"eyeBlink{other}"] + rise[f"eyeSquint{other}"]) < 0.15


def test_points_follow_the_picture_when_it_is_moved_turned_or_enlarged(landmarker, face, portrait):
    """Also pins the pixel centre: half a pixel of error would come out double under a quarter turn."""
    truth = face.points[:, :2]
    moved = landmarker.image(shift(portrait, 37, 11)).points[:, :2] - (37, 11)
    turned = landmarker.image(np.ascontiguousarray(np.rot90(portrait))).points[:, :2]
    turned = np.stack([511 - turned[:, 1], turned[:, 0]], 1)
    doubled = (landmarker.image(cv2.resize(portrait, None, fx=2, fy=2)).points[:, :2] + 0.5) / 2 - 0.5
    for points in (moved, turned, doubled):
        assert np.abs((points - truth).mean(0)).max() < 0.25
        assert error(points, truth) < 1.5


def test_mirrored_face_gives_mirrored_points_and_scores(landmarker, face, portrait):
    mirrored = landmarker.image(np.ascontiguousarray(portrait[:, ::-1]))
    ids = np.array([(i, i) for i in MIDDLE] + PAIRS + [(b, a) for a, b in PAIRS])
    back = mirrored.points[ids[:, 1], :2] * (-1, 1) + (511, 0)
    assert np.linalg.norm(back - face.points[ids[:, 0], :2], axis=1).max() < 0.06 * interocular(face.points)
    swap = [name.replace("Left", "?").replace("Right", "Left").replace("?", "Right") for name in SCORE_NAMES]
    swapped = mirrored.scores[[SCORE_NAMES.index(name) for name in swap]]
    assert np.abs(swapped - face.scores).mean() < 0.06


def test_scores_read_the_smile_and_stand_a_turned_head(landmarker, face, portrait):
    score = dict(zip(SCORE_NAMES, face.scores, strict=True))
    assert min(score["mouthSmileLeft"], score["mouthSmileRight"]) > 0.7
    assert max(score["eyeBlinkLeft"], score["mouthPucker"], score["jawOpen"]) < 0.2
    turn = cv2.getRotationMatrix2D((225, 125), 30, 1)
    turned = cv2.warpAffine(portrait, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(landmarker.image(turned).scores - face.scores).max() < 0.1


@pytest.mark.parametrize(
    ("width", "height", "face_width"), [(640, 480, 40), (1280, 720, 40), (1080, 1920, 40), (1920, 1080, 60)]
)
def test_a_small_face_in_a_large_picture_is_found(landmarker, face, portrait, width, height, face_width):
    for x, y in ((10, 20), (width // 2, height // 2), (width - 150, height - 150)):
        image, place = placed(portrait, width, height, face_width, x, y)
        found = landmarker.image(image)
        assert found.n_faces == 1 and error(found.points, place(face.points)) < 5


def test_a_large_face_is_not_aliased(landmarker, face, portrait):
    """Fine stripes over an enlarged face vanish in the average of a crop and would bend it if pixels were skipped."""
    large = cv2.resize(portrait[20:280, 90:350], None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC).astype(int)
    striped = large + np.where(np.arange(large.shape[1]) % 6 < 3, 60, -60)[None, :, None]
    found = landmarker.image(striped.clip(0, 255).astype(np.uint8)).points[:, :2]
    assert error((found + 0.5) / 8 - 0.5 + (90, 20), face.points) < 3


def test_of_two_faces_the_largest_is_taken_and_both_are_counted(landmarker, face, portrait):
    small = cv2.resize(portrait, (400, 400), interpolation=cv2.INTER_AREA)
    image = np.zeros((512, 912, 3), np.uint8)
    image[:400, :400], image[:, 400:] = small, portrait
    found = landmarker.faces(image)
    assert len(found) == 2 and all(one.n_faces == 2 for one in found)
    assert error(found[0].points, face.points[:, :2] + (400, 0)) < 2
    assert error(found[1].points, (face.points[:, :2] + 0.5) * 400 / 512 - 0.5) < 3


@pytest.mark.parametrize("kind", ["grey", "rgba", "painting", "sketch", "dark", "noisy"])
def test_unusual_pictures_of_a_face(landmarker, face, portrait, tmp_path, kind):
    path = tmp_path / "a.png"
    bgr = portrait[..., ::-1]
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    noise = np.random.default_rng(0).normal(0, 25, bgr.shape)
    picture = {
        "grey": lambda: grey,
        "rgba": lambda: np.dstack(
            [bgr, np.where(np.arange(512) < 400, 255, 0)[:, None].repeat(512, 1).astype(np.uint8)]
        ),
        "painting": lambda: cv2.stylization(np.ascontiguousarray(bgr), sigma_s=20, sigma_r=0.3),
        "sketch": lambda: cv2.divide(grey, cv2.GaussianBlur(grey, (0, 0), 8), scale=200),
        "dark": lambda: (bgr * 0.15).astype(np.uint8),
        "noisy": lambda: (bgr + noise).clip(0, 255).astype(np.uint8),
    }[kind]()
    cv2.imwrite(str(path), picture)
    found = landmarker.image(read_image(path))
    assert found.n_faces == 1
    assert error(found.points, face.points) < (6 if kind == "sketch" else 4)


@pytest.mark.parametrize("name", ["coffee", "brick", "grass", "rocket", "page", "text", "hubble_deep_field"])
def test_pictures_without_a_face_are_refused(landmarker, name):
    image = getattr(data, name)()
    image = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image[..., :3]
    with pytest.raises(NoFaceError, match=f"{image.shape[1]}x{image.shape[0]}.*use one that shows a face"):
        landmarker.image(np.ascontiguousarray(image))


@pytest.mark.parametrize(("shape", "kind"), [((9, 9), "u1"), ((9, 9, 4), "u1"), ((9, 9, 3), "f4"), ((0, 9, 3), "u1")])
def test_what_is_no_rgb_picture_is_refused(landmarker, shape, kind):
    with pytest.raises(ValueError, match="needed .H, W, 3. uint8 RGB"):
        landmarker.image(np.zeros(shape, kind))


def test_tiny_and_narrow_pictures_do_not_break(landmarker):
    for shape in ((1, 1, 3), (2, 300, 3), (300, 2, 3), (17, 23, 3)):
        assert landmarker.faces(np.full(shape, 128, np.uint8)) == []


def test_tracking_stays_on_a_still_and_on_a_moving_face(landmarker, face, portrait):
    still = landmarker.track(portrait for _ in range(30))
    assert still.valid.all() and (still.n_faces == 1).all() and still.frame_size == (512, 512)
    assert max(error(points, face.points) for points in still.points) < 1
    moving = landmarker.track(shift(portrait, 6 * t, 2 * t) for t in range(20))
    assert moving.valid.all() and len(moving) == 20 and moving.points68.shape == (20, 68, 2)
    for t, points in enumerate(moving.points):
        assert error(points - (6 * t, 2 * t, 0), face.points) < 2
    assert np.array_equal(still.points[0], face.points)  # one frame tracked = one picture


def test_a_lost_face_is_marked_and_found_again(landmarker, face, portrait):
    dark = np.zeros_like(portrait)
    away = shift(portrait, 60)
    frames = [dark] * 3 + [portrait] * 4 + [dark] * 6 + [away] * 4 + [dark] * 2
    track = landmarker.track(frames)
    expected = np.array([False] * 3 + [True] * 4 + [False] * 6 + [True] * 4 + [False] * 2)
    assert np.array_equal(track.valid, expected)
    assert (track.n_faces[~expected] == 0).all() and (track.presence[~expected] < 0.5).all()
    assert np.isfinite(track.points).all() and np.isfinite(track.scores).all()
    assert np.array_equal(track.points[0], track.points[3]) and np.array_equal(track.points[-1], track.points[-3])
    half = (4 * track.points[6] + 3 * track.points[13]) / 7
    assert np.allclose(track.points[9], half, atol=1e-2)


def test_the_same_face_is_followed_when_another_grows_larger(landmarker, portrait):
    frames = []
    for size in (300, 300, 512, 512):
        image = np.zeros((512, 912, 3), np.uint8)
        image[:400, :400] = cv2.resize(portrait, (400, 400), interpolation=cv2.INTER_AREA)
        image[:size, 400 : 400 + size] = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA)
        frames += [image] * 8
    frames[20] = np.zeros_like(frames[0])  # lost for a moment, with the larger face beside it on return
    track = landmarker.track(frames)
    assert track.valid.sum() == 31 and (track.points[..., 0].max(1) < 400).all()
    assert track.n_faces[0] == 2 and track.n_faces[-1] == 2


def test_tracks_without_a_face_or_without_frames(landmarker):
    with pytest.raises(NoFaceError, match="3 frames of 80x64"):
        landmarker.track([np.zeros((64, 80, 3), np.uint8)] * 3)
    with pytest.raises(NoFaceError, match="no frame"):
        landmarker.track([])
    with pytest.raises(ValueError, match="frame 1 is 64x80"):
        landmarker.track([np.zeros((64, 80, 3), np.uint8), np.zeros((80, 64, 3), np.uint8)])


def test_a_written_video_is_tracked_like_its_frames(landmarker, face, portrait, tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as video:
        for t in range(8):
            video.write(shift(portrait, 4 * t))
    track = landmarker.track(read_frames(tmp_path / "a.mp4", fps=25))
    for t, points in enumerate(track.points):
        assert error(points - (4 * t, 0, 0), face.points) < 2.5


def test_face_alignment_adapter_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(ImportError, match="pip install --no-deps face-alignment"):
        FaceAlignmentLandmarker()


def test_face_alignment_adapter_has_the_same_interface(monkeypatch, face):
    """A stand-in for the package, whose weights cannot be fetched here: two faces, absent from black pictures."""

    class FaceAlignment:
        def __init__(self, landmarks_type, device):
            assert landmarks_type == "2d" and device == "cpu"

        def get_landmarks_from_image(self, image):
            return [face.points68 * 0.5, face.points68] if image.any() else None

    package = types.ModuleType("face_alignment")
    package.FaceAlignment, package.LandmarksType = FaceAlignment, types.SimpleNamespace(TWO_D="2d")
    monkeypatch.setitem(sys.modules, "face_alignment", package)
    adapter, white = FaceAlignmentLandmarker(), np.full((64, 64, 3), 255, np.uint8)
    found = adapter.image(white)
    assert np.array_equal(found.points68, face.points68) and found.n_faces == 2 and found.scores.shape == (52,)
    track = adapter.track([white, white * 0, white])
    assert track.points.shape == track.points68.shape == (3, 68, 2) and list(track.valid) == [True, False, True]
    with pytest.raises(NoFaceError):
        adapter.image(white * 0)


def test_real_portraits_and_clips(media, landmarker):
    for path in sorted((media / "portraits").iterdir()):
        assert landmarker.image(read_image(path)).n_faces == 1, path.name
    for name in ("PC-AVS__00015.mp4", "GRID__brbk7n.mpg", "styletalk__Obama_clip2.mp4", "yiranran__31.mp4"):
        track = landmarker.track(read_frames(media / "clips" / name, fps=25, max_frames=40))
        assert track.valid.all() and (track.n_faces == 1).all(), name
        opening = lip_opening(track.points[..., :2]) / interocular(track.points)
        assert 0 <= opening.min() < 0.1 and opening.max() > 0.1, name
