"""The invisible mark: found again after what videos go through, not found where it is not, and not seen."""

import cv2
import numpy as np
import pytest

from models import mark
from models.image_metrics import psnr


def film(seed, n_frames=12, size=(256, 256)):
    """A soft moving shape on a still, partly flat, partly rough background."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(rng.integers(60, 200, (24, 24, 3)).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    rough[:, : size[0] // 2] = rng.integers(40, 210, 3)
    out = []
    for k in range(n_frames):
        frame = rough.copy()
        cv2.circle(frame, (size[0] // 2 + 2 * k, size[1] // 2), size[1] // 4, (200, 160, 140), -1, cv2.LINE_AA)
        out.append(frame)
    return out


def jpeg(frame, quality=40):
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


ATTACKS = {
    "none": lambda frame: frame,
    "half size": lambda frame: cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "odd size and shape": lambda frame: cv2.resize(frame, (333, 217), interpolation=cv2.INTER_LINEAR),
    "coarse JPEG": jpeg,
    "grey": lambda frame: cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "mirrored": lambda frame: frame[:, ::-1],
    "brighter": lambda frame: cv2.convertScaleAbs(frame, alpha=1.0, beta=8),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_mark_and_payload_are_found_again(name):
    for seed, payload in ((0, mark.SYNTHETIC), (1, 0), (2, 255)):
        found = mark.detect(ATTACKS[name](mark.stamp(frame, payload)) for frame in film(seed))
        assert found.found and found.payload == payload and found.mirrored == (name == "mirrored"), found


def test_unmarked_films_score_like_noise():
    scores = [mark.detect(film(100 + seed, 3)).score for seed in range(60)]
    # the largest of 512 standard normal numbers is 3.0 on average, that of a few such sets hardly more
    assert 2.5 < np.mean(scores) < 4 and max(scores) < mark.THRESHOLD - 1


def test_one_key_frame_among_faded_ones_is_enough():
    plain = film(3, 40)
    marked = [mark.stamp(frame) if k == 17 else frame for k, frame in enumerate(plain)]
    assert mark.detect(marked).score > 2 * mark.THRESHOLD and mark.detect(plain).score < mark.THRESHOLD


@pytest.mark.parametrize("size", [(256, 256), (180, 320), (511, 333)])
def test_mark_is_not_seen(size):
    plain = film(5, 2, size)
    marked = [mark.stamp(frame) for frame in plain]
    assert psnr(np.array(plain), np.array(marked)).min() > 42
    assert np.abs(marked[0].astype(int) - plain[0]).max() <= 12


def test_still_surroundings_keep_a_still_mark():
    """Blocks in which nothing moves are marked the same in every frame: no shimmer."""
    plain = film(6)
    changes = [mark.stamp(frame).astype(int) - frame for frame in plain]
    corner = np.array([change[:48, :48] for change in changes])
    assert (corner == corner[0]).all()


def test_a_second_stamp_changes_little():
    once = mark.stamp(film(7)[0])
    assert psnr(once[None], mark.stamp(once)[None])[0] > 48


def test_a_wrong_frame_or_payload_is_named():
    with pytest.raises(ValueError, match="uint8 RGB is needed"):
        mark.stamp(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="payload 256"):
        mark.stamp(np.zeros((8, 8, 3), np.uint8), 256)


def test_no_frames_no_mark():
    assert not mark.detect([]).found
