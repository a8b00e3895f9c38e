"""A made-up corpus with known truth: sentences -> speech -> phones with exact times -> moving faces -> LMDB store or videos.

    python -m data_process.synthetic --speakers 8 --minutes 12 --output data/lmdb/synthetic
    python -m data_process.synthetic --speakers 8 --minutes 12 --render 256 --output data/lmdb/synthetic_film
    python -m data_process.synthetic --speakers 20 --minutes 4 --render 256 --clips data/raw/synthetic

Needs the optional package hibari-tts. Everything follows from the seed. The store is laid out as that of
`data_process.build_lmdb` (same settings, so that `data_process.merge_lmdb` joins them); with --render its clips, or those of
the splits in --render_splits, have `video` and `mask` as well, else the track's landmarks are those of the canonical crop. `meta`
keeps, beside each clip, its text, phones with times, emotion, and the style of every speaker.

--clips writes <name>.mp4 with sound, <name>.wav and <name>.truth.npz (`made_clips.write_truth`) instead: raw material for
`python -m data_process.clips`, whose result then goes to `build_lmdb --speaker_from "(synth_[0-9]+)_"`.

Speed on one core of an AMD EPYC of 2.6 GHz. CPU time of whole commands, as `time` reports it, with the start of the program and 20
actors: the first with --speakers 20 --minutes 20, 11 times real time; the third, with sound, masks and truth, 60 frames a second
or 2.4 times real time. Of the first, more than four fifths are the audio features: `make_clip` (speech, phones, motion, track,
landmarks) runs at 100 times real time, packed for the store but without features at 70 (process_time over 40 clips). The
speech network is a third of `make_clip`; it is not cached, because a second of its output takes 1 MB and saves 3 ms.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from data_process import schema
from data_process.build_lmdb import summary
from data_process.clip_records import ClipSettings
from data_process.made_clips import VERSION, Order, make_clip, read_facts, write_truth
from data_process.made_emotions import EMOTIONS
from data_process.made_speakers import draw_speaker
from data_process.made_speech import SpeechError
from data_process.parallel import WorkerError, map_in_order
from data_process.schema import StoreError
from data_process.store import StoreWriter
from data_process.video import VideoError, write_wav
from data_process.visemes import VisemeError
from deep_3drecon.assets import AssetError
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import points5, points68
from deep_3drecon.made_film import REGIONS
from deep_3drecon.track import FPS
from deepspeech import FEATURE_HZ, PHONEMES, SAMPLE_RATE, AudioError, features

MOST_SENTENCES = 3  # of one clip
VAL_SHARE, TEST_SHARE = 0.08, 0.04  # of the sentences, and of each speaker's clips
GOLDEN = (5**0.5 - 1) / 2


def read_sentences(path):
    """Lines of a text file, those that start with # left out."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    sentences = [line for line in lines if line and not line.startswith("#")]
    if len(sentences) < 3:
        raise SpeechError(f"{path}: {len(sentences)} sentences, at least 3 are needed: one for each split")
    return sentences


def split_sentences(sentences, seed, val_share=VAL_SHARE, test_share=TEST_SHARE):
    """{split: [sentence, ...]}: a sentence is said in one split only."""
    order = np.random.default_rng((seed, 1)).permutation(len(sentences))
    n_val, n_test = (max(1, round(share * len(sentences))) for share in (val_share, test_share))
    parts = {"val": order[:n_val], "test": order[n_val : n_val + n_test], "train": order[n_val + n_test :]}
    return {split: [sentences[i] for i in parts[split]] for split in schema.SPLITS}


def plan(sentences, n_speakers, seed, most_sentences=MOST_SENTENCES, val_share=VAL_SHARE, test_share=TEST_SHARE):
    """Endless clips (name, split, speaker number, texts): speakers in turn, each through the sentences in an own order.

    Each clip is one to most_sentences sentences of one split. The clips of a speaker go through the splits evenly (multiples of
    the golden ratio), so that a share of 0.15 brings every speaker into the test within 8 clips.
    """
    of_split = split_sentences(sentences, seed, val_share, test_share)
    phases = np.random.default_rng((seed, 4)).random(n_speakers)
    decks = {}
    for k in range(10**9):
        speaker = k % n_speakers
        rng = np.random.default_rng((seed, 2, k))
        place = (phases[speaker] + k // n_speakers * GOLDEN) % 1
        split = "test" if place < test_share else "val" if place < test_share + val_share else "train"
        split = split if k >= 3 else schema.SPLITS[k]
        texts = []
        for _ in range(rng.integers(1, most_sentences + 1)):
            if not decks.get((speaker, split)):
                decks[speaker, split] = list(rng.permutation(len(of_split[split])))
            texts.append(of_split[split][decks[speaker, split].pop()])
        yield f"synth_{speaker}_{k:05d}", split, speaker, texts


def orders(sentences, n_speakers, seed, size=0, splits=schema.SPLITS, emotions=EMOTIONS, **how):
    """Endless `Order`s, `how` as for `plan`; those of `splits` are filmed at `size` px, unless that is 0."""
    for k, (name, split, speaker, texts) in enumerate(plan(sentences, n_speakers, seed, **how)):
        yield Order(name, k, split, speaker, tuple(texts), seed, size if split in splits else 0, tuple(emotions))


def order_key(order):
    """Hash of all that decides a clip."""
    return hashlib.sha256(json.dumps(order.facts).encode()).hexdigest()[:16]


def pack_clip(clip):
    """MadeClip -> {record: bytes} of the store."""
    lm68 = points68(clip.track.landmarks)
    arrays = {"lm5": points5(lm68), "lm68": lm68, "coeff": clip.track.coeff, **features(clip.wav)}
    records = {name: schema.pack_array(np.asarray(value, np.float32)) for name, value in arrays.items()}
    file = io.BytesIO()
    soundfile.write(file, clip.wav, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    records |= {"audio": file.getvalue(), "track": schema.pack_track(clip.track)}
    if clip.video is not None:
        records |= {"video": clip.video, "mask": schema.pack_mask(clip.regions, REGIONS)}
    return records


def made_records(order, speech=None):
    """One clip for the store: ({record: bytes}, facts for `meta`)."""
    clip = make_clip(order, speech)
    return pack_clip(clip), clip.info


def made_files(order, folder, speech=None):
    """One clip as files; the truth comes last and says that the others are whole. Returns its facts."""
    clip = make_clip(order, speech)
    video = Path(folder, f"{order.name}.mp4")
    part = video.with_suffix(".mp4.part")
    part.write_bytes(clip.video)
    part.replace(video)
    write_wav(video.with_suffix(".wav"), clip.wav, SAMPLE_RATE)
    write_truth(video.with_suffix(".truth.npz"), clip, order_key(order))
    return clip.info


def run(wanted, known, make, keep, n_frames, workers=1, progress=True):
    """Make clips in their order until there are n_frames frames and a clip of each split.

    wanted: endless `Order`s. known(order): number of frames of a clip that is there already, or None. make(order): result, in
    a worker process; keep(order, result): number of frames, here.
    """
    first, second = itertools.tee((order, known(order)) for order in wanted)
    results = map_in_order(functools.partial(_make_missing, make), second, workers)
    done = 0
    with contextlib.closing(results), tqdm(total=n_frames, unit="frame", disable=not progress) as bar:
        for count, ((order, there), result) in enumerate(zip(first, results, strict=False), 1):
            new = keep(order, result) if there is None else there
            done += new
            bar.update(new)
            if done >= n_frames and count >= len(schema.SPLITS):
                return


def _make_missing(make, item):
    order, there = item
    return make(order) if there is None else None


def build(output, wanted, minutes=12.0, workers=1, speech=None, progress=True):
    """Write, or go on with, a store of at least `minutes` of the clips of endless `Order`s -> its `meta`."""
    face = load_face_model("open")
    fixed = {"clip": ClipSettings().facts(), "face_model_hash": face.hash, "phonemes": list(PHONEMES)}
    with StoreWriter(output, fixed) as store:

        def known(order):
            if order.name not in store.journal:
                return None
            _check_key(output, order, store.journal[order.name]["key"])
            return store.journal[order.name]["info"]["n_frames"]

        def keep(order, result):
            records, info = result
            store.add(order.name, order_key(order), order.split, records, info)
            return info["n_frames"]

        first = next(wanted)
        wanted, speakers = itertools.chain([first], wanted), {}
        run(wanted, known, functools.partial(made_records, speech=speech), keep, _frames(minutes), workers, progress)
        for entry in store.journal.values():
            name = entry["info"]["speaker"]
            speakers[name] = draw_speaker(int(name.rsplit("_", 1)[1]), first.seed).facts()
        extra = {
            "rates": {"fps": FPS, "audio_hz": SAMPLE_RATE, "feature_hz": FEATURE_HZ},
            "face_model": face.name, "face_model_hash": face.hash, "layout": face.layout.sizes,
            "expression_names": list(face.expression_names), "phonemes": list(PHONEMES), "speakers": sorted(speakers),
            "synthetic": {"seed": first.seed, "version": VERSION, "styles": speakers},
        }  # fmt: skip
        return store.finish(extra, {})


def write_clips(folder, wanted, minutes=12.0, workers=1, speech=None, progress=True):
    """Write, or go on with, a folder of videos with their truth -> {name: facts}."""
    folder, facts = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)

    def known(order):
        truth = folder / f"{order.name}.truth.npz"
        if not truth.is_file():
            return None
        facts[order.name] = read_facts(truth)
        _check_key(folder, order, facts[order.name]["key"])
        return facts[order.name]["n_frames"]

    def keep(order, info):
        facts[order.name] = info
        return info["n_frames"]

    make = functools.partial(made_files, folder=str(folder), speech=speech)
    run(wanted, known, make, keep, _frames(minutes), workers, progress)
    return facts


def _frames(minutes):
    return round(minutes * 60 * FPS)


def _check_key(output, order, key):
    if key != order_key(order):
        raise StoreError(
            f"{output}: {order.name} was made with another seed, size, emotions, sentences or version of this program: "
            "build to a new path"
        )


def parse(argv):
    """Command line -> argparse namespace."""
    parser = argparse.ArgumentParser(
        prog="python -m data_process.synthetic", description="Make a corpus of made-up speakers with known motion."
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", help="LMDB folder to write or to go on with")
    target.add_argument("--clips", help="folder for mp4, wav and truth to write or to go on with")
    parser.add_argument("--sentences", default="data/sentences.txt", help="text, one sentence a line")
    parser.add_argument("--speakers", type=int, default=8, help="1 to 1000 (default 8)")
    parser.add_argument("--minutes", type=float, default=12.0, help="of speech at least (default 12)")
    parser.add_argument(
        "--most_sentences", type=int, default=MOST_SENTENCES, help="of one clip, 1 to 20, about 2.5 s each (default 3)"
    )
    parser.add_argument(
        "--val_share", type=float, default=VAL_SHARE, help="of sentences and clips (default %(default)s)"
    )
    parser.add_argument("--test_share", type=float, default=TEST_SHARE, help="the same (default %(default)s)")
    parser.add_argument("--emotions", nargs="+", choices=EMOTIONS, default=EMOTIONS, help="to draw from (default all)")
    parser.add_argument(
        "--render", type=int, metavar="SIZE",
        help="film the clips at this side in px, even, 64 to 1024 (default: no film in a store, 256 with --clips)",
    )  # fmt: skip
    parser.add_argument(
        "--render_splits", nargs="+", choices=schema.SPLITS, default=schema.SPLITS, help="film these only (default all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 or more (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    args = parser.parse_args(argv)
    if not 1 <= args.speakers <= 1000 or args.minutes <= 0 or args.seed < 0 or not 1 <= args.most_sentences <= 20:
        parser.error("1 to 1000 speakers, more than 0 minutes, 1 to 20 sentences and a seed of 0 or more are needed")
    if min(args.val_share, args.test_share) <= 0 or args.val_share + args.test_share > 0.8:
        parser.error("--val_share and --test_share must lie above 0 and leave at least 0.2 to train on")
    if args.render is not None and (args.render % 2 or not 64 <= args.render <= 1024):
        parser.error(f"--render {args.render}: an even number from 64 to 1024 is needed")
    if args.clips and tuple(args.render_splits) != schema.SPLITS:
        parser.error("--clips are all filmed: leave out --render_splits")
    return args


def main(argv=None):
    """Exit status: 0 the corpus is complete, 1 it could not be made, 130 after Ctrl-C."""
    args = parse(argv)
    target = args.output or args.clips
    try:
        size = args.render or (256 if args.clips else 0)
        wanted = orders(
            read_sentences(args.sentences), args.speakers, args.seed, size, args.render_splits, args.emotions,
            most_sentences=args.most_sentences, val_share=args.val_share, test_share=args.test_share,
        )  # fmt: skip
        if args.output:
            print(summary(build(target, wanted, args.minutes, args.workers)), end="")
        else:
            facts = write_clips(target, wanted, args.minutes, args.workers)
            minutes = sum(about["n_frames"] for about in facts.values()) / FPS / 60
            print(f"{target}: {len(facts)} clips, {minutes:.1f} min")
    except KeyboardInterrupt:
        print(f"\nstopped; what is in {target} is whole: run the same command to go on", file=sys.stderr)
        return 130
    except (StoreError, SpeechError, VisemeError, VideoError, WorkerError, AssetError, AudioError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
