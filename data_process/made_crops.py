"""Crops as cameras, rooms and people make them, out of the clean pictures of `made_faces`.

Long hair, glasses, things before the face, another room; a crop that lies beside the face; blur, few pixels, little light, noise,
JPEG. All of it is drawn anew each time a picture is used.
"""

import cv2
import numpy as np

from data_process.made_faces import SIZE
from deep_3drecon.align import align5, crop_affine
from deep_3drecon.landmarks import points5
from deep_3drecon.made_film import BACKGROUND, BODY, EYES, FACE, HAIR, LIPS, MOUTH
from deep_3drecon.open_regressor import face_crop

MIDDLE_PX = np.array([112.0, 112.0])  # of the canonical crop
NO_FACE_SHARE = 0.08


def draw_crop(picture, regions, landmarks, affine, rng, hard=1.0):
    """One training sample of a picture (SIZE, SIZE) uint8 grey.

    regions as in `Faces`, landmarks (68, 2), affine (2, 3) canonical crop -> picture; hard: how often things are done to
    it, 0 for never -> crop uint8, (2, 3) change of the canonical crop (see `open_regressor.into_crop`), face present.
    """
    picture = picture.astype(np.float32)
    if rng.random() < 0.5 * hard:
        change_room(picture, regions, rng)
    if rng.random() < 0.35 * hard:
        add_hair(picture, regions, landmarks, rng)
    if rng.random() < 0.22 * hard:
        add_glasses(picture, landmarks, rng)
    if rng.random() < 0.2 * hard:
        add_thing(picture, rng)
    present = not rng.random() < NO_FACE_SHARE * hard
    to_crop = draw_alignment(landmarks, rng)
    if not present:
        to_crop = spoil(picture, regions, to_crop, rng)
    crop = face_crop(picture.clip(0, 255).astype(np.uint8), to_crop)
    return degrade(crop, rng, hard), compose(to_crop, affine), present


def compose(second, first):
    """Affines (2, 3): first, then second."""
    out = second[:, :2] @ first
    out[:, 2] += second[:, 2]
    return out


def alignment(landmarks):
    """Affine (2, 3) from a picture to the canonical crop by five of its landmarks (68, 2)."""
    return crop_affine(*align5(points5(landmarks), SIZE), SIZE)


def draw_alignment(landmarks, rng):
    """The alignment, a little off as after a first look, or shifted, scaled and turned as if guessed from other frames."""
    off = 0.3 if rng.random() < 0.6 else 1.0
    scale = np.exp(off * np.clip(rng.normal(0, 0.11), -0.3, 0.3))
    turn = off * np.clip(rng.normal(0, 0.06), -0.25, 0.25)
    shift = off * np.clip(rng.normal(0, 10 if rng.random() < 0.7 else 22, 2), -45, 45)
    linear = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    change = np.concatenate([linear, (MIDDLE_PX - linear @ MIDDLE_PX + shift)[:, None]], 1)
    return compose(change, alignment(landmarks))


def cloud(rng, size=SIZE):
    """A soft random picture (size, size) float32, 0 to 255, from broad patches to fine grain."""
    n = int(rng.integers(2, 24))
    low, high = np.sort(rng.uniform(0, 255, 2))
    small = rng.uniform(low, high, (n, n)).astype(np.float32)
    way = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_NEAREST
    return cv2.resize(small, (size, size), interpolation=way)


def change_room(picture, regions, rng):
    """Another background, and often other clothes."""
    mask = regions == BACKGROUND
    if rng.random() < 0.6:
        body = regions == BODY
        picture[body] = (rng.uniform(0.2, 1.6) * picture + rng.uniform(-30, 60))[body]
    picture[mask] = cloud(rng)[mask]


def add_hair(picture, regions, landmarks, rng):
    """Hair down the sides, to the jaw or the shoulders, sometimes a fringe; it lies behind the face."""
    centre, top = landmarks[27], landmarks[19:25, 1].min()
    right, left = landmarks[0], landmarks[16]
    wide = np.linalg.norm(left - right) * rng.uniform(0.55, 0.95)
    high = np.linalg.norm(landmarks[8] - landmarks[27]) * rng.uniform(1.2, 2.2)
    middle = (right + left) / 2 * 0.5 + centre * 0.5
    shape = np.zeros(picture.shape, np.uint8)
    axes = (max(int(wide), 1), max(int(high), 1))
    cv2.ellipse(shape, tuple(int(v) for v in middle), axes, 0, 0, 360, 1, -1)
    behind = np.isin(regions, (FACE, LIPS, MOUTH, EYES), invert=True)
    hair = (shape > 0) & behind
    if rng.random() < 0.4:
        edge = top - rng.uniform(-0.02, 0.35) * high
        rows = np.arange(len(picture))[:, None] + rng.normal(0, 1.5, len(picture))
        hair |= (regions != BACKGROUND) & (rows < edge) & (shape > 0)
    dark = rng.uniform(5, 190) if rng.random() < 0.4 else rng.uniform(5, 60)
    strands = cv2.resize(rng.normal(0, 0.25, (4, SIZE)).astype(np.float32), (SIZE, SIZE))
    colour = dark * (1 + strands) * (0.6 + 0.8 * rng.random())
    picture[hair] = colour[hair]
    short = regions == HAIR
    picture[short] = (0.5 * picture + 0.5 * colour)[short]


def add_glasses(picture, landmarks, rng):
    """Rims round both eyes and a bridge, lenses clear or tinted."""
    rights, lefts = landmarks[36:42], landmarks[42:48]
    grow, squeeze = rng.uniform(0.6, 0.95), rng.uniform(0.55, 1.0)
    dark, thick = rng.uniform(0, 120), int(rng.integers(1, 3))
    over = picture.copy()
    for eye in (rights, lefts):
        centre, half = eye.mean(0), np.linalg.norm(eye[0] - eye[3]) * grow
        place = tuple(int(v) for v in np.round(centre + [0, 0.15 * half]))
        axes = (max(int(half), 1), max(int(half * squeeze), 1))
        if rng.random() < 0.3:
            tint = over.copy()
            cv2.ellipse(tint, place, axes, 0, 0, 360, float(rng.uniform(0, 200)), -1)
            cv2.addWeighted(tint, 0.5, over, 0.5, 0, dst=over)
        cv2.ellipse(over, place, axes, 0, 0, 360, dark, thick)
    bridge = [tuple(int(v) for v in np.round(p)) for p in (rights[3], lefts[0])]
    cv2.line(over, *bridge, dark, thick)
    picture[:] = over


def add_thing(picture, rng):
    """A hand, a microphone or a caption: a patch before the face."""
    centre = tuple(int(v) for v in rng.uniform(0.2, 0.9, 2) * SIZE)
    axes = tuple(int(v) for v in rng.uniform(0.04, 0.17, 2) * SIZE)
    shape = np.zeros(picture.shape, np.uint8)
    if rng.random() < 0.6:
        cv2.ellipse(shape, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    else:
        cv2.rectangle(shape, centre, (centre[0] + 3 * axes[0], centre[1] + axes[1]), 1, -1)
    picture[shape > 0] = cloud(rng)[shape > 0]


def spoil(picture, regions, to_crop, rng):
    """Make a picture without a face, in place; returns the affine to crop it by."""
    way = rng.random()
    if way < 0.35:  # beside the face
        out, turn = to_crop.copy(), rng.uniform(0, 2 * np.pi)
        out[:, 2] += rng.uniform(95, 150) * np.array([np.cos(turn), np.sin(turn)])
        return out
    if way < 0.7:  # a head without a face: seen from behind, or hidden
        head = np.isin(regions, (BACKGROUND, BODY), invert=True)
        picture[head] = (picture[head].mean() * (0.7 + 0.6 * cloud(rng) / 255))[head]
    else:
        picture[:] = cloud(rng)
        for _ in range(rng.integers(1, 6)):
            add_thing(picture, rng)
    return to_crop


def degrade(crop, rng, hard=1.0):
    """What camera and codec do to a crop (SIZE, SIZE) uint8 -> the same."""
    size = crop.shape[0]
    if rng.random() < 0.4 * hard:  # a small face, often with a codec that does not suit it
        small = int(size * rng.uniform(0.18, 0.8))
        crop = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        crop = pressed(crop, rng) if rng.random() < 0.4 else crop
        crop = cv2.resize(crop, (size, size), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
    if rng.random() < 0.25 * hard:
        crop = cv2.GaussianBlur(crop, (0, 0), float(rng.uniform(0.5, 2.5)))
    if rng.random() < 0.1 * hard:  # moved while the shutter was open
        n = int(rng.integers(2, 4)) * 2 + 1
        line = np.zeros((n, n), np.float32)
        turn = rng.uniform(0, np.pi)
        reach = (n // 2) * np.array([np.cos(turn), np.sin(turn)])
        ends = [tuple(int(v) for v in np.round(n // 2 + s * reach)) for s in (-1, 1)]
        cv2.line(line, *ends, 1.0)
        crop = cv2.filter2D(crop, -1, line / line.sum(), borderType=cv2.BORDER_REPLICATE)
    light = crop.astype(np.float32) / 255
    if rng.random() < 0.7 * hard:
        light = light ** np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.3 * hard:  # brighter on one side
        turn = rng.uniform(0, 2 * np.pi)
        row, column = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
        light = light * np.exp(rng.uniform(0.1, 0.8) * (np.cos(turn) * row + np.sin(turn) * column)).astype(np.float32)
    gain = np.exp(rng.uniform(-2.6, -0.7)) if rng.random() < 0.2 * hard else np.exp(rng.normal(0, 0.15 * hard))
    noise = abs(rng.normal(0, 0.02 * hard)) if rng.random() < 0.6 else 0.0
    light = light * np.float32(gain) + noise * rng.standard_normal(light.shape, np.float32)
    if rng.random() < 0.25 * hard:
        light = light + np.float32(rng.uniform(-0.1, 0.25))
    out = (light * 255).clip(0, 255).astype(np.uint8)
    return pressed(out, rng) if rng.random() < 0.4 * hard else out


def pressed(picture, rng):
    """A grey picture as JPEG leaves it."""
    _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(np.exp(rng.uniform(np.log(5), np.log(85))))])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
