"""Video and pictures in and out: time, colour, orientation, sound length, damage, refusal."""

import resource
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from data_process.video import ImageError, VideoError, VideoWriter, probe, read_frames, read_image, write_wav


def smooth_picture(width, height, seed=0):
    """Soft colours that survive 4:2:0 sampling."""
    small = np.random.default_rng(seed).integers(20, 236, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def grey_steps(n, size=32, step=4):
    """Frame i is grey of level 8 + step * i, so that a frame tells its own number."""
    return [np.full((size, size, 3), 8 + step * i, np.uint8) for i in range(n)]


def numbers(frames, step=4):
    return [round((float(frame.mean()) - 8) / step) for frame in frames]


def encode(path, frames, codec="libx264", rate=25, pts=None, time_base=None, rotation=None, aspect=None, options=None):
    """A video of a kind that VideoWriter does not make."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if time_base:
            stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[i], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write(path, frames, **options):
    with VideoWriter(path, **options) as video:
        for frame in frames:
            video.write(frame)
    return path


def sound_of(path):
    """(samples (C, N), rate) as decoded by FFmpeg."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], 1), stream.rate


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (256, 256), (640, 361), (4096, 24)])
def test_written_frames_come_back(tmp_path, size):
    width, height = size
    frames = [smooth_picture(width, height, seed) for seed in range(3) for _ in range(2)]
    back = list(read_frames(write(tmp_path / "a.mp4", frames, crf=4)))
    assert len(back) == len(frames)
    for written, read in zip(frames, back, strict=True):
        assert read.shape == (height + height % 2, width + width % 2, 3)
        assert np.abs(read[:height, :width].astype(float) - written).mean() < (8 if min(size) < 64 else 1.5)
        if width % 2:
            assert np.abs(read[:height, -1].astype(float) - written[:, -1]).mean() < 12


def test_mean_colour_survives_the_round_trip(tmp_path):
    frames = [smooth_picture(256, 192, seed) for seed in range(4) for _ in range(3)]
    back = np.stack(list(read_frames(write(tmp_path / "a.mp4", frames))))
    shift = back.reshape(len(back), -1, 3).mean(1) - np.stack(frames).reshape(len(frames), -1, 3).mean(1)
    assert np.abs(shift).max() < 1


def test_colours_are_bt709_limited_range_and_say_so(tmp_path):
    path = write(tmp_path / "a.mp4", [np.full((64, 64, 3), (200, 30, 60), np.uint8)] * 3)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        luma = next(container.decode(video=0)).to_ndarray()[:64]
    assert abs(luma.mean() - (16 + 219 / 255 * (0.2126 * 200 + 0.7152 * 30 + 0.0722 * 60))) < 1


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(0.2, 16000, 1), (1.3, 22000, 1), (3.0, 44100, 2)])
def test_sound_is_as_long_as_the_picture(tmp_path, seconds, rate, channels):
    wav = 0.3 * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * 440 / rate)
    wav = np.stack([wav] * channels, 1).squeeze().astype(np.float32)
    path = write(tmp_path / "a.mp4", grey_steps(40, step=1), audio=wav, sample_rate=rate)
    samples, rate_back = sound_of(path)
    info = probe(path)
    assert info.n_frames == 40 and info.has_audio and info.audio_start == 0
    assert 0 <= samples.shape[1] / rate_back - 40 / 25 < 1 / 25
    heard = np.abs(samples[0]) > 0.1
    assert abs(np.flatnonzero(heard)[-1] / rate_back - min(seconds, 1.6)) < 0.03  # silence follows a short sound


def test_sound_stays_in_time_with_the_picture(tmp_path):
    rate = 44100
    wav = np.zeros(2 * rate, np.float32)
    wav[rate : rate + 40] = 0.9
    source = tmp_path / "click.wav"
    write_wav(source, wav, rate)
    for audio in ({"audio": wav, "sample_rate": rate}, {"audio": source}):
        samples, back = sound_of(write(tmp_path / "a.mp4", grey_steps(50, step=2), **audio))
        assert abs(np.abs(samples[0]).argmax() / back - 1.0) < 0.002


def test_silent_sound_is_kept(tmp_path):
    path = write(tmp_path / "a.mp4", grey_steps(5), audio=np.zeros(3200, np.float32), sample_rate=16000)
    assert np.abs(sound_of(path)[0]).max() < 1e-3


def test_what_cannot_be_written_is_refused(tmp_path):
    frame = np.zeros((32, 32, 3), np.uint8)
    path = tmp_path / "a.mp4"
    with pytest.raises(VideoError, match="end the name with .mp4"):
        VideoWriter(tmp_path / "a.avi")
    with pytest.raises(VideoError, match="existing folder"):
        VideoWriter(tmp_path / "missing" / "a.mp4")
    with pytest.raises(VideoError, match="sample_rate"):
        VideoWriter(path, audio=np.zeros(100, np.float32))
    with pytest.raises(VideoError, match="int16"):
        VideoWriter(path, audio=np.zeros(100, np.int16), sample_rate=16000)
    with pytest.raises(VideoError, match="no sound"):
        VideoWriter(path, audio=write(tmp_path / "silent.mp4", [frame] * 2))
    for bad in (frame.astype(np.float32), frame[..., 0], frame[:8], frame[:, :, :2]):
        with pytest.raises(VideoError, match="needed"), VideoWriter(path) as video:
            video.write(bad)
    with pytest.raises(VideoError, match="frame 1 is 32x30"), VideoWriter(path) as video:
        video.write(frame)
        video.write(frame[:30])
    with pytest.raises(VideoError, match="no frame"), VideoWriter(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["silent.mp4"]


def test_an_error_while_writing_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="renderer"), VideoWriter(path) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError("renderer failed")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_full_disk_is_an_error_and_leaves_no_part(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # a file may not grow further, as on a full disk
    try:
        with pytest.raises(VideoError, match="disk full"):
            write(tmp_path / "a.mp4", noise, crf=10)
        with pytest.raises(VideoError, match="cannot write sound"):
            write_wav(tmp_path / "a.wav", np.zeros(50_000), 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [24, 25, 30, 50, Fraction(30000, 1001)])
def test_frames_are_chosen_by_time(tmp_path, rate):
    path = write(tmp_path / "a.mp4", grey_steps(58), fps=rate)
    assert numbers(read_frames(path)) == list(range(58))
    at_25 = numbers(read_frames(path, fps=25))
    expected = np.minimum(np.round(np.arange(len(at_25)) / 25 * float(rate)).astype(int), 57)
    assert at_25 == list(expected)
    assert abs(len(at_25) - 58 / rate * 25) <= 0.5


def test_variable_frame_rate_is_read_by_time(tmp_path):
    times = [0, 40, 190, 215, 230, 470]  # ms
    path = encode(tmp_path / "a.mkv", grey_steps(6, step=30), pts=times, time_base=Fraction(1, 1000))
    got = numbers(read_frames(path, fps=25, max_frames=12), step=30)
    assert got == [int(np.abs(np.array(times) - 40 * k).argmin()) for k in range(12)]


@pytest.mark.parametrize("start", [0.0, 0.6, 1.0, 3.2, 3.96])
def test_start_and_max_frames_cut_out_of_the_same_frames(tmp_path, start):
    path = write(tmp_path / "a.mp4", grey_steps(100, step=2))
    first = round(start * 25)
    assert numbers(read_frames(path, fps=25, start=start, max_frames=3), 2) == list(range(100))[first : first + 3]
    native = numbers(read_frames(path, start=start, max_frames=3), 2)
    assert native == list(range(100))[int(np.ceil(start * 25 - 1e-6)) :][:3]


def test_start_behind_the_end_is_an_error(tmp_path):
    path = write(tmp_path / "a.mp4", grey_steps(10))
    with pytest.raises(VideoError, match="earlier start"):
        list(read_frames(path, fps=25, start=2.0))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [("mpg", "mpeg1video", {}), ("avi", "mpeg4", {}), ("mp4", "libx265", {"x265-params": "log-level=none"}),
     ("webm", "libvpx", {}), ("mkv", "libsvtav1", {})],
)  # fmt: skip
def test_other_codecs(tmp_path, suffix, codec, options):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV was built without {codec}")
    frames = [smooth_picture(96, 64, seed) for seed in range(2) for _ in range(13)]
    path = encode(tmp_path / f"a.{suffix}", frames, codec, options=options | {"b": "2000000"})
    back = list(read_frames(path, fps=25))
    assert len(back) == len(frames)
    assert np.abs(np.stack(back).astype(float) - np.stack(frames)).mean() < 5
    assert probe(path).width == 96


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_undone(tmp_path, rotation):
    upright = smooth_picture(64, 96)
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    path = encode(tmp_path / "a.mp4", [stored] * 4, rotation=rotation, options={"crf": "4"})
    frame = next(read_frames(path))
    assert frame.shape == upright.shape and np.abs(frame.astype(float) - upright).mean() < 3
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (64, 96, rotation)


def test_the_matrix_of_a_phone_held_upright_turns_clockwise(tmp_path):
    stored = smooth_picture(96, 64)
    path = write(tmp_path / "a.mp4", [stored] * 2, crf=4)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version, times, track, duration, layer, volume come before it
    for row, words in enumerate([(0, 1 << 16, 0), (0xFFFF0000, 0, 0)]):
        data[matrix + 12 * row : matrix + 12 * row + 12] = b"".join(word.to_bytes(4, "big") for word in words)
    path.write_bytes(data)
    frame = next(read_frames(path))
    assert np.abs(frame.astype(float) - np.rot90(stored, -1)).mean() < 3


def test_pixels_are_made_square(tmp_path):
    path = encode(tmp_path / "a.mp4", [smooth_picture(48, 64)] * 2, aspect=Fraction(4, 3))
    assert next(read_frames(path)).shape == (64, 64, 3) and probe(path).width == 64


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_a_cut_file_gives_its_sound_part_and_then_an_error(tmp_path, suffix, share):
    noise = list(np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8))
    if suffix == "mp4":
        whole = write(tmp_path / "whole.mp4", noise)
    else:
        whole = encode(tmp_path / "whole.avi", noise, "mpeg4")
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    frames, good = [], list(read_frames(whole))
    with pytest.raises(VideoError, match=f"{path.name}.*intact copy"):
        for frame in read_frames(path):
            frames.append(frame)
    assert 1 <= len(frames) < 50 and abs(len(frames) / 50 - share) < 0.25
    assert all(np.array_equal(frame, same) for frame, same in zip(frames, good, strict=False))
    assert len(list(read_frames(path, partial=True))) == len(frames)


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    headless = write(tmp_path / "whole.mp4", grey_steps(20)).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(headless[100:])
    write_wav(tmp_path / "sound.wav", np.zeros(1600), 16000)
    for name in ("missing.mp4", "empty.mp4", "text.mp4", "headless.mp4", "sound.wav"):
        for call in (probe, lambda path: list(read_frames(path))):
            with pytest.raises(VideoError, match=name):
                call(tmp_path / name)


def test_reading_and_writing_keep_memory_flat(tmp_path):
    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    frame, marks = smooth_picture(320, 240), []
    with VideoWriter(tmp_path / "a.mp4", audio=np.zeros(16000 * 40, np.float32), sample_rate=16000) as video:
        for i in range(900):
            video.write(np.roll(frame, i, 1))
            marks += [resident()] if i in (200, 899) else []
    for i, _ in enumerate(read_frames(tmp_path / "a.mp4", fps=25)):
        marks += [resident()] if i in (200, 899) else []
    assert marks[1] - marks[0] < 30e6 and marks[3] - marks[2] < 30e6  # 700 frames kept would be 161 MB


def test_read_image_of_every_kind(tmp_path):
    colour = smooth_picture(40, 30)
    grey = colour[..., 0]
    alpha = np.zeros((30, 40), np.uint8)
    alpha[:, 20:] = 255
    files = {
        "colour.png": colour[..., ::-1], "grey.png": grey, "rgba.png": np.dstack([colour[..., ::-1], alpha]),
        "deep.png": colour[..., ::-1].astype(np.uint16) * 257, "deep_grey.png": grey.astype(np.uint16) * 257,
        "deep.tiff": colour[..., ::-1].astype(np.uint16) * 257, "colour.webp": colour[..., ::-1],
    }  # fmt: skip
    for name, array in files.items():
        assert cv2.imwrite(str(tmp_path / name), array)
    for name in files:
        expected = np.repeat(grey[..., None], 3, 2) if "grey" in name else colour
        image = read_image(tmp_path / name)
        assert image.shape == (30, 40, 3) and image.dtype == np.uint8
        if name == "rgba.png":
            assert (image[:, :20] == 255).all() and np.array_equal(image[:, 20:], colour[:, 20:])
        else:
            assert np.abs(image.astype(int) - expected).max() <= (30 if name.endswith("webp") else 1), name


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_turn_is_applied(tmp_path, orientation, turns):
    stored = smooth_picture(64, 48)
    jpeg = cv2.imencode(".jpg", stored[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    image = read_image(tmp_path / "a.jpg")
    expected = np.rot90(stored, turns)
    assert image.shape == expected.shape and np.abs(image.astype(float) - expected).mean() < 3


def test_a_video_gives_its_first_frame_as_picture(tmp_path):
    path = write(tmp_path / "a.mp4", grey_steps(5, step=40))
    assert abs(read_image(path).mean() - 8) < 2


def test_files_that_are_no_picture(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("missing.png", "empty.png", "text.jpg"):
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)


def test_real_clips(media):
    clips = {"GRID__brbk7n.mpg": 75, "SadTalker__WDA_BobMenendez_000.mp4": 200, "LatentSync__demo1_video.mp4": 40,
             "styletalk__feifeili_clip3.mp4": 177}  # fmt: skip
    for name, n_frames in clips.items():
        info = probe(media / "clips" / name)
        count = 0
        for frame in read_frames(media / "clips" / name, fps=25, max_frames=40 if "Latent" in name else None):
            assert frame.shape == (info.height, info.width, 3)
            count += 1
        assert count == n_frames, name
