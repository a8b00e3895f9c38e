"""Further audio features of a store: added, resumed, read in batches, measured, merged; stores without them as before."""

import io

import numpy as np
import pytest
import soundfile
import torch
import transformers

from data_process import add_features as module
from data_process import merge_lmdb, schema, stats
from data_process.add_features import Feature, add_features, encoder_feature, formula_feature, main, parse_encoder
from data_process.dataset import ClipDataset, ClipReader, WindowDataset
from data_process.schema import StoreError
from data_process.store import Store, StoreWriter
from deepspeech import load_audio, mfcc_rows, wav2lip_windows
from deepspeech.deepspeech_model import DeepSpeech, released_shapes
from deepspeech.encoders import Encoder
from tests.data_process import made

CLIPS = [("a", "train", "ann", 40), ("b", "train", "bob", 55), ("c", "val", "eve", 30), ("d", "test", "eve", 33)]
INFO = {"face_model": "open", "face_model_hash": "made", "layout": made.OPEN_LAYOUT.sizes}


def wav_bytes(n_frames, seed):
    file = io.BytesIO()
    samples = np.random.default_rng(seed).normal(0, 0.1, 640 * n_frames).clip(-1, 1)
    soundfile.write(file, samples, 16000, "PCM_16", format="WAV")
    return file.getvalue()


def fill(writer, clips):
    for seed, (name, split, speaker, n_frames) in enumerate(clips):
        records = made.records(n_frames, seed) | {"audio": wav_bytes(n_frames, seed)}
        if name not in writer.journal:
            writer.add(name, "key", split, records, {"n_frames": n_frames, "speaker": speaker})
    writer.finish({**INFO, "speakers": sorted({clip[2] for clip in clips})}, {})


def make_store(path, clips=CLIPS):
    with StoreWriter(path, {"made": True}) as writer:
        fill(writer, clips)
    return path


@pytest.fixture
def path(tmp_path):
    return make_store(tmp_path / "x.lmdb")


def ramp(name="ramp", rows_per_frame=2, dtype="float32", about=None, stop_at=None):
    """A feature whose row k is k everywhere; the call number `stop_at` fails."""
    calls = []

    def compute(wav):
        calls.append(len(wav))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        n = rows_per_frame * len(wav) // 640
        return np.repeat(np.arange(n, dtype=np.float32)[:, None], 3, 1)

    return Feature(name, rows_per_frame, compute, about or {"kind": "ramp"}, dtype), calls


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """Folder of a tiny HuBERT of random weights."""
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.HubertModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_rows_are_those_of_the_functions(path, hubert):
    add_features(path, [formula_feature("mfcc"), formula_feature("wav2lip")], progress=False)
    add_features(path, [encoder_feature(f"slow={hubert}:1@25", dtype="float32")], progress=False)
    meta = add_features(path, [encoder_feature(f"hubert_l1={hubert}:1")], progress=False)
    store = Store(path)
    wav = load_audio(*soundfile.read(io.BytesIO(store.bytes("train", "audio", 1)), dtype="float32"))
    np.testing.assert_array_equal(store.array("train", "mfcc", 1), mfcc_rows(wav))
    np.testing.assert_array_equal(store.array("train", "wav2lip", 1), wav2lip_windows(wav).reshape(55, -1))
    encoder = Encoder.load(hubert, 1)
    rows = store.array("train", "hubert_l1", 1)
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(rows, encoder(wav).astype(np.float16))
    about = meta["features"]["hubert_l1"]
    assert (about["identity"], about["layer"], about["kind"]) == (encoder.identity, 1, "hubert")
    assert (about["rows_per_frame"], about["dims"], about["dtype"]) == (2, 16, "float16")
    np.testing.assert_array_equal(store.array("train", "slow", 1), encoder(wav)[::2])
    made_ones = {"mfcc": 4, "wav2lip": 1, "slow": 1, "hubert_l1": 2}
    assert store.features == {"phonemes": 2, "mel": 2, "energy": 2} | made_ones
    assert str(hubert) not in str(meta)  # no path of the machine


def test_deepspeech_by_command(path, tmp_path, capsys):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    weights = {k: rng.normal(0, 0.2, shape).astype(np.float32) for k, shape in released_shapes(8).items()}
    save_file(weights, tmp_path / "w.safetensors")
    assert (
        main(["--lmdb", str(path), "--deepspeech", str(tmp_path / "w.safetensors"), "--formula", "mfcc_windows"]) == 0
    )
    assert "deepspeech: 29 columns, 2 rows a frame, float32" in capsys.readouterr().out
    store = Store(path)
    wav = module.sound(store.bytes("val", "audio", 0))
    np.testing.assert_array_equal(store.array("val", "deepspeech", 0), DeepSpeech.from_released(weights).prob(wav))
    assert store.array("val", "mfcc_windows", 0).shape == (30, 28 * 12)
    assert len(store.added["deepspeech"]["columns"]) == 29


def test_a_stopped_run_goes_on(path):
    feature, _ = ramp(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        add_features(path, [feature], progress=False)
    assert Store(path).added == {}  # readers do not see it yet
    with pytest.raises(StoreError, match="made otherwise.*kind 'ramp', now 'other'"):
        add_features(path, [ramp(about={"kind": "other"})[0]], progress=False)
    feature, calls = ramp()
    add_features(path, [feature], progress=False)
    assert len(calls) == 2 and set(Store(path).added) == {"ramp"}
    feature, calls = ramp()
    add_features(path, [feature], progress=False)
    assert calls == []


def test_another_model_under_the_same_name(path):
    add_features(path, [ramp()[0]], progress=False)
    other, calls = ramp(about={"kind": "other"}, rows_per_frame=1)
    with pytest.raises(StoreError, match="--replace"):
        add_features(path, [other], progress=False)
    meta = add_features(path, [other], replace=True, progress=False)
    assert len(calls) == 4 and meta["features"]["ramp"]["kind"] == "other"
    assert Store(path).array("train", "ramp", 0).shape == (40, 3)


def test_a_build_that_goes_on_keeps_what_all_clips_have(path):
    add_features(path, [ramp()[0]], progress=False)
    with StoreWriter(path, {"made": True}) as writer:
        fill(writer, CLIPS)
    assert set(Store(path).added) == {"ramp"}
    with StoreWriter(path, {"made": True}) as writer:
        fill(writer, [*CLIPS, ("e", "train", "ann", 20)])
    assert Store(path).added == {} and len(Store(path).clips("train")) == 3
    feature, calls = ramp()
    add_features(path, [feature], progress=False)
    assert calls == [640 * 20] and set(Store(path).added) == {"ramp"}


def test_batches_hold_the_rows_of_their_time(path):
    add_features(path, [ramp("half")[0], ramp("slow", 1, "float16")[0], ramp("fast", 4)[0]], progress=False)
    data = WindowDataset(path, "train", n_frames=16, context=3, features=["slow", "fast", "half"])
    for index in (0, 3, len(data) - 1):
        window, (_, start) = data[index], data.start(index)
        assert set(window) == set(schema.BATCH) | {"slow", "fast", "half"}
        n = data.reader.clips[int(window["clip"])]["n_frames"]
        for name, r in (("slow", 1), ("half", 2), ("fast", 4)):
            expected = np.arange(r * (start - 3), r * (start + 19)).clip(0, r * n - 1)
            assert window[name].dtype == torch.float32 and window[name].shape == (22 * r, 3)
            np.testing.assert_array_equal(window[name][:, 0].numpy(), expected)
    clip = ClipDataset(path, "val", context=0, features=["fast"])[0]
    assert clip["fast"].shape == (120, 3) and "slow" not in clip
    assert set(WindowDataset(path, "train")[0]) == set(schema.BATCH)
    with pytest.raises(StoreError, match="holds no feature 'hubert'.*add_features"):
        ClipReader(path, "train", features=["hubert"])


def test_statistics(path):
    add_features(path, [ramp("slow", 1, "float16")[0]], progress=False)
    result = stats.compute(Store(path))["features"]
    rows = np.concatenate([np.arange(40), np.arange(55)])
    assert np.allclose(result["slow"]["mean"], rows.mean()) and np.allclose(result["slow"]["std"], rows.std())
    assert set(result) == {*schema.FEATURES, "slow"}


def test_merging_keeps_what_all_have_alike(path, tmp_path, capsys):
    other = make_store(tmp_path / "y.lmdb", [(f"y{name}", *rest) for name, *rest in CLIPS])
    add_features(path, [ramp()[0], ramp("alone")[0], ramp("unlike", about={"kind": "1"})[0]], progress=False)
    add_features(other, [ramp()[0], ramp("unlike", about={"kind": "2"})[0]], progress=False)
    assert merge_lmdb.main(["--inputs", str(path), str(other), "--output", str(tmp_path / "z.lmdb")]) == 0
    assert "left behind: alone, unlike" in capsys.readouterr().err
    store = Store(tmp_path / "z.lmdb")
    assert store.added == {"ramp": Store(path).added["ramp"]}
    for split, n in (("train", 4), ("test", 2)):
        for index in range(n):
            frames = store.clips(split)[index]["n_frames"]
            assert store.array(split, "ramp", index).shape == (2 * frames, 3)
    feature, calls = ramp()
    add_features(tmp_path / "z.lmdb", [feature], progress=False)
    assert calls == []


@pytest.mark.parametrize("name", ["mel", "Hubert", "a b", "", "exp", "valid", "9x"])
def test_names_that_would_clash_are_refused(name, path):
    with pytest.raises(StoreError, match="cannot name a feature"):
        add_features(path, [ramp(name)[0]], progress=False)
    with pytest.raises(StoreError):
        parse_encoder(f"{name}=folder")


def test_encoder_on_the_command_line():
    assert parse_encoder("w=models/a:b:12") == ("w", "models/a:b", 12, 50)
    assert parse_encoder("w=facebook/hubert") == ("w", "facebook/hubert", None, 50)
    assert parse_encoder("w=a@b:3@25") == ("w", "a@b", 3, 25) and parse_encoder("w=a@100") == ("w", "a", None, 100)
    for wrong in ("folder", "w=", "=x"):
        with pytest.raises(StoreError):
            parse_encoder(wrong)


def test_errors_say_what_to_do(path, tmp_path, capsys):
    assert main(["--lmdb", str(path), "--encoder", f"w={tmp_path / 'absent'}"]) == 1
    assert "hf download" in capsys.readouterr().err
    assert main(["--lmdb", str(path), "--deepspeech", str(tmp_path / "absent")]) == 1
    assert "github.com/mozilla/DeepSpeech" in capsys.readouterr().err
    assert main(["--lmdb", str(tmp_path / "none"), "--formula", "mfcc"]) == 1
    assert "no LMDB store here" in capsys.readouterr().err
    with pytest.raises(StoreError, match="a: ramp: values reach 79000"):
        feature = ramp(dtype="float16")[0]
        add_features(path, [Feature("ramp", 2, lambda wav: feature.compute(wav) * 1000, {}, "float16")], progress=False)
    with pytest.raises(StoreError, match="d: r: 66 rows for 33 frames"):
        add_features(path, [Feature("r", 4, ramp()[0].compute, {})], progress=False)
