"""Further audio features for the clips of a store: each becomes a record by name and an entry of `meta`.

    python -m data_process.add_features --lmdb data/grid.lmdb --encoder hubert_l9=models/hubert-base-ls960:9
    python -m data_process.add_features --lmdb data/grid.lmdb --formula mfcc wav2lip --deepspeech deepspeech-0.9.safetensors

An encoder is NAME=FOLDER[:LAYER][@HZ]: its last layer if none is named, 50 rows a second if no rate is
(`deepspeech.encoders`). Clips are written one transaction each: a run that was stopped goes on with the same command. The
feature exists for readers of the store once all clips have it. Then: data_process.stats again, and
`data.features: [hubert_l9]` in the settings of a training.
"""

import argparse
import functools
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import lmdb
import numpy as np
import soundfile
import torch
from tqdm import tqdm

from data_process import schema
from data_process.schema import StoreError
from data_process.store import Store, close, commit
from deepspeech import WeightsError, load_audio, mfcc_rows, mfcc_windows, wav2lip_windows
from deepspeech.timing import FEATURE_HZ, MOTION_FPS, ROWS_PER_FRAME

DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Feature:
    """How a feature is made. compute: 16 kHz sound (N,) float32 -> (rows_per_frame * T, D) or (T, ...) float32.

    about: what `meta` is to tell of what made it; two features of one name must agree in it.
    """

    name: str
    rows_per_frame: int
    compute: Callable
    about: dict
    dtype: str = "float32"

    def describe(self, n_columns):
        """Entry of `meta`."""
        sizes = {"rows_per_frame": self.rows_per_frame, "dims": n_columns, "dtype": self.dtype}
        return schema.unpack_json(schema.pack_json({**self.about, **sizes}))

    def rows(self, wav, n_frames):
        """(rows_per_frame * n_frames, D) of one clip, in the type that is stored."""
        values = np.asarray(self.compute(wav))
        values = values.reshape(len(values), -1)
        if len(values) != self.rows_per_frame * n_frames:
            raise StoreError(
                f"{self.name}: {len(values)} rows for {n_frames} frames: the clip's sound has another length"
            )
        if self.dtype == "float16" and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise StoreError(f"{self.name}: values reach {np.abs(values).max():.0f}, too much for float16: use float32")
        return values.astype(self.dtype)


def _flat(windows, wav):
    values = windows(wav)
    return values.reshape(len(values), -1)


# Features by formula: name -> (rows a frame, function, what they are)
FORMULAS = {
    "mfcc": (4, mfcc_rows, "13 cepstra at 100 Hz, deepspeech.mfcc_rows"),
    "mfcc_windows": (1, functools.partial(_flat, mfcc_windows), "28 x 12 cepstra a frame, deepspeech.mfcc_windows"),
    "wav2lip": (1, functools.partial(_flat, wav2lip_windows), "80 x 16 mel levels a frame, deepspeech.wav2lip_windows"),
}


def formula_feature(name):
    """Feature of FORMULAS."""
    rows_per_frame, compute, what = FORMULAS[name]
    return Feature(name, rows_per_frame, compute, {"kind": "formula", "what": what})


def encoder_feature(spec, allow_download=False, device="cpu", dtype="float16"):
    """Feature of "NAME=FOLDER[:LAYER][@HZ]"."""
    from deepspeech.encoders import Encoder  # imported late: transformers takes seconds

    name, source, layer, rate_hz = parse_encoder(spec)
    encoder = Encoder.load(source, layer, allow_download, device, rate_hz)
    return Feature(name, rate_hz // MOTION_FPS, encoder, encoder.about, dtype)


def deepspeech_feature(path, device="cpu", dtype="float32"):
    """Letters of DeepSpeech 0.9 under the name `deepspeech`."""
    from deepspeech.deepspeech_model import LETTERS, DeepSpeech

    model = DeepSpeech.load(path, device)
    about = {"kind": "deepspeech", "identity": model.identity, "columns": list(LETTERS)}
    return Feature("deepspeech", ROWS_PER_FRAME, model.prob, about, dtype)


def parse_encoder(spec):
    """ "hubert_l9=models/hubert:9@25" -> ("hubert_l9", "models/hubert", 9, 25); layer None and 50 Hz where none is named."""
    name, equals, rest = spec.partition("=")
    match = re.fullmatch(r"(.+?)(?::(\d+))?(?:@(\d+))?", rest)
    if not equals or match is None:
        raise StoreError(
            f"encoder {spec!r}: NAME=FOLDER, NAME=FOLDER:LAYER or NAME=FOLDER:LAYER@HZ is needed, such as "
            "hubert_l9=models/hubert:9"
        )
    layer = None if match[2] is None else int(match[2])
    return schema.check_feature_name(name), match[1], layer, int(match[3] or FEATURE_HZ)


def add_features(path, features, replace=False, progress=True):
    """Compute features for all clips of a complete store and add them -> its `meta`.

    replace: compute anew what is there under the same name but was made otherwise; without it that is an error.
    """
    for feature in features:
        store = Store(path)
        clips = [
            (split, index, clip) for split in store.meta["splits"] for index, clip in enumerate(store.clips(split))
        ]
        if not clips:
            raise StoreError(f"{path}: holds no clip")
        store.close()
        with FeatureWriter(path, feature, replace) as writer:
            for split, index, clip in tqdm(clips, desc=feature.name, unit="clip", disable=not progress):
                if not writer.has(split, index):
                    wav = sound(writer.audio(split, index))
                    try:
                        rows = feature.rows(wav, clip["n_frames"])
                    except StoreError as error:
                        raise StoreError(f"{path}: {clip['name']}: {error}") from error
                    writer.add(split, index, rows)
            writer.finish()
    return Store(path).meta


def sound(data):
    """Bytes of a store's wav -> (N,) float32 at 16 kHz."""
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return load_audio(samples, rate)


class FeatureWriter:
    """Writes one feature into a complete store, clip by clip.

    What made it is noted in the database of `meta` under its own key before the first clip, so that a later run goes on
    only with the same, and moves into `meta` itself when all clips have it.
    """

    def __init__(self, path, feature, replace=False):
        self.path, self.name, self.feature = path, schema.check_feature_name(feature.name), feature
        self.note_key = f"feature {self.name}".encode()
        close(path)
        try:
            self.env = lmdb.open(str(path), map_size=1 << 28, max_dbs=schema.MAX_DBS, create=False)
            self.env.set_mapsize(max(1 << 28, 2 * self.env.info()["map_size"]))
            self.meta_db = self.env.open_db(schema.META_DB.encode())
            databases = [schema.database(split, self.name, [self.name]) for split in schema.SPLITS]
            databases += [schema.database(split, "audio") for split in schema.SPLITS]
            self.handles = {name: self.env.open_db(name) for name in databases}
        except (OSError, lmdb.Error) as error:
            raise StoreError(
                f"{path}: cannot be written to ({error}): give a store in a folder that you may write to"
            ) from error
        self.handles[schema.META_DB.encode()] = self.meta_db
        self.about = self._begun()
        if self.about is not None and self._differs(self.about):
            if not replace:
                self.env.close()
                raise StoreError(
                    f"{path}: its {self.name} was made otherwise ({_difference(self.about, self.feature)}): choose another "
                    "name, or --replace to compute it anew"
                )
            self._drop()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.env.close()

    def has(self, split, index):
        """Has the clip this feature?"""
        with self.env.begin(db=self.handles[schema.database(split, self.name, [self.name])]) as txn:
            return txn.get(schema.clip_key(index)) is not None

    def audio(self, split, index):
        """Bytes of the clip's wav."""
        with self.env.begin(db=self.handles[schema.database(split, "audio")]) as txn:
            data = txn.get(schema.clip_key(index))
        if data is None:
            raise StoreError(f"{self.path}: clip {index} of {split} has no audio: features are made from it")
        return data

    def add(self, split, index, rows):
        """Store (rows, D) of one clip; the first one also notes what made it."""
        about = self.feature.describe(rows.shape[1])
        values = [(schema.database(split, self.name, [self.name]), schema.clip_key(index), schema.pack_array(rows))]
        if self.about is None:
            values.append((schema.META_DB.encode(), self.note_key, schema.pack_json(about)))
            self.about = about
        self._commit(values)

    def finish(self):
        """Enter the feature into `meta`."""
        meta = self._meta()
        meta["features"] = {**meta.get("features", {}), self.name: self.about}
        self._commit([(schema.META_DB.encode(), schema.META_KEY, schema.pack_json(meta))])

    def _begun(self):
        """What is noted of this feature, in `meta` or by a run that was stopped; None if it is new."""
        with self.env.begin(db=self.meta_db) as txn:
            note = txn.get(self.note_key)
        return self._meta().get("features", {}).get(self.name) if note is None else schema.unpack_json(note)

    def _differs(self, about):
        return about != self.feature.describe(about["dims"])

    def _drop(self):
        """Forget the feature: its rows, its note and its entry."""
        meta = self._meta()
        meta.get("features", {}).pop(self.name, None)
        with self.env.begin(write=True) as txn:
            for split in schema.SPLITS:
                txn.drop(self.handles[schema.database(split, self.name, [self.name])], delete=False)
            txn.delete(self.note_key, db=self.meta_db)
            txn.put(schema.META_KEY, schema.pack_json(meta), db=self.meta_db)
        self.about = None

    def _meta(self):
        with self.env.begin(db=self.meta_db) as txn:
            return schema.unpack_json(txn.get(schema.META_KEY))

    def _commit(self, values):
        commit(self.env, self.handles, values, self.path, "the clips already done are safe")


def _difference(about, feature):
    now = feature.describe(about["dims"])
    changed = [k for k in sorted({*about, *now}) if about.get(k) != now.get(k)]
    return ", ".join(f"{k} {about.get(k)!r}, now {now.get(k)!r}" for k in changed)


def chosen(args):
    """Features of a command line."""
    features = [formula_feature(name) for name in args.formula]
    if args.deepspeech:
        features.append(deepspeech_feature(args.deepspeech, args.device, args.dtype or "float32"))
    features += [
        encoder_feature(spec, args.allow_download, args.device, args.dtype or "float16") for spec in args.encoder
    ]
    return features


def add_arguments(parser):
    """The options that say which features; `build_lmdb` has them too."""
    parser.add_argument(
        "--encoder", "--encoders", nargs="+", default=[], metavar="NAME=FOLDER[:LAYER][@HZ]",
        help="speech encoders of transformers: wav2vec 2.0, HuBERT, WavLM, Whisper; LAYER 0 is what enters the transformer "
        "(default the last), HZ 25, 50 or 100 rows a second (default 50)",
    )  # fmt: skip
    parser.add_argument("--formula", nargs="+", default=[], choices=sorted(FORMULAS), help="features by formula")
    parser.add_argument("--deepspeech", metavar="FILE", help="weights made by python -m deepspeech.convert_deepspeech")
    parser.add_argument("--allow_download", action="store_true", help="FOLDER may be a name on the hub, to be fetched")
    parser.add_argument("--device", default="cpu", help="of networks: cpu (default), cuda, cuda:1")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of networks' rows (default float16 for encoders, else float32)"
    )


def main(argv=None):
    """Exit status: 0 all clips have the features, 1 not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.add_features", description="Add audio features to an LMDB store."
    )
    parser.add_argument("--lmdb", required=True, help="store made by data_process.build_lmdb")
    add_arguments(parser)
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: as many as torch takes)")
    parser.add_argument("--replace", action="store_true", help="compute anew what is there but was made otherwise")
    args = parser.parse_args(argv)
    if not (args.encoder or args.formula or args.deepspeech):
        parser.error("nothing to add: give --encoder, --formula or --deepspeech")
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    try:
        meta = add_features(args.lmdb, chosen(args), args.replace)
    except KeyboardInterrupt:
        print(f"\nstopped; what is in {args.lmdb} is whole: run the same command to go on", file=sys.stderr)
        return 130
    except (StoreError, WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, about in meta["features"].items():
        print(f"{name}: {about['dims']} columns, {about['rows_per_frame']} rows a frame, {about['dtype']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
