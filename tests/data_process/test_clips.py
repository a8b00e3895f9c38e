"""Raw videos to clips: rendered heads in, files and reasons out."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import soundfile

from data_process import clips, sound_quality
from data_process.clips import ClipsError, find_videos, main, make_jobs, read_shifts, run
from data_process.cutting import CutSettings, load_landmarks
from data_process.face_tracks import landmarker
from data_process.ledger import read_ledger
from data_process.segments import Rules
from data_process.video import probe, read_frames, write_wav
from deepspeech.lip_sync import SyncResult
from tests.data_process import made

SHORT = CutSettings(rules=Rules(min_s=0.4, min_face_px=48))


@pytest.fixture(scope="session")
def talk(tmp_path_factory):
    """1.2 s of a talking head at 25 fps with sound."""
    path = tmp_path_factory.mktemp("raw") / "talk.mp4"
    return made.write_video(path, made.head_frames(30, (260, 240), 80), seconds_of_sound=1.2)


def cut(path, output, settings=SHORT, shifts=None, **keywords):
    """Cut a file or folder -> its ledger entries."""
    jobs = make_jobs(find_videos([path]), output, settings, shifts or {})
    return run(jobs, output, progress=False, **keywords)[0]


def test_a_clip_is_whole_and_its_landmarks_lie_on_its_own_pixels(talk, tmp_path):
    entry = cut(talk, tmp_path)["talk"]
    assert (entry["status"], entry["notes"]) == ("accepted", [])
    info, (wav, rate) = probe(tmp_path / "talk.mp4"), soundfile.read(tmp_path / "talk.wav")
    assert (info.n_frames, info.fps, rate, wav.shape) == (30, 25, 16000, (30 * 640,))
    assert info.width == info.height == entry["clips"][0]["crop"][2] < 240
    stored, again = (
        load_landmarks(tmp_path / "talk.landmarks.npz"),
        landmarker().track(read_frames(tmp_path / "talk.mp4")),
    )
    assert np.abs(stored.points[..., :2] - again.points[..., :2]).mean() < 0.6
    assert json.loads((tmp_path / "talk.json").read_text())["source"].endswith("talk.mp4")
    assert not list(tmp_path.glob(".part*"))


@pytest.mark.parametrize("size", [128, 256])
def test_a_given_size_scales_picture_and_landmarks_alike(talk, tmp_path, size):
    settings = CutSettings(size=size, rules=SHORT.rules)
    clip = cut(talk, tmp_path, settings)["talk"]["clips"][0]
    assert probe(tmp_path / "talk.mp4").width == size
    stored, again = (
        load_landmarks(tmp_path / "talk.landmarks.npz"),
        landmarker().track(read_frames(tmp_path / "talk.mp4")),
    )
    assert np.abs((stored.points - again.points)[..., :2].mean((0, 1))).max() < 0.6 * size / clip["crop"][2]
    assert stored.frame_size == (size, size)


def test_the_full_frame_can_be_kept(talk, tmp_path):
    cut(talk, tmp_path, CutSettings(crop="none", rules=SHORT.rules))
    info = probe(tmp_path / "talk.mp4")
    assert (info.width, info.height) == (260, 240)


def test_another_rate_is_resampled_and_told(tmp_path):
    made.write_video(tmp_path / "fast.mp4", made.head_frames(36), fps=30, seconds_of_sound=1.2)
    entry = cut(tmp_path / "fast.mp4", tmp_path / "out")["fast"]
    assert entry["status"] == "repaired" and "30 to 25 fps" in entry["notes"][0]
    assert probe(tmp_path / "out" / "fast.mp4").n_frames == 30


def rejected(frames, tmp_path, seconds=1.0, settings=SHORT):
    made.write_video(tmp_path / "x.mp4", frames, seconds_of_sound=seconds)
    entry = cut(tmp_path / "x.mp4", tmp_path / "out", settings)["x"]
    assert entry["status"] == "rejected" and entry["clips"] == [] and not list((tmp_path / "out").glob("x*"))
    return entry["reason"]


def test_no_face(tmp_path):
    assert "no face" in rejected([np.full((120, 160, 3), 90, np.uint8)] * 15, tmp_path)


def test_a_face_of_40_px(tmp_path):
    assert "face too small" in rejected(made.head_frames(15, face_px=44), tmp_path)


def test_too_short(tmp_path):
    assert "0.32 s, 0.4 s needed" in rejected(made.head_frames(8), tmp_path)


def test_two_faces(tmp_path):
    pair = [np.concatenate([f, f], 1) for f in made.head_frames(15, (160, 160), 80)]
    assert "several faces" in rejected(pair, tmp_path)
    settings = CutSettings(several_faces="largest", rules=SHORT.rules)
    entry = cut(tmp_path / "x.mp4", tmp_path / "largest", settings)["x"]
    assert len(entry["clips"]) == 1


def test_no_sound_and_silent_sound(tmp_path):
    (tmp_path / "raw").mkdir()
    made.write_video(tmp_path / "raw" / "mute.mp4", made.head_frames(15))
    made.write_video(tmp_path / "raw" / "zeros.mp4", made.head_frames(15, centre=(118, 100)))
    write_wav(tmp_path / "raw" / "zeros.wav", np.zeros(9600), 16000)
    entries = cut(tmp_path / "raw", tmp_path / "out")
    assert "no sound" in entries["mute"]["reason"] and "silence" in entries["zeros"]["reason"]
    allowed = cut(tmp_path / "raw", tmp_path / "silent", CutSettings(allow_silent=True, rules=SHORT.rules))
    assert all(len(entry["clips"]) == 1 for entry in allowed.values())
    wav, _ = soundfile.read(tmp_path / "silent" / "mute.wav")
    assert wav.shape == (15 * 640,) and not wav.any()


def test_a_wav_of_the_same_name_gives_the_sound(tmp_path):
    made.write_video(tmp_path / "mute.mp4", made.head_frames(15))
    write_wav(tmp_path / "mute.wav", made.tone(0.6, 44100), 44100)
    entry = cut(tmp_path / "mute.mp4", tmp_path / "out")["mute"]
    assert entry["notes"] == ["sound from the wav of the same name"]
    wav, _ = soundfile.read(tmp_path / "out" / "mute.wav")
    assert np.abs(wav - made.tone(0.6)).max() < 0.01


@pytest.mark.parametrize(("shift_ms", "n_frames", "click_frame"), [(0, 30, 15), (200, 25, 10), (-200, 25, 15)])
def test_a_known_lag_of_the_sound_is_taken_out(tmp_path, shift_ms, n_frames, click_frame):
    """A click at frame 15; without sound at the end (or start), frames go too, 0.1 s of silence is filled in."""
    made.write_video(tmp_path / "late.mp4", made.head_frames(30))
    sound = np.zeros(30 * 640)
    sound[15 * 640] = 0.9
    write_wav(tmp_path / "late.wav", sound, 16000)
    entry = cut(tmp_path / "late.mp4", tmp_path / "out", shifts={"late": shift_ms})["late"]
    wav, _ = soundfile.read(tmp_path / "out" / "late.wav")
    filled = 2 if shift_ms > 0 else 0
    assert entry["clips"][0]["n_frames"] == n_frames + filled and len(wav) == (n_frames + filled) * 640
    assert np.argmax(wav) == click_frame * 640


def test_stretches_after_a_rejected_one_are_kept(tmp_path):
    """Two shots of one video with 0.2 s of another picture between them."""
    grey = [np.full((200, 240, 3), 30, np.uint8)] * 8
    one, two = made.head_frames(15), made.head_frames(20, centre=(150, 95), background=(200, 60, 60))
    made.write_video(tmp_path / "shots.mp4", [*one, *grey, *two], seconds_of_sound=43 / 25)
    entry = cut(tmp_path / "shots.mp4", tmp_path / "out")["shots"]
    assert [clip["name"] for clip in entry["clips"]] == ["shots_00", "shots_01"]
    assert [clip["n_frames"] for clip in entry["clips"]] == [15, 20]
    wav, _ = soundfile.read(tmp_path / "out" / "shots_01.wav")
    expected = made.tone(43 / 25)[23 * 640 :]
    assert np.corrcoef(wav, expected)[0, 1] > 0.98, "the second clip must have its own part of the sound"
    first = next(read_frames(tmp_path / "out" / "shots_01.mp4"))
    assert first[2, 2, 0] > 150 > first[2, 2, 1], "and its own part of the picture"


def test_a_truncated_file_gives_what_it_has(talk, tmp_path):
    frames = list(made.head_frames(60))
    made.write_video(tmp_path / "long.mp4", frames, seconds_of_sound=2.4)
    data = (tmp_path / "long.mp4").read_bytes()
    (tmp_path / "long.mp4").write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "stub.mp4").write_bytes(data[:200])
    entry = cut(tmp_path / "long.mp4", tmp_path / "out")["long"]
    assert entry["status"] == "repaired" and any("damaged" in note for note in entry["notes"])
    assert 10 <= entry["clips"][0]["n_frames"] < 60
    assert "unreadable" in cut(tmp_path / "stub.mp4", tmp_path / "out")["stub"]["reason"]


def test_copies_are_named_and_left_out(talk, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (raw / name).write_bytes(talk.read_bytes())
    entries = cut(raw, tmp_path / "out")
    assert entries["a"]["status"] == "accepted" and entries["b"]["reason"] == "same content as a"
    (raw / "a.mp4").unlink()
    assert cut(raw, tmp_path / "out")["b"]["status"] == "accepted"


def test_names_of_different_folders_stay_apart(tmp_path):
    for folder in ("s1", "s2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.mp4").write_bytes(folder.encode())
    (tmp_path / "s1" / "same.avi").write_bytes(b"x")
    assert list(find_videos([tmp_path])) == ["s1__same", "s1__same_mp4", "s2__same"]
    with pytest.raises(ClipsError, match="no such file"):
        find_videos([tmp_path / "absent"])


def test_what_is_done_is_not_done_again(talk, tmp_path, monkeypatch):
    cut(talk, tmp_path)
    monkeypatch.setattr(clips, "cut_video", lambda job: pytest.fail("cut again"))
    assert cut(talk, tmp_path)["talk"]["status"] == "accepted"
    monkeypatch.undo()
    written = (tmp_path / "talk.mp4").stat().st_mtime_ns
    cut(talk, tmp_path, CutSettings(size=96, rules=SHORT.rules))
    assert (tmp_path / "talk.mp4").stat().st_mtime_ns != written, "other settings, other clip"
    strict = CutSettings(rules=Rules(min_s=5))
    assert cut(talk, tmp_path, strict)["talk"]["status"] == "rejected"
    assert not (tmp_path / "talk.mp4").exists(), "a clip that its video no longer gives must go"


def test_ctrl_c_loses_nothing_that_was_done(talk, tmp_path, monkeypatch):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for k in range(3):
        made.write_video(raw / f"v{k}.mp4", made.head_frames(15 + k), seconds_of_sound=0.6 + k / 25)
    real, seen = clips.cut_video, []

    def interrupted(job):
        seen.append(job.name)
        if job.name == "v1" and len(seen) == 2:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(clips, "cut_video", interrupted)
    arguments = ["--input", str(raw), "--output", str(out), "--min_seconds", "0.4", "--min_face", "48"]
    assert main(arguments) == 130
    assert list(read_ledger(out)) == ["v0"]
    with open(out / "report.jsonl", "a") as report:
        report.write('{"name": "v1", "key": "half a li')  # as a crash in the middle of a line leaves it
    assert main(arguments) == 0
    assert seen == ["v0", "v1", "v1", "v2"]
    assert [entry["name"] for entry in map(json.loads, (out / "report.jsonl").read_text().splitlines())] == [
        "v0",
        "v1",
        "v2",
    ]
    assert "3 videos: 3 accepted" in (out / "report.txt").read_text()


@pytest.fixture(scope="module")
def turning():
    """60 frames of a head, the whole picture moving in a circle, so that every frame differs well from the next."""
    angles = np.arange(60) / 6
    head = list(made.head_frames(60, (260, 240), 110, background=(20, 90, 160)))
    moves = [np.float32([[1, 0, 12 * np.cos(a)], [0, 1, 12 * np.sin(a)]]) for a in angles]
    return [cv2.warpAffine(f, m, (260, 240), borderMode=cv2.BORDER_REPLICATE) for f, m in zip(head, moves, strict=True)]


def test_copied_frames_are_rejected_or_only_told(turning, tmp_path):
    shown = [t - (t in (11, 20, 30, 31, 40, 50)) - (t == 31) for t in range(60)]
    made.write_video(tmp_path / "copies.mp4", [turning[t] for t in shown], seconds_of_sound=2.4)
    entry = cut(tmp_path / "copies.mp4", tmp_path / "out")["copies"]
    assert entry["status"] == "rejected" and "repeat the one before" in entry["reason"] and entry["clips"] == []
    assert entry["found"] == ["doubled_frames"] and set(entry["quality"]["repeats"]) <= {11, 20, 30, 31, 40, 50}
    told = cut(tmp_path / "copies.mp4", tmp_path / "told", CutSettings(rules=SHORT.rules, quality="report"))["copies"]
    assert told["status"] == "accepted" and "repeat the one before" in told["warnings"][0] and len(told["clips"]) == 1
    assert "Warnings" in (tmp_path / "told" / "report.txt").read_text()


def test_copies_put_in_by_a_conversion_are_read_past(turning, tmp_path):
    """25 fps stored as 30: every sixth picture is a copy; the clip shows each real picture once."""
    stored = [turning[t * 25 // 30] for t in range(72)]
    made.write_video(tmp_path / "tv.mp4", stored, fps=30, seconds_of_sound=2.4)
    entry = cut(tmp_path / "tv.mp4", tmp_path / "out")["tv"]
    assert entry["status"] == "repaired" and "every 6th picture is a copy" in " ".join(entry["notes"])
    frames = np.stack(list(read_frames(tmp_path / "out" / "tv.mp4"))).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert len(frames) in (59, 60) and steps[3:].min() > 0.3 * np.median(steps)


def test_a_blurred_face_is_rejected_with_its_detail(turning, tmp_path):
    made.write_video(
        tmp_path / "soft.mp4", [cv2.GaussianBlur(f, (0, 0), 5) for f in turning[:20]], seconds_of_sound=0.8
    )
    entry = cut(tmp_path / "soft.mp4", tmp_path / "out")["soft"]
    assert entry["status"] == "rejected" and "shows the detail of one of" in entry["reason"]


def test_a_measured_offset_is_taken_out_told_or_ignored(talk, tmp_path, monkeypatch):
    """The probe is given: its own tests are elsewhere."""
    late = SyncResult(4.0, 0.99, 0.5, np.zeros(31), 30, 0)
    monkeypatch.setattr(sound_quality, "probe", lambda: SimpleNamespace(measure=lambda *a: late))
    entries = {}
    for offset in ("repair", "report", "ignore"):
        settings = CutSettings(rules=SHORT.rules, offset=offset)
        entries[offset] = cut(talk, tmp_path / offset, settings)["talk"]
    assert "4.0 frames later" in entries["repair"]["notes"][0] and entries["repair"]["status"] == "repaired"
    assert entries["report"]["notes"] == [] and "4.0 frames later" in entries["report"]["warnings"][0]
    assert entries["ignore"]["warnings"] == [] and entries["ignore"]["quality"]["sound_offset_frames"] == 4
    before, after = (soundfile.read(tmp_path / offset / "talk.wav")[0] for offset in ("ignore", "repair"))
    shared = len(after) - 3 * 640
    assert np.abs(before[4 * 640 :][:shared] - after[:shared]).max() < 1e-3
    given = cut(talk, tmp_path / "given", shifts={"talk": 40})["talk"]
    assert "moved 40 ms earlier" in given["notes"][0] and len(given["notes"]) == 1 and given["warnings"]


def test_the_command_says_what_is_wrong(talk, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--input", str(talk), "--output", str(tmp_path / "file")]) == 1
    assert main(["--input", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "no video found" in capsys.readouterr().err
    assert main(["--input", str(talk), "--output", str(tmp_path / "out"), "--shift_ms", "tlak=40"]) == 1
    assert "tlak" in capsys.readouterr().err
    assert main(["--input", str(talk), "--output", str(tmp_path / "out"), "--min_seconds", "9"]) == 1
    assert "too short: 1.20 s, 9 s needed" in capsys.readouterr().out


def test_shifts_from_the_command_line_and_from_a_table(tmp_path):
    table = tmp_path / "shifts.csv"
    table.write_text("name,ms\na,120\nb,-40\n")
    assert read_shifts(["b=80", "c=d=5.5"], table) == {"a": 120, "b": 80, "c=d": 5.5}
    table.write_text("clip,ms\na,120\n")
    with pytest.raises(ClipsError, match="columns name and ms"):
        read_shifts([], table)
    with pytest.raises(ClipsError, match="NAME=milliseconds"):
        read_shifts(["a=fast"], None)


@pytest.mark.parametrize("name", ["GRID__brbk7n.mpg", "styletalk__feifeili_clip3.mp4"])
def test_real_footage(media, tmp_path, name):
    entry = next(iter(cut(media / "clips" / name, tmp_path, CutSettings()).values()))
    assert entry["tracked"] == 1 and len(entry["clips"]) == 1
    frame = next(read_frames(tmp_path / (entry["name"] + ".mp4")))
    assert cv2.Laplacian(frame, cv2.CV_64F).var() > 5


def test_files_of_others_are_not_overwritten(talk, tmp_path):
    """Neither a video beside which the clips go, nor the clips of another video of the same name."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "talk.mp4").write_bytes(talk.read_bytes())
    entry = cut(here / "talk.mp4", here)["talk"]
    assert entry["status"] == "rejected" and "another output folder" in entry["reason"]
    assert (here / "talk.mp4").read_bytes() == talk.read_bytes()
    assert not list(here.glob(".part*")) and not (here / "talk.json").exists()
    cut(talk, tmp_path / "out")
    before = (tmp_path / "out" / "talk.mp4").read_bytes()
    with pytest.raises(ClipsError, match="another output folder"):
        cut(here / "talk.mp4", tmp_path / "out")
    assert (tmp_path / "out" / "talk.mp4").read_bytes() == before


def test_a_run_killed_while_it_names_its_files_goes_on(talk, tmp_path):
    cut(talk, tmp_path)
    (tmp_path / "talk.json").rename(tmp_path / "talk.json.part")
    (tmp_path / "talk.wav").unlink()
    (tmp_path / "report.jsonl").unlink()
    assert cut(talk, tmp_path)["talk"]["status"] == "accepted"
    assert (tmp_path / "talk.wav").is_file() and not (tmp_path / "talk.json.part").exists()
