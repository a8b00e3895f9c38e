"""The whole command on tiny stores: rows, seeds, sources, resuming, refusals, the page; once with video."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from configs import ConfigError, load
from configs.evaluation import EncodingConfig, EvaluateConfig
from data_process.build_lmdb import build, find_clips
from deepspeech import SAMPLE_RATE
from models.style import STYLE_PARTS, Style
from scripts import evaluate
from scripts.evaluation import page, pictures, plots, report, run, seen, sets
from scripts.evaluation.lines import read
from scripts.evaluation.sources import ProtocolError
from scripts.evaluation.units import METRICS, SET_CLIP
from tests.data_process import made
from tests.scripts.evaluation_world import FOUR_CLIPS, store

CHECKPOINT = Path(__file__).parents[2] / "data/checkpoints/default"
SECTIONS = ("summary", "counts", "openings", "offsets", "visemes", "closures", "head", "styles", "worst", "motion", "strata", "seeds",
            "failures", "meanings")  # fmt: skip


@pytest.fixture(scope="module")
def lmdb(tmp_path_factory):
    return store(tmp_path_factory.mktemp("evaluate") / "lmdb", FOUR_CLIPS)


@pytest.fixture(scope="module")
def done(lmdb):
    """Output folder of the plain old command: motion only."""
    output = lmdb.parent / "out"
    evaluate.main(["--lmdb", str(lmdb), "--checkpoint_dir", str(CHECKPOINT), "--output", str(output)])
    return output


def settings(lmdb, output, *overrides):
    fixed = [f"store={lmdb}", f"output={output}", f"checkpoint={CHECKPOINT}", "video=false"]
    return load(None, fixed + list(overrides), EvaluateConfig)


def refuses(*argv):
    """What the user reads when the command refuses."""
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(a) for a in argv])
    return str(stop.value.code)


def test_every_clip_row_and_seed_has_its_line(done):
    lines = [line for line in read(done / "metrics.jsonl") if line["clip"] != SET_CLIP]
    keys = {(line["clip"], line["row"], line["seed"]) for line in lines}
    clips, generated = ("a2", "b2", "c1"), ("generated", "other style", "mean style")
    once = ("real", "rest", "jaw by energy", "ridge")
    assert keys == {(c, r, s) for c in clips for r in generated for s in (0, 1, 2)} | {
        (c, r, 0) for c in clips for r in once
    }
    assert len(lines) == len(keys) and not any("failure" in line for line in lines)


def test_lines_say_where_style_and_window_are(done):
    lines = {(x["clip"], x["row"], x["seed"]): x for x in read(done / "metrics.jsonl")}
    assert (
        lines["a2", "generated", 0]["style"] == "train/a1[0:60]"
        and lines["a2", "generated", 0]["window"] == "test/a2[0:50]"
    )
    assert (
        lines["c1", "generated", 1]["style"] == "test/c1[0:40]"
        and lines["c1", "generated", 1]["window"] == "test/c1[40:80]"
    )
    assert lines["a2", "other style", 0]["style"].startswith("bela: ")
    assert (lines["b2", "real", 0]["frames"], lines["b2", "real", 0]["skipped_frames"]) == (48, 2)
    assert lines["c1", "real", 0]["language"] == "Dutch"


def test_motion_metrics_make_sense(done):
    lines = [x for x in read(done / "metrics.jsonl") if x["clip"] != SET_CLIP]
    rest = [x for x in lines if x["row"] == "rest"]
    assert all(x["opening_ratio"] < 0.01 and x["lve_mm"] > 0 and "pose_deg" not in x for x in rest)
    real = [x for x in lines if x["row"] == "real"]
    assert all("lve_mm" not in x and "style_r1" in x for x in real)
    unknown = {k for x in lines for k in x} - set(METRICS) - {
        "clip", "row", "seed", "speaker", "language", "emotion", "window", "style", "phones", "frames", "skipped_frames", "viseme_mm",
        "style_rank",
    }  # fmt: skip
    assert not unknown, "every number has its unit and direction"
    sets_of = {x["row"]: x for x in read(done / "metrics.jsonl") if x["clip"] == SET_CLIP and x["seed"] == 0}
    assert sets_of["rest"]["frechet_motion"] > sets_of["real"]["frechet_motion"]


def test_steering_seeds_and_sets_are_measured_once_for_all_clips(done):
    of_set = {(x["row"], x["seed"]): x for x in read(done / "metrics.jsonl") if x["clip"] == SET_CLIP}
    steering = {"strength_rank", "strength_gain", "blend_bend", "content_share", "seed_head_deg", "seed_lips_mm"}
    assert steering <= set(of_set["generated", 0]) and not steering & set(of_set["generated", 1])
    assert of_set["rest", 0]["frechet_lips"] > of_set["real", 0]["frechet_lips"] >= 0


def test_numbers_of_a_style_that_nobody_uses_are_not_blown_up():
    parts = dict(zip(STYLE_PARTS, ([0.0, 0.0], [0.0, 0.0], [0.0], [0.0], [0.0, 0.0]), strict=True))
    std = np.array([3.0, 0.0, 0.4, 0.3, 1.0, 2.0, 0.0, 0.0])
    least = run.least_std(std, Style(parts))
    part, change = run.LEAST_STD * np.sqrt(9 / 2), run.LEAST_STD * np.sqrt(0.25 / 2)
    assert least == pytest.approx([part, part, change, change, run.LEAST_STD, 2 * run.LEAST_STD, 0, 0])


def test_running_again_computes_nothing(done, lmdb, monkeypatch):
    before = (done / "metrics.jsonl").read_text()

    def computed(*_):
        raise AssertionError("a finished line was computed again")

    monkeypatch.setattr(run, "measure_motion", computed)
    run.evaluate(settings(lmdb, done))
    assert (done / "metrics.jsonl").read_text() == before


def test_a_broken_run_goes_on_and_ends_in_the_same_lines(done, lmdb, tmp_path):
    output = shutil.copytree(done, tmp_path / "out")
    lines = (output / "metrics.jsonl").read_text().splitlines(keepends=True)
    (output / "metrics.jsonl").write_text("".join(lines[:7]) + lines[7][:40])
    run.evaluate(settings(lmdb, output))
    assert (output / "metrics.jsonl").read_text() == "".join(lines)


def test_other_settings_need_another_folder(done, lmdb):
    with pytest.raises(ProtocolError, match="seeds.*another output"):
        run.evaluate(settings(lmdb, done, "seeds=[5]"))
    run.open_folder(done, settings(lmdb, done, "report.worst=1"), *_facts(done))


def _facts(folder):
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(folder / "settings.yaml"))
    return content["facts"], content["about"]


def test_the_page_is_one_file_without_the_net_and_has_all_sections(done):
    text = (done / "report.html").read_text()
    assert not re.search(r"""(?:src|href|url|@import)\s*[=(]?\s*["']?\s*(?:https?:)?//""", text)
    assert not re.search(r"<script|<link|<iframe", text)
    assert all(f'<section id="{name}">' in text and f'href="#{name}"' in text for name in SECTIONS)
    assert text.count("data:image/svg+xml;base64,") >= 6
    assert all(unit["label"] in text for unit in json.loads((done / "summary.json").read_text())["units"].values())


def test_markup_in_names_stays_text():
    text = page.document("<b>", ("`<i>`",), [("a", "<u>", "&", "<p>fine</p>"), ("empty", "never", "shown", "")])
    assert "<b>" not in text and "<u>" not in text and "<code>&lt;i&gt;</code>" in text and "never" not in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["skip=[lve]"], ["lve", "lve_mm"]),
        (["report.worst_by=beauty"], ["beauty"]),
        (["rows=[ceiling]"], ["ceiling", "other style", "always there"]),
        (["baselines=[magic]"], ["magic", "ridge"]),
        (["video=true", "judges=[oracle]"], ["video"]),
        (["video=true"], ["no video record", "video=false"]),
        (["seeds=[]"], ["seeds"]),
        (["clps=3"], ["clps", "did you mean clips?"]),
        (["split=val"], ["val", "no clip"]),
        (["checkpoint=nowhere"], ["nowhere"]),
        (["style.other=absent.json"], ["absent.json"]),
    ],
)
def test_wrong_settings_are_refused_in_words(lmdb, tmp_path, overrides, words):
    message = refuses("--lmdb", lmdb, "--checkpoint_dir", CHECKPOINT, "--output", tmp_path / "o", *overrides)
    assert all(word in message for word in words), message
    assert not (tmp_path / "o").exists()


def test_a_missing_store_and_an_unknown_judge(tmp_path):
    assert "no LMDB store" in refuses("--lmdb", tmp_path / "absent", "--output", tmp_path / "o")
    with pytest.raises(ProtocolError, match="oracle.*use these names"):
        run.seen.open_judges(["oracle"])


def test_places_and_checkpoints_that_do_not_fit(lmdb, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file: is a file, the name of a folder" in refuses("--lmdb", lmdb, "--output", tmp_path / "file")
    meshes = CHECKPOINT.parent / "talking_style"
    message = refuses("--lmdb", lmdb, "--checkpoint_dir", meshes, "--output", tmp_path / "o")
    assert "holds talking_style, which takes no style" in message


def test_flags_override_the_file_and_settings_override_flags(tmp_path):
    (tmp_path / "e.yaml").write_text("store: a\nsplit: val\nclips: 4\n")
    config = evaluate.parse(["--config", str(tmp_path / "e.yaml"), "--lmdb", "b", "seeds=[7]", "split=train"])
    assert (config.store, config.split, config.clips, config.seeds, config.video) == ("b", "train", 4, [7], True)
    assert evaluate.parse(["--lmdb", "b", "--output", "o"]).video is False
    with pytest.raises(ConfigError, match="renderer.seeds"):
        evaluate.parse(["--lmdb", "b", "renderer.seeds=9"])


def test_skipped_metrics_are_absent(lmdb, tmp_path):
    few = ("clips=1", "seeds=[0]", "rows=[]", "baselines=[rest]", "skip=[lve_mm,frechet_motion]")
    folder = run.evaluate(settings(lmdb, tmp_path / "o", *few))
    lines = read(folder / "metrics.jsonl")
    assert {x["row"] for x in lines} == {"real", "generated", "rest"}
    assert not any("lve_mm" in x or "frechet_motion" in x for x in lines) and any("mve_mm" in x for x in lines)


def test_a_clip_without_a_face_is_a_counted_failure(tmp_path):
    clips = [("a1", "train", "a", 50), ("a2", "test", "a", 50), ("a3", "test", "a", 50, {"invalid": range(50)})]
    lmdb = store(tmp_path / "s", clips)
    few = ("seeds=[0]", "rows=[]", "baselines=[rest]")
    evaluate.main(["--lmdb", str(lmdb), "--checkpoint_dir", str(CHECKPOINT), "--output", str(tmp_path / "o"), *few])
    failed = [x for x in read(tmp_path / "o" / "metrics.jsonl") if "failure" in x]
    assert {x["clip"] for x in failed} == {"a3"} and "no face" in failed[0]["failure"]
    found = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert found["counts"]["generated"]["failures"] == 1 and found["rows"]["generated"]["lve_mm"]["clips"] == 1
    assert "a3" in (tmp_path / "o" / "report.html").read_text()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A store with video: a drawn head that opens its jaw, in two clips."""
    folder = tmp_path_factory.mktemp("filmed")
    (folder / "clips").mkdir()
    for name, yaw in (("one", 0.0), ("two", 0.05)):
        made.write_video(folder / "clips" / f"{name}.mp4", made.head_frames(30, yaw=yaw))
        soundfile.write(folder / "clips" / f"{name}.wav", made.tone(1.2), SAMPLE_RATE, subtype="PCM_16")
    split_of = {"one": "train", "two": "test"}
    build(find_clips(folder / "clips"), folder / "lmdb", split_of, dict.fromkeys(split_of, "head"), progress=False)
    return folder / "lmdb"


def test_with_video_the_three_rows_are_drawn_encoded_and_seen(filmed, tmp_path):
    few = ["video=true", "seeds=[0,1,2]", "rows=[]", "baselines=[rest]", "renderer.size=128", "report.keep_videos=true"]
    fixed = [f"store={filmed}", f"output={tmp_path / 'o'}", f"checkpoint={CHECKPOINT}"]
    evaluate.main(fixed + few)
    lines = {(x["row"], x["seed"]): x for x in read(tmp_path / "o" / "metrics.jsonl") if x["clip"] != SET_CLIP}
    assert not any("failure" in x for x in lines.values())
    drawn = [lines[key] for key in (("real", 0), ("re-rendered", 0), ("generated", 0))]
    for line in drawn:
        assert (
            line["video_frames"] == 30
            and line["identity"].startswith("train/one[")
            and line["window"] == "test/two[0:30]"
        )
        assert line["frames_without_face"] == 0 and np.isfinite(line["sync_confidence"])
    real, again, generated = drawn
    assert real["psnr_face"] > again["psnr_face"] > 15 and real["ssim_face"] > again["ssim_face"]
    assert 0 < real["cpbd"] <= 1 and real["temporal_face"] < again["temporal_face"] and real["colour_face"] < 1
    assert "lmd" not in real and again["video_opening_correlation"] > 0.9
    assert again["lmd_shape"] < generated["lmd_shape"]
    assert "psnr_face" not in lines["generated", 1] and "psnr_face" not in lines["rest", 0], "one seed is drawn"
    page_text = (tmp_path / "o" / "report.html").read_text()
    assert page_text.count("data:image/jpeg;base64,") == 3 and '<section id="video">' in page_text
    assert sorted(p.name.split("__")[1] for p in (tmp_path / "o" / "videos").glob("*.mp4")) == [
        "generated",
        "re-rendered",
        "real",
    ]
    encoding = _facts(tmp_path / "o")[0]["encoding_used"]
    assert encoding["crf"] == 18 and len(encoding["hash"]) == 12


def test_the_hash_of_the_encoding_follows_its_settings():
    hashes = {
        pictures.encoding_facts(EncodingConfig(crf, preset))["hash"]
        for crf in (18, 23)
        for preset in ("fast", "veryfast")
    }
    assert len(hashes) == 4


def test_the_same_frames_encode_to_the_same_pictures(tmp_path):
    frames = list(made.head_frames(4))
    for name in ("a", "b"):
        pictures.encode(tmp_path / f"{name}.mp4", frames, made.tone(0.16), EncodingConfig(), True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert b"synthetic video" in (tmp_path / "a.mp4").read_bytes()


def test_lids_are_seen_to_shut():
    points = np.tile(np.random.default_rng(0).normal(100, 1, (68, 2)), (30, 1, 1))
    for (outer, inner), lids in zip(seen.EYE_CORNERS, seen.LIDS, strict=True):
        points[:, outer], points[:, inner] = (0, 0), (30, 0)
        for upper, lower in lids:
            points[:, upper], points[:, lower] = (15, -5), (15, 5)
            points[10:14, upper] = points[10:14, lower] = (15, 0)
    closure = seen.lid_closure(points, np.ones(30, bool))
    assert (closure[10:14] == 1).all() and np.abs(np.delete(closure, range(10, 14))).max() < 1e-9


def test_plots_are_the_same_bytes_each_time():
    curve = np.sin(np.arange(50) / 5)
    once, again = (plots.openings([("clip", {"real": curve, "generated": curve**2}, curve > -2)]) for _ in range(2))
    assert once == again and once.startswith(b"<?xml") and b"generated" in once
    assert plots.lags({"generated": curve[:17]}, {}) and plots.bars({"a": {"real": 1.0}}, ["real"], "mm")
    assert report.SHOWN == ("real", "re-rendered", "generated") and sets.JOINED_S == 10.0
