"""One evaluation from settings to metrics.jsonl: every clip, row and seed that is not done yet."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_process.landmarks import NoFaceError
from data_process.store import Store
from deepspeech.lip_sync import LipSync
from models import checkpoint
from models.style import Style
from models.style_metrics import condition_swap, statistics_distance
from scripts.evaluation import baselines, motion, pictures, seen, sets, sources
from scripts.evaluation.arrays import GALLERY, save_arrays, slug
from scripts.evaluation.codes import Codes, Gallery, motion_code
from scripts.evaluation.lines import Lines, file_hash, open_folder, short_hash
from scripts.evaluation.rows import Rows, check_rows, read_truth
from scripts.evaluation.sources import ProtocolError
from scripts.evaluation.units import METRICS, SET_CLIP, VISEMES

NOT_EVALUATED = "(not evaluated)"
LEAST_STD = 0.2


class Evaluation:
    """Everything that is opened once: store, method, baselines, gallery, judges."""

    def __init__(self, config):
        check_names(config)
        self.config, self.store = config, Store(config.store)
        self.method = checkpoint.load_motion(config.checkpoint, config.device)
        self.check_face_model()
        self.shape = motion.Shape(self.method.face)
        how = config.style
        self.cases, self.left_out = sources.plan(
            self.store,
            config.split,
            config.clips,
            how.clips,
            how.first_part,
            config.labels,
            config.video,
            how.same_emotion,
        )
        self.codes = Codes(self.store, self.method.blink_columns)
        self.stores = [self.codes] + [Codes(Store(path), self.method.blink_columns) for path in config.gallery]
        jaw = self.method.face.index("jawOpen")
        other = Style.load(config.style.other) if config.style.other else None
        self.rows = Rows(self.method, self.codes, config, baselines.fit(config.store, config.baselines, jaw), other)
        self.probe = LipSync.load() if config.video else None
        self.judges = seen.open_judges(config.judges, config.device) if config.video else {}
        self.gallery = Gallery(self.stores, sources.MIN_FRAMES)
        # a narrow training corpus would make everything else look many deviations away
        spread = self.gallery.vectors.std(0) if len(self.gallery.vectors) else 0
        std = np.maximum(self.method.stats["style"]["std"], spread)
        self.style_std = np.maximum(std, least_std(std, self.method.mean_style))

    def check_face_model(self):
        """The store's coefficients must be those of the checkpoint's face model."""
        here, there = self.store.meta["face_model_hash"], self.method.face.hash
        if here != there:
            raise ProtocolError(
                f"{self.config.store}: made with face model {here}, {self.config.checkpoint} with {there}: build the store anew"
            )

    def facts(self):
        """What the lines depend on beside the settings."""
        weights = checkpoint.stem(self.config.checkpoint).with_suffix(".safetensors")
        return {
            "store": short_hash(self.store.meta),
            "gallery_stores": [short_hash(codes.store.meta) for codes in self.stores[1:]],
            "checkpoint_weights": file_hash(weights),
            "encoding_used": pictures.encoding_facts(self.config.encoding) if self.config.video else None,
            "sync_probe": self.probe.facts.get("sha256", "")[:16] if self.probe else None,
        }

    def about(self):
        """For people."""
        return {
            "code": checkpoint.git_commit(),
            "torch": str(torch.__version__),
            "clips": len(self.cases),
            "speakers_in_gallery": len(set(self.gallery.speakers.tolist())),
            "left_out": self.left_out,
        }


def least_std(std, style):
    """(S,) smallest deviation by which a number of a style is divided: LEAST_STD of the RMS of its part, numbers of one unit.

    An expression that nobody uses has next to no spread; what a network adds there would outweigh all else.
    """
    sizes = [len(part) for part in style.parts.values()]
    parts = np.split(np.asarray(std, np.float64), np.cumsum(sizes)[:-1])
    return np.concatenate([np.full(len(p), LEAST_STD * np.sqrt((p**2).mean())) for p in parts])


def check_names(config):
    """Refuse names of rows and metrics that do not exist, before anything is opened."""
    check_rows(config.rows)
    unknown = sorted((set(config.skip) | {config.report.worst_by}) - set(METRICS))
    if unknown:
        raise ProtocolError(f"metrics {unknown} came, there is {', '.join(METRICS)}: use these names")


def evaluate(config):
    """Do what is not done yet; returns the output folder. metrics.jsonl, settings.yaml and arrays/ are written."""
    torch.set_num_threads(config.threads)
    bench = Evaluation(config)
    folder = Path(config.output)
    open_folder(folder, config, bench.facts(), bench.about())
    lines = Lines(folder)
    for name, reason in bench.left_out.items():
        if not lines.has(name, "generated", NOT_EVALUATED):
            lines.add(name, "generated", NOT_EVALUATED, failure=reason)
    (folder / "arrays").mkdir(exist_ok=True)
    np.savez_compressed(folder / "arrays" / GALLERY, codes=bench.gallery.vectors, speakers=bench.gallery.speakers)
    for case in tqdm(bench.cases, unit="clip", disable=None):
        evaluate_case(bench, case, lines, folder)
    lines.replace(lambda line: line["clip"] == SET_CLIP, sets.measure(bench, lines, folder))
    return folder


def evaluate_case(bench, case, lines, folder):
    """Every missing line of one clip."""
    planned = bench.rows.plan(case, bench.config.video)
    missing = [(row, seed) for row, seed in planned if not lines.has(case.name, row, seed)]
    if not missing:
        return
    about = {"speaker": case.speaker, **case.labels, "window": str(case.window)}
    try:
        truth = read_truth(bench.store, bench.codes, case, bench.shape)
        stage = Stage(bench, case, truth) if bench.config.video else None
    except (ProtocolError, NoFaceError) as error:
        for row, seed in missing:
            lines.add(case.name, row, seed, **about, failure=str(error))
        return
    about |= {"phones": "store" if truth.phones_known else "posteriors"}
    counted = {"frames": int(truth.valid.sum()), "skipped_frames": int((~truth.valid).sum())}
    for name, seed in missing:
        row = bench.rows.make(case, name, seed, truth)
        values, visemes, arrays = measure_motion(bench, case, truth, row)
        line = about | {"style": row.style or None} | counted
        if stage and has_video(bench, row):
            try:
                found, more = stage.measure(row, folder)
                values, arrays = values | found, arrays | more
                line |= {"identity": str(stage.identity)}
            except NoFaceError as error:
                line["failure"] = f"in the video: {error}"
        values = {k: v for k, v in values.items() if k not in bench.config.skip}
        save_arrays(folder, case.name, name, seed, arrays)
        lines.add(case.name, name, seed, **line, **values, **({VISEMES: visemes} if visemes else {}))


def has_video(bench, row):
    """Whether a row is drawn: the three, and the other generated ones, for as many seeds as are asked for."""
    return row.moves and (row.own or row.seed in bench.config.seeds[: bench.config.renderer.seeds])


def measure_motion(bench, case, truth, row):
    """({metric: value}, visemes, arrays) of a row's motion. Nothing for `re-rendered`, whose motion is the real one."""
    if row.name == "re-rendered":
        return {}, {}, {}
    values, arrays = motion.own_measures(bench.shape, row.motion, truth)
    code = motion_code(row.motion)
    arrays["code"] = code
    if bench.gallery.usable:
        rank = bench.gallery.rank(code, [case], bench.codes)
        if np.isfinite(rank):
            values |= {"style_rank": rank, "style_r1": float(rank <= 1), "style_r5": float(rank <= 5)}
    if row.name == "real":
        return values, {}, arrays | {"valid": truth.valid}
    errors, visemes, curves = motion.error_measures(bench.shape, row.motion, truth, poses=row.moves)
    if row.wanted is not None:
        values["style_distance"] = statistics_distance(code, row.wanted.vector(), bench.style_std)
    if row.name == "other style":
        values |= swap(bench, case, truth, row, code)
    return values | errors, visemes, arrays | curves


def swap(bench, case, truth, row, code):
    """Does the same sound in another style move towards that style."""
    own = bench.rows.make(case, "generated", row.seed, truth)
    weight = np.where(bench.style_std > 0, 1 / np.maximum(bench.style_std, 1e-9) ** 2, 0)
    found = condition_swap([motion_code(own.motion)], [code], own.wanted.vector(), row.wanted.vector(), weight)
    return {"swap_gain": found["gain"], "swap_nearest": found["nearest"]}


class Stage:
    """The videos of one clip: its real one, and whatever is drawn from its identity frame."""

    def __init__(self, bench, case, truth):
        self.bench, self.case, self.truth = bench, case, truth
        self._folder = tempfile.TemporaryDirectory()
        store, config = bench.store, bench.config
        self.identity, track = sources.identity_frame(store, case, bench.shape.gauge)
        image = next(iter(pictures.window_frames(store, self.identity, self._folder.name)))
        self.portrait = pictures.Portrait(image, track, bench.method.face, config.renderer, config.threads)
        self.real = pictures.encoded(self.real_frames(), truth.wav, config.encoding, False)
        real_opening = bench.shape.mouth(truth.identity, truth.exp)[0]
        self.moments = pictures.moments(real_opening, truth.valid)

    def real_frames(self):
        """Yield the frames of the window as the store has them."""
        return pictures.window_frames(self.bench.store, self.case.window, self._folder.name)

    def measure(self, row, folder):
        """({metric: value, counts}, arrays) of a row's video; keeps the video if that is asked for."""
        bench, config = self.bench, self.bench.config
        keep = (
            folder / "videos" / f"{slug(self.case.name, row.name, row.seed)}.mp4" if config.report.keep_videos else None
        )
        if row.name == "real":
            found = self.real
            if keep:
                keep.parent.mkdir(parents=True, exist_ok=True)
                pictures.encode(keep, self.real_frames(), self.truth.wav, config.encoding, False)
        else:
            frames = self.portrait.frames(row.motion, own=row.own)
            found = pictures.encoded(frames, self.truth.wav, config.encoding, True, keep)
        values, arrays = seen.own_measures(found, self.truth, bench.probe)
        if row.name == "real":  # against the clip before the encoding: what the encoding alone costs
            values |= seen.picture_measures(found, self.before_encoding(), found.valid)
        else:
            values |= seen.error_measures(found, self.real, bench.judges)
        arrays |= seen.embeddings(found, bench.judges)
        arrays["strip"] = np.frombuffer(pictures.strip(found, self.moments), np.uint8)
        arrays["moments"] = np.array(self.moments)
        counted = {"video_frames": len(found.valid), "frames_without_face": int((~found.valid).sum())}
        return values | counted, arrays

    def before_encoding(self):
        """The real window as stored, cropped exactly as the encoded one."""
        face, mouth = pictures.crop(self.real_frames(), self.real.points, self.real.crops)
        return pictures.Seen(self.real.points, self.real.valid, self.real.crops, face, mouth)
