"""Coefficient files as the other systems write them, laid out here by hand from their description, and real ones where present."""

import json
import pickle

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from data_process import coeff_check, coeff_files
from data_process.coeff_check import compare
from data_process.coeff_files import main, read_coeff, write_coeff
from data_process.coeff_forms import FORMS
from data_process.coeff_track import CoeffFileError, CoeffTrack
from deep_3drecon import camera
from deep_3drecon.coeffs import BFM_LAYOUT
from deep_3drecon.landmarks import LANDMARKS_68, points5
from deep_3drecon.safe_pickle import UnsafePickleError
from deep_3drecon.track import FaceTrack

T = 6
# half-open slices of the 257 numbers, from the description of the vector and not from the code
SLICES = {
    "id": (0, 80),
    "exp": (80, 144),
    "tex": (144, 224),
    "angle": (224, 227),
    "gamma": (227, 254),
    "trans": (254, 257),
}
# 640 x 480 is not square, so that a mixed-up axis shows
TRANSFORM = np.array([[640, 480, 0.636946642, 247.256142 + t, 213.667504 - t] for t in range(T)])


@pytest.fixture
def numbers():
    return np.random.default_rng(0).normal(0, 0.3, (T, 257)).astype(np.float32)


def face68():
    """(T, 68, 2) upright landmarks in pixels of the source, y down."""
    rng = np.random.default_rng(1)
    points = rng.uniform(200, 300, (T, 68, 2))
    points[:, 36:48, 1] = rng.uniform(200, 230, (T, 12))
    points[:, 48:, 1] = rng.uniform(290, 320, (T, 20))
    return points.astype(np.float32)


def exact_crop(points):
    """Crop pixels, y down, by the formula of the alignment without its rounding: (lm_up - t) scale + 112, row 223 - v."""
    up = np.stack([points[..., 0], 479 - points[..., 1]], -1)
    v = (up - TRANSFORM[:, None, 3:]) * TRANSFORM[:, 2, None, None] + 112
    return np.stack([v[..., 0], 223 - v[..., 1]], -1)


def columns(coeff, *names):
    return np.concatenate([coeff[:, slice(*SLICES[name])] for name in names], 1)


def frames(folder, name, rows):
    folder.mkdir()
    for t in range(T):
        savemat(folder / name.format(t), {k: v[t : t + 1] if v.ndim == 2 else v[t] for k, v in rows.items()})
    return folder


def make(form, path, coeff):
    """Files of a form as its own system writes them -> path."""
    vectors73 = np.concatenate([columns(coeff, "exp", "angle", "trans"), TRANSFORM[:, 2:]], 1).astype(np.float32)
    mat = path / "clip.mat"
    if form == "style_avatar":
        (path / "clip.pkl").write_bytes(pickle.dumps(coeff))
        return path / "clip.pkl"
    if form == "headpose":
        return frames(path / "hp", "frame{}.mat", {"coeff": coeff, "lm_5p": np.arange(T * 10.0).reshape(T, 5, 2)})
    if form == "gsmoothface":
        parts = {name: coeff[:, slice(*s)] for name, s in SLICES.items()}
        rows = parts | {"lm68": exact_crop(face68())[:, None], "transform_params": TRANSFORM}
        return frames(path / "gs", "{:06d}.mat", rows)
    if form == "style2talker":
        up = face68()
        up[..., 1] = 479 - up[..., 1]
        np.save(path / "clip.npy", {"coeff": coeff, "lm68": up, "lm5": points5(face68()), "trans_param": TRANSFORM})
        return path / "clip.npy"
    if form == "sadtalker":
        savemat(mat, {"coeff_3dmm": vectors73, "full_3dmm": coeff[:1]})
    elif form == "sadtalker_result":
        savemat(mat, {"coeff_3dmm": vectors73[:, :70]})
    elif form in ("styletalk", "dreamtalk"):
        savemat(mat, {"coeff": coeff, "transform_params": TRANSFORM.astype(np.float32)})
    if mat.exists():
        return mat
    shifts = np.stack([np.arange(T) * 0.5, np.arange(T) * -1.5, np.arange(T)[::-1] + 7.0], 1)
    lowered = columns(coeff, "exp", "angle", "trans") - np.eye(70)[69] * 0.5
    array = {
        "headpose_predicted": lowered,
        "headpose_assigned": np.concatenate([vectors73[:, :70], shifts], 1),
        "pirender": np.concatenate([coeff, TRANSFORM[:, 2:]], 1),
    }[form]
    np.save(path / "clip.npy", array.astype(np.float32))
    return path / "clip.npy"


def read(form, path, coeff):
    size = (640, 480) if form in ("pirender", "sadtalker") else (256, 256)
    return read_coeff(make(form, path, coeff), form=form, frame_size=size)


@pytest.mark.parametrize("form", FORMS)
def test_slices_are_where_the_description_has_them(form, tmp_path, numbers):
    track = read(form, tmp_path, numbers)
    assert (track.form, track.fps, len(track)) == (form, 30 if form == "styletalk" else 25, T)
    parts = track.split()
    first_only = {"id", "tex", "gamma"} if form == "sadtalker" else set()
    for name, (start, stop) in SLICES.items():
        if name in track.parts:
            wanted = numbers[:, start:stop] if name not in first_only else np.repeat(numbers[:1, start:stop], T, 0)
            np.testing.assert_allclose(parts[name], wanted, atol=1e-6)
        else:
            assert not parts[name].any()
    assert {"exp", "angle", "trans"} <= set(track.parts)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back(form, tmp_path, numbers):
    first = read(form, tmp_path, numbers)
    path = tmp_path / ("again" + ("" if FORMS[form].by_frame else FORMS[form].file))
    write_coeff(first, path, form)
    again = read_coeff(path, form=form, frame_size=first.frame_size)
    np.testing.assert_allclose(again.coeff, first.coeff, atol=1e-6)
    assert again.parts == first.parts
    for name in ("transform", "landmarks68", "landmarks5"):
        if getattr(first, name) is not None:
            np.testing.assert_allclose(getattr(again, name), getattr(first, name), atol=1e-3, rtol=1e-6)
    for name, value in first.extra.items():
        np.testing.assert_allclose(again.extra[name], value, atol=1e-6)


def test_everything_goes_through_every_form_that_can_hold_it(tmp_path, numbers):
    track = read("style2talker", tmp_path, numbers)
    for form in ("gsmoothface", "style2talker", "dreamtalk", "style_avatar", "headpose", "pirender", "sadtalker"):
        path = tmp_path / f"{form}{'' if FORMS[form].by_frame else FORMS[form].file}"
        write_coeff(track, path, form)
        again = read_coeff(path, form=form, frame_size=(640, 480))
        np.testing.assert_allclose(again.split()["exp"], track.split()["exp"], atol=1e-6)
        np.testing.assert_allclose(again.split()["trans"], track.split()["trans"], atol=1e-6)


def test_others_tools_find_their_keys_and_shapes(tmp_path, numbers):
    track = read("style2talker", tmp_path, numbers)
    write_coeff(track, tmp_path / "hp", "headpose")
    frame = loadmat(tmp_path / "hp" / "frame3.mat")
    assert (frame["coeff"].shape, frame["lm_5p"].shape) == ((1, 257), (5, 2))
    write_coeff(track, tmp_path / "gs", "gsmoothface")
    frame = loadmat(tmp_path / "gs" / "000003.mat")
    assert {k: frame[k].shape for k in ("id", "exp", "gamma")} == {"id": (1, 80), "exp": (1, 64), "gamma": (1, 27)}
    assert (frame["lm68"].shape, frame["transform_params"].shape) == ((68, 2), (1, 5))
    write_coeff(track, tmp_path / "s2t.npy", "style2talker")
    table = np.load(tmp_path / "s2t.npy", allow_pickle=True).item()
    assert table["lm68"][0, 40, 1] > table["lm68"][0, 60, 1] and table["lm5"][0, 0, 1] < table["lm5"][0, 3, 1]
    write_coeff(track, tmp_path / "sa.pkl", "style_avatar")
    assert pickle.loads((tmp_path / "sa.pkl").read_bytes()).shape == (T, 257)


@pytest.mark.parametrize("form", ["gsmoothface", "style2talker"])
def test_landmarks_come_in_source_pixels_with_y_down(form, tmp_path, numbers):
    track = read(form, tmp_path, numbers)
    np.testing.assert_allclose(track.landmarks68, face68(), atol=1e-3)


def test_the_crop_is_the_alignment_without_its_rounding():
    """Golden case C of the five-point alignment; its rounded picture is 326 px wide and not 326.117."""
    five = np.array([[196, 226], [298, 221], [252, 283], [208, 330], [292, 326.0]])
    transform = np.array([[512, 512, 0.636946642, 247.256142, 245.667504]])
    track = CoeffTrack(np.zeros((1, 257)), 25, "dreamtalk", transform=transform)
    x = [79.410913, 144.379470, 115.079925, 87.054272, 140.557790]
    y = [85.888958, 82.704225, 122.194917, 152.131409, 149.583622]
    rounding = (512 * 0.636946642 - 326) / 2
    mapped = five @ track.crop[0, :, :2].T + track.crop[0, :, 2]
    np.testing.assert_allclose(mapped, np.stack([x, y], 1) + [-rounding, rounding], atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_crop_that_was_placed_upside_down_is_told_by_its_coefficients(turned):
    """Style2Talker counts y the wrong way when it cuts, not in the transform that it stores: the face is off the middle."""
    height, up = 256, 114.5 + np.arange(T)
    transform = np.stack([np.full(T, v) for v in (256, height, 1.1, 126.0)] + [up], 1)
    origin = np.stack([np.full(T, 126.0), height - 1 - up], 1)  # of the face, in the picture, y down
    placed = height - 1 - up if turned else up
    row = (origin[:, 1] - (height - 1 - placed)) * 1.1 + 223 - 112  # where the cut puts it
    trans = np.stack([0 * up, (223 - row - 112) * 9.75 / 1015, np.full(T, 0.25)], 1) + 0.01
    track = CoeffTrack(BFM_LAYOUT.join(trans=trans), 25, "style2talker", transform=transform)
    assert track.is_turned_over == turned and ("wrong way" in coeff_files.describe(track)) == turned
    mapped = np.einsum("tij,tj->ti", track.crop[:, :, :2], origin) + track.crop[:, :, 2]
    shown = camera.project(torch.from_numpy(trans)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(mapped, np.stack([shown[:, 0], shown[:, 1]], 1), atol=1.5)
    assert track.resampled(30).is_turned_over == turned


def test_headpose_shift_is_what_the_fixed_crop_lacks(tmp_path, numbers):
    track = read("style2talker", tmp_path, numbers)
    write_coeff(track, tmp_path / "hp", "headpose")
    shift = read_coeff(tmp_path / "hp").extra["shift5"]
    # scale is the same throughout and t moves by one pixel a frame: right in x, and down in y since ty counts upwards
    moved = TRANSFORM[0, 2] * np.arange(T)[:, None, None] * np.ones((T, 5, 2))
    np.testing.assert_allclose(shift, moved, atol=1e-4)


@pytest.mark.parametrize("size", [70, 73])
def test_plain_arrays_that_two_systems_mean_differently_need_a_name(tmp_path, numbers, size):
    np.save(tmp_path / "a.npy", np.zeros((T, size), np.float32))
    with pytest.raises(CoeffFileError, match="name the form"):
        read_coeff(tmp_path / "a.npy")
    with pytest.raises(CoeffFileError, match="name the form"):
        read_coeff(tmp_path / "a.npy", fps=25)


def test_a_73_vector_of_the_other_kind_is_refused(tmp_path, numbers):
    assigned, pirender = make("headpose_assigned", tmp_path, numbers), tmp_path / "p.npy"
    vectors = np.concatenate([columns(numbers, "exp", "angle", "trans"), TRANSFORM[:, 2:]], 1)
    np.save(pirender, vectors.astype(np.float32))
    with pytest.raises(CoeffFileError, match="scale"):
        read_coeff(assigned, form="pirender")
    with pytest.raises(CoeffFileError, match="source frame"):
        read_coeff(pirender, form="headpose_assigned")
    savemat(tmp_path / "s.mat", {"coeff_3dmm": np.load(assigned)})
    with pytest.raises(CoeffFileError, match="scale"):
        read_coeff(tmp_path / "s.mat")
    with pytest.raises(CoeffFileError, match="not headpose_assigned"):
        read_coeff(tmp_path / "s.mat", form="headpose_assigned")


def test_a_rate_that_no_file_tells_is_asked_for(tmp_path, numbers):
    path = make("dreamtalk", tmp_path, numbers)
    with pytest.raises(CoeffFileError, match="30 fps.*25 fps"):
        read_coeff(path)
    assert (read_coeff(path, fps=30).form, read_coeff(path, fps=25).form) == ("styletalk", "dreamtalk")
    with pytest.raises(CoeffFileError, match="resample"):
        write_coeff(read_coeff(path, form="styletalk"), tmp_path / "x.mat", "dreamtalk")


def test_resampling_keeps_time(tmp_path, numbers):
    track = read("styletalk", tmp_path, numbers)
    moved = track.resampled(60)
    assert (moved.fps, len(moved)) == (60, 2 * T - 1)
    np.testing.assert_allclose(moved.coeff[::2], track.coeff, atol=1e-6)
    np.testing.assert_allclose(moved.transform[1], (TRANSFORM[0] + TRANSFORM[1]) / 2, rtol=1e-6)


def test_a_missing_frame_is_told_and_filled(tmp_path, numbers):
    folder = make("gsmoothface", tmp_path, numbers)
    (folder / "000002.mat").unlink()
    track = read_coeff(folder)
    assert track.valid.tolist() == [True, True, False, True, True, True]
    np.testing.assert_allclose(track.coeff[2], (numbers[1] + numbers[3]) / 2, atol=1e-6)
    assert "1 frames missing" in coeff_files.describe(track)


def test_a_single_frame_file_and_ragged_alignment_are_read(tmp_path, numbers):
    ragged = np.empty((1, 5), object)
    ragged[0] = [640.0, 480.0, 0.6, np.array([247.0]), np.array([213.0])]
    parts = {name: numbers[:1, slice(*s)] for name, s in SLICES.items()}
    savemat(tmp_path / "000000.mat", parts | {"transform_params": ragged})
    track = read_coeff(tmp_path / "000000.mat")
    assert track.transform.tolist() == [[640, 480, 0.6, 247, 213]] and track.frame_size == (640, 480)


class Runs:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "damaged"),
        (pickle.dumps({"coeff": Runs()}), "print"),
        (pickle.dumps([1, 2]), "no array"),
        (pickle.dumps(np.zeros((3, 99), np.float32)), "99 numbers"),
        (pickle.dumps(np.full((3, 257), np.nan, np.float32)), "frame 0"),
        (pickle.dumps({"lips": np.zeros(3)}), "lips"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, content, message, capsys):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises((CoeffFileError, UnsafePickleError), match=message):
        read_coeff(tmp_path / "a.pkl")
    assert main(["--input", str(tmp_path / "a.pkl"), "--describe"]) == 1
    assert message in capsys.readouterr().err


def test_upside_down_faces_are_refused(tmp_path, numbers):
    folder = make("style2talker", tmp_path, numbers)
    table = np.load(folder, allow_pickle=True).item()
    table["lm68"][::2, :, 1] = 479 - table["lm68"][::2, :, 1]
    np.save(folder, table)
    with pytest.raises(CoeffFileError, match="above the mouth"):
        read_coeff(folder)


def test_the_command_writes_a_face_track(tmp_path, numbers, capsys):
    path = make("style2talker", tmp_path, numbers)
    assert main(["--input", str(path), "--describe", "--output", str(tmp_path / "t.npz")]) == 0
    assert "6 frames at 25 fps" in capsys.readouterr().out
    track = FaceTrack.load(tmp_path / "t.npz")
    assert (track.face_model, track.frame_size, track.fps) == ("bfm", (640, 480), 25)
    np.testing.assert_allclose(track.coeff, numbers)
    np.testing.assert_allclose(track.landmarks68, face68(), atol=1e-3)
    assert np.isnan(np.delete(track.landmarks, LANDMARKS_68, 1)).all()
    assert main(["--input", str(path), "--to", "styletalk", "--output", str(tmp_path / "o.mat")]) == 0
    assert loadmat(tmp_path / "o.mat")["coeff"].shape == (7, 257)
    back = ["--input", str(tmp_path / "o.mat"), "--form", "styletalk", "--output", str(tmp_path / "back.npz")]
    assert main(back) == 0 and "from 30 to 25 fps" in capsys.readouterr().err
    assert (len(FaceTrack.load(tmp_path / "back.npz")), FaceTrack.load(tmp_path / "back.npz").fps) == (6, 25)


def made_up_pair(offset, fps=30.0, n=120, seed=2):
    """Coefficients at `fps` and our track at 25 fps of one made-up motion; their row 0 is frame `offset` of the video."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.5, 3, (4, 5)), rng.uniform(0, 6, (4, 5))

    def motion(t):
        return np.sin(2 * np.pi * waves[0][..., None] * t + waves[1][..., None]).mean(1).T

    theirs, ours = motion((np.arange(n) + offset) / fps), motion(np.arange(n) / 25)
    exp = np.outer(theirs[:, 3], rng.normal(size=64)) + rng.normal(0, 0.02, (n, 64))
    track = CoeffTrack(BFM_LAYOUT.join(exp=exp, angle=0.1 * theirs[:, :3]), fps, "styletalk")
    landmarks = np.zeros((n, 478, 2), np.float32)
    landmarks[:, 473, 0] = 60
    landmarks[:, [82, 13, 312], 1] = -10 - 5 * ours[:, 3:]
    coeff = BFM_LAYOUT.join(angle=0.1 * ours[:, :3] + 0.05).astype(np.float32)
    mine = FaceTrack(
        coeff, landmarks, np.tile(np.eye(2, 3), (n, 1, 1)), np.ones(n, bool), np.zeros((n, 52)), 25.0, (9, 9), "bfm", ""
    )
    return track, mine


@pytest.mark.parametrize("offset", [0, 2, -3])
def test_comparison_finds_the_frame_of_the_first_row(offset):
    found = compare(*made_up_pair(offset))
    assert found["offset"] == offset
    assert min(found[name] for name in ("pitch", "yaw", "roll", "opening")) > 0.99
    np.testing.assert_allclose(found["difference"], [-np.degrees(0.05)] * 3, atol=0.1)


def test_comparison_tells_another_clip():
    theirs, _ = made_up_pair(0)
    _, mine = made_up_pair(0, seed=7)
    assert compare(theirs, mine)["opening"] < 0.5


def test_the_comparison_by_command(tmp_path, capsys):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    for name, offset in (("a", 0), ("b", 2)):
        theirs, mine = made_up_pair(offset)
        savemat(tmp_path / "theirs" / f"{name}.mat", {"coeff": theirs.coeff})
        mine.save(tmp_path / "ours" / f"{name}.npz")
    (tmp_path / "theirs" / "c.mat").write_bytes(b"nothing")
    folders = ["--coeff", str(tmp_path / "theirs"), "--video", str(tmp_path / "ours")]
    assert coeff_check.main([*folders, "--form", "styletalk", "--output", str(tmp_path / "t.json")]) == 0
    told, kept = capsys.readouterr().out, json.loads((tmp_path / "t.json").read_text())
    assert set(kept) == {"a", "b"} and [kept[name]["offset"] for name in "ab"] == [0, 2]
    assert "| b | " in told and "| +2 | " in told and "| median |" in told
    assert coeff_check.main([*folders, "--fps", "25"]) == 0 and kept["b"]["opening"] > 0.99
    mine.save(tmp_path / "ours" / "c.npz")
    assert coeff_check.main([*folders, "--form", "dreamtalk"]) == 1 and "error: c: " in capsys.readouterr().err
    one = ["--coeff", str(tmp_path / "theirs" / "a.mat"), "--video", str(tmp_path / "ours" / "b.npz")]
    assert coeff_check.main([*one, "--form", "styletalk"]) == 0
    assert coeff_check.main(["--coeff", str(tmp_path / "ours"), "--video", str(tmp_path / "theirs")]) == 1


# ------------------------------------------------------------------------------------------------ real files


def test_every_real_file_is_read(media):
    files = sorted((media / "coeff").glob("*.mat"))
    assert len(files) == 31
    for path in files:
        track = read_coeff(path, form=path.name.split("_")[0].split("-")[0])
        assert track.coeff.shape == (len(track), 257) and track.transform.shape == (len(track), 5)
        assert track.frame_size == (256, 256) and track.valid.all() and not track.is_turned_over
        scale, t = track.crop[:, 0, 0], track.crop[:, :, 2]
        # the face's origin, which the alignment puts in the middle of the crop, lies in the picture
        origin = (np.array([112, 223 - 112]) - t) / scale[:, None]
        assert (0 < origin).all() and (origin < 256).all()
        assert np.abs(track.split()["angle"]).max() < np.radians(60)


def test_real_coefficients_agree_with_our_track_of_their_video(media):
    """30 fps against 25, on the first four seconds. The video has two frames more than there are rows, and they come first."""
    from data_process.face_tracks import landmarker, track_landmarks
    from data_process.video import read_frames

    name = "styletalk__feifeili_clip3"
    frames = read_frames(media / "clips" / f"{name}.mp4", fps=25, max_frames=100)
    theirs = read_coeff(media / "coeff" / f"{name}.mat", form="styletalk")
    found = compare(theirs, track_landmarks(landmarker().track(frames)))
    assert (found["offset"], found["frames"]) == (2, 117)  # rows 0 to 116 lie on our frames 1.67 to 98.33
    assert found["pitch"] > 0.9 and found["yaw"] > 0.9 and found["roll"] > 0.9
    assert found["opening"] > 0.8 and abs(found["best"][1]) > 0.8
    assert np.abs(found["difference"]).max() < 7 and max(found["jitter"]) < 1.5


def test_real_landmarks_in_the_crop_lie_on_the_template(media):
    """Our landmarks of a real picture, through the transform of their file, fall where the alignment wants them."""
    from data_process.face_tracks import landmarker
    from data_process.video import read_frames

    name = "dreamtalk__W009_front_neutral_level1_001"
    track = read_coeff(media / "coeff" / f"{name}.mat", form="dreamtalk")
    image = next(read_frames(media / "driving_silent" / f"{name}.mp4", max_frames=1))
    five = points5(landmarker().image(image).points68)
    mapped = five @ track.crop[0, :, :2].T + track.crop[0, :, 2]
    wanted = [[79.9540, 141.8753], [143.8647, 141.7973], [112.3545, 107.0365], [85.8149, 72.4109], [137.7965, 72.4177]]
    wanted = np.array([[x, camera.CROP_SIZE - 1 - v] for x, v in wanted])
    assert np.abs(mapped - wanted).mean() < 5
