"""The benchmark: names that stay, figures that are finite, a slowdown that is found, references that do the same work."""

import importlib
import json
import math
import time

import numpy as np
import pytest
import torch

import deepspeech
from scripts import benchmark
from scripts.benchmarks import drawing, measure, sound
from scripts.benchmarks.case import Case
from scripts.benchmarks.table import STAGES, Stage

# Others read these names: add to the lists, never rename.
STAGE_NAMES = (
    "rasterize_open_256 rasterize_70k_256 interpolate_256 raster_attributes_256 texture_256 "
    "forward_backward_open_256 forward_backward_70k_256 rasterize_open_256_cuda mel features lip_sync generate_tiny "
    "generate_paper generate_tiny_cuda render_crop_256 render_full_256 made_film_256 "
    "encode_256 decode_256 lmdb_clips lmdb_frames_256 training_windows landmarks_256 fit_clip reconstruct_256 psnr_256 "
    "ssim_256 chain_256 chain_512 chain_256_onnx stream_256 chain_mesh_256 chain_full"
).split()
FIGURES = (
    "p50_ms p95_ms min_ms reference_p50_ms ratio_to_reference normalised yardstick_ms repeats unit reference "
    "peak_mb process_mb"
).split()
MACHINE = "cpu cores load_1min cuda python torch threads quick git_commit".split()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Figures of a quick run of three stages, one of them for CUDA only, and the table that was printed."""
    path = tmp_path_factory.mktemp("benchmark") / "figures.json"
    names = ["rasterize_70k_256", "mel", "rasterize_open_256_cuda"]
    assert benchmark.main(["--quick", "--only", *names, "--json", str(path)]) == 0
    return path


def test_names_of_stages_stay():
    assert list(STAGES) == STAGE_NAMES


def test_every_stage_can_be_prepared():
    for stage in STAGES.values():
        module, function = stage.prepare.split(":")
        assert callable(getattr(importlib.import_module(f"scripts.benchmarks.{module}"), function))


def test_names_and_numbers_of_a_quick_run(quick):
    figures = json.loads(quick.read_text())
    wanted = {f"machine.{name}" for name in MACHINE}
    wanted |= {f"{stage}.{name}" for stage in ("rasterize_70k_256", "mel") for name in FIGURES}
    wanted |= {"rasterize_70k_256.fps", "mel.x_real_time"}
    if not torch.cuda.is_available():
        assert "no CUDA device" in figures.pop("rasterize_open_256_cuda.skipped")
        assert set(figures) == wanted
    assert wanted <= set(figures)
    assert all(isinstance(value, (int, float, str)) for value in figures.values())
    numbers = {key: value for key, value in figures.items() if not isinstance(value, str)}
    assert all(math.isfinite(value) for value in numbers.values())
    assert all(numbers[key] > 0 for key in numbers if key.endswith(("_ms", "fps", "x_real_time", "ratio_to_reference")))
    assert (
        figures["rasterize_70k_256.min_ms"]
        <= figures["rasterize_70k_256.p50_ms"]
        <= figures["rasterize_70k_256.p95_ms"]
    )
    assert figures["rasterize_70k_256.ratio_to_reference"] > 3
    assert figures["rasterize_70k_256.fps"] == pytest.approx(1e3 / figures["rasterize_70k_256.p50_ms"], rel=1e-3)


def test_the_table_says_what_was_measured_and_what_was_skipped(quick):
    lines = benchmark.table(json.loads(quick.read_text())).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert sum(line.startswith(("| rasterize_70k_256 |", "| mel |")) for line in lines) == 2
    if not torch.cuda.is_available():
        assert any(line.startswith("rasterize_open_256_cuda skipped: no CUDA") for line in lines)


def test_a_planted_slowdown_is_found(quick, tmp_path, capsys, monkeypatch):
    figures = json.loads(quick.read_text())
    asked = []

    def run_all(names, *_):
        asked.append(names)
        return {key: value for key, value in figures.items() if key.split(".")[0] in names}

    monkeypatch.setattr(benchmark, "run_all", run_all)
    assert benchmark.main(["--baseline", str(quick)]) == 0
    faster = tmp_path / "faster.json"
    faster.write_text(json.dumps(figures | {"mel.normalised": figures["mel.normalised"] / 2}))
    assert benchmark.main(["--baseline", str(faster)]) == 1
    assert "| mel | 2.00 | 1.00 | YES |" in capsys.readouterr().out
    assert asked[-1] == ["mel"]  # measured a second time before it is called slower
    assert benchmark.main(["--baseline", str(faster), "--tolerance", "2.5"]) == 0


@pytest.mark.parametrize("shared", [False, True])
def test_slower_code_is_slower_on_a_machine_of_any_load(shared, monkeypatch):
    """Three times the work; where the reference shares the code, it takes three times as long as well."""
    stage, rng = Stage("", "", "frame", "", shared=shared), np.random.default_rng(0)

    def figures(load, run, reference):
        # a call returns its seconds on an idle machine; the load changes from round to round
        loads = iter(np.repeat(load * rng.uniform(1, 2, 100), 4))
        monkeypatch.setattr(measure, "yardstick", lambda: 0.002)
        monkeypatch.setattr(measure, "clock", lambda work: np.sum(work()) * next(loads))
        times = measure.take_turns(Case(lambda: run, lambda: reference), 9, 1e9, n_yards=3)
        return {f"mel.{key}": value for key, value in measure.figures(Case(None, None), times, stage).items()}

    before, again = figures(1, 0.2, 0.1), figures(5, 0.2, 0.1)
    after = figures(2, 0.6, 0.3 if shared else 0.1)
    assert again["mel.p50_ms"] > 2 * before["mel.p50_ms"]
    assert again["mel.normalised"] == pytest.approx(before["mel.normalised"])
    assert after["mel.normalised"] == pytest.approx(3 * before["mel.normalised"])
    assert before["mel.ratio_to_reference"] == pytest.approx(0.5)
    assert benchmark.compare(after, before, 1.5)[1] == ["mel"]
    assert benchmark.compare(again, before, 1.5)[1] == benchmark.compare(before, after, 1.5)[1] == []


def test_units_of_a_call_share_its_time():
    stage = Stage("", "", "frame", "")
    case = Case(lambda: time.sleep(0.02), lambda: time.sleep(0.02), n=10, n_reference=2, seconds=0.4)
    figures = measure.measure_case(case, stage, 3, 1)
    assert figures["p50_ms"] == pytest.approx(2, rel=0.3)
    assert figures["ratio_to_reference"] == pytest.approx(5, rel=0.3)
    assert figures["x_real_time"] == pytest.approx(20, rel=0.3)
    assert figures["repeats"] == 3


def test_times_that_the_work_took_are_told():
    case = Case(lambda: case.times.setdefault("gap_p95_ms", []).append(0.004), lambda: time.sleep(0.001))
    assert measure.measure_case(case, Stage("", "", "frame", ""), 3, 1)["gap_p95_ms"] == 4


def test_peak_memory_is_what_the_work_takes():
    figures = measure.peak_memory(lambda: np.ones(10_000_000).sum())
    if not figures:
        pytest.skip("this system does not tell the peak of resident memory")
    assert figures["peak_mb"] == pytest.approx(80, rel=0.1)
    assert figures["process_mb"] > figures["peak_mb"]
    assert measure.peak_memory(lambda: None)["peak_mb"] < 5


def test_a_broken_stage_is_named_and_fails_the_run(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "run_stage", lambda *_: {"failed": "ValueError: no such picture"})
    assert benchmark.main(["--only", "mel"]) == 1
    assert "mel failed: ValueError: no such picture" in capsys.readouterr().out


def test_wishes_that_cannot_be_met(tmp_path, capsys):
    assert benchmark.main(["--only", "rasterise*"]) == 2
    assert "rasterise*: no stage has such a name; there are rasterize_open_256," in capsys.readouterr().err
    (tmp_path / "other.json").write_text('{"a": 1}')
    for name in ("other.json", "absent.json"):
        assert benchmark.main(["--baseline", str(tmp_path / name)]) == 2
        assert "written by --json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--repeats", "0"])


def test_patterns_choose_stages(capsys):
    assert benchmark.main(["--list", "--only", "chain*", "mel"]) == 0
    assert capsys.readouterr().out.split() == [
        "mel",
        "chain_256",
        "chain_512",
        "chain_256_onnx",
        "chain_mesh_256",
        "chain_full",
    ]


def test_references_do_the_same_work(tmp_path):
    case = drawing.rasterize_dense(tmp_path)
    mine, reference = case.run()[: case.n_reference], case.reference().numpy()
    assert (mine[..., 3] == reference[..., 3]).mean() > 0.999 and (mine[..., 3] > 0).mean() > 0.3
    wav = np.random.default_rng(0).normal(0, 0.1, 12345).astype(np.float32)
    np.testing.assert_allclose(sound.mel_by_rows(wav), deepspeech.mel(wav), atol=2e-3)
