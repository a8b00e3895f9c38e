"""One clip of somebody talking, 12 s or longer -> a person folder: track, texture, style, head motion, trained renderer.

    python -m scripts.personalize talk.mp4                      # -> data/people/talk
    python inference.py --person data/people/talk --driven_audio speech.wav

Stages: clean (25 fps, sound moved to the lips, bad stretches left out), track (3D reconstruction by landmarks and pixels), atlas (texture),
style, behaviour (how the head moves), renderer (train_style.py with configs/renderer_neural_texture.yaml). Each is done once: run the
same command again to go on after an interruption. The folder's layout: models/person.py. --hold_out leaves the end of the clip
unlearnt, to judge the renderer by.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import deepspeech
from data_process import clips
from data_process.face_tracks import track_quality, track_video, video_frames
from data_process.landmarks import NoFaceError
from data_process.outputs import write_aside
from data_process.video import VideoError, VideoWriter, probe, read_frames
from deep_3drecon.assets import REPOSITORY, AssetError, hash_file
from deep_3drecon.atlas import PersonTexture, TextureError, build_atlas
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import FitError
from deep_3drecon.photometric_frames import PhotometricError
from deep_3drecon.track import FPS, FaceTrack, TrackError
from models.behaviour import Behaviour
from models.checkpoint import git_commit
from models.person import Person, PersonError
from models.style import Style, StyleError
from scripts.inference.options import HelpWithDefaults

USER_ERRORS = (
    AssetError, FitError, NoFaceError, OSError, PersonError, PhotometricError, StyleError, TextureError, TrackError,
    VideoError,
)  # fmt: skip
LEAST_S = 12.0  # of clean video: the shortest clip that shows a person's mouth well enough
LONGEST_S = 600.0
KEYFRAMES = 12  # of clip.mp4: renderers read it forwards and backwards
CRF = 12
CONFIG = REPOSITORY / "configs" / "renderer_neural_texture.yaml"
# Minutes of the headpose paper's stages on a Titan Xp (its readme): beside which of ours they stand
PAPER = {"track": ("reconstruction", 2.0), "behaviour": ("audio network", 5.0), "renderer": ("GAN", 40.0)}


class PersonalizeError(ValueError):
    """A clip that is too short or shows no face, or a stage that failed."""


class Work:
    """The folder in progress: which stages are done, and how long each took (work/stages.json)."""

    def __init__(self, folder, source, settings):
        self.folder, self.work, self.source, self.settings = folder, folder / "work", source, settings
        self.work.mkdir(parents=True, exist_ok=True)
        self.path = self.work / "stages.json"
        made_from = {"source_sha256": hash_file(source), "settings": settings}
        try:
            known = json.loads(self.path.read_text())
        except FileNotFoundError:
            known = {}
        except json.JSONDecodeError as error:
            raise PersonalizeError(f"{self.path}: damaged ({error}): remove {folder} and start anew") from error
        if known and {name: known.get(name) for name in made_from} != made_from:
            raise PersonalizeError(
                f"{folder}: was begun with another clip or other settings: remove it, or give another --name"
            )
        self.state = made_from | {"seconds": known.get("seconds", {}), "done": known.get("done", [])}

    def stage(self, name, function):
        """Run a stage unless it was done before; counts its time, that of interrupted tries included."""
        if name in self.state["done"]:
            return
        print(f"{name} ...", flush=True)
        begun = time.monotonic()
        try:
            function(self)
            self.state["done"].append(name)
        finally:
            seconds = self.state["seconds"]
            seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - begun, 2)
            write_aside(self.path, json.dumps(self.state, indent=1) + "\n")

    def table(self):
        """The times of the stages beside the paper's, Markdown."""
        lines = ["| stage | minutes | the paper's | minutes, Titan Xp |", "|---|---:|---|---:|"]
        seconds = self.state["seconds"]
        for name in STAGES:
            if name in seconds:
                theirs, minutes = PAPER.get(name, ("", ""))
                lines.append(f"| {name} | {seconds[name] / 60:.1f} | {theirs} | {minutes} |")
        total = sum(minutes for _, minutes in PAPER.values())
        return "\n".join([*lines, f"| together | {sum(seconds.values()) / 60:.1f} | | {total} |"])


def clean(work):
    """The longest good stretch of the video -> clip.mp4, full frame."""
    length = probe(work.source).duration or 0
    if 0 < length < LEAST_S:
        raise PersonalizeError(too_short(work.source.name, length))
    output = work.work / "clips"
    arguments = ["--input", str(work.source), "--output", str(output), "--crop", "none"]
    arguments += ["--max_seconds", str(LONGEST_S), "--several_faces", work.settings["several_faces"]]
    code = clips.main(arguments)
    if code == 130:
        raise KeyboardInterrupt
    found = {path: probe(path).n_frames for path in sorted(output.glob("*.mp4"))}
    if not found:
        raise PersonalizeError(f"{work.source}: no stretch that can be used; {output}/report.txt says why")
    best = max(found, key=found.get)
    if found[best] < LEAST_S * FPS:
        raise PersonalizeError(too_short(f"{work.source.name}: its longest good stretch", found[best] / FPS))
    with VideoWriter(work.folder / "clip.mp4", fps=FPS, audio=str(best), crf=CRF, keyframes=KEYFRAMES) as video:
        for frame in read_frames(best):
            video.write(frame)


def too_short(what, seconds):
    return f"{what} lasts {seconds:.1f} s, {LEAST_S:.0f} s are needed to learn a face: film longer, one person alone, facing the camera"


def track(work):
    """clip.mp4 -> track.npz, refined by the pixels."""
    found = track_video(work.folder / "clip.mp4", photometric=True)
    found.save(work.folder / "track.npz")
    quality = track_quality(found)
    print(
        f"{len(found)} frames, face in {quality['tracked']:.1%}, off by {quality['reprojection']:.2f} % of the eyes' distance"
    )


def learning_span(n_frames, hold_out):
    """(first, end) of the frames that are learnt from."""
    return 0, n_frames - round(n_frames * hold_out)


def learnt(work):
    """FaceTrack of the frames that are learnt from, and the span."""
    whole = FaceTrack.load(work.folder / "track.npz")
    span = learning_span(len(whole), work.settings["hold_out"])
    if span[1] - span[0] < LEAST_S * FPS:
        raise PersonalizeError(too_short("what --hold_out leaves of the clip", (span[1] - span[0]) / FPS))
    return whole.select(slice(*span)), span


def atlas(work):
    """Texture of the person from the frames that are learnt from."""
    seen, (first, end) = learnt(work)
    read = video_frames(work.folder / "clip.mp4")

    def frames():
        for t, frame in enumerate(read()):
            if t == end:
                return
            if t >= first:
                yield frame

    build_atlas(seen, frames, load_face_model(seen.face_model)).save(work.folder / "atlas.npz")


def style(work):
    """How the person talks, measured."""
    seen, _ = learnt(work)
    lids = load_face_model(seen.face_model).index("eyeBlinkLeft", "eyeBlinkRight")
    Style.from_statistics(seen, work.folder.name, blink_columns=lids).save(work.folder / "style.json")


def behaviour(work):
    """How the head moves, measured; and person.json, with which the folder is whole but for the renderer."""
    seen, span = learnt(work)
    folder = work.folder
    loud = deepspeech.energy(deepspeech.load_audio(folder / "clip.mp4"))[2 * span[0] : 2 * span[1]]
    habit = Behaviour.measure(seen, {"energy": loud}, folder.name)
    person = Person(
        FaceTrack.load(folder / "track.npz"), PersonTexture.load(folder / "atlas.npz"),
        Style.load(folder / "style.json"), folder / "clip.mp4", habit, span,
    )  # fmt: skip
    person.about = {
        "name": folder.name,
        "source": work.source.name,
        "source_sha256": work.state["source_sha256"],
        "settings": work.settings,
        "versions": {"git_commit": git_commit(), "torch": metadata.version("torch"), "av": metadata.version("av")},
    }
    person.save(folder)


def renderer(work):
    """train_style.py on the person; goes on with a run that was interrupted."""
    run = work.folder / "renderer"
    command = [sys.executable, str(REPOSITORY / "train_style.py"), "--config", work.settings["config"]]
    command += [f"data.lmdb={work.folder}", f"run.output={run}", *work.settings["overrides"]]
    if (run / "last.pt").is_file():
        command.append("--resume")
    elif run.is_dir():
        shutil.rmtree(run)  # begun and never saved: nothing is lost
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    if done.returncode:
        raise PersonalizeError(
            f"the training of the renderer ended with status {done.returncode}; what it said stands above"
        )
    if not (run / "best.json").is_file():
        raise PersonalizeError("the training was stopped: run the same command to go on")


STAGES = {"clean": clean, "track": track, "atlas": atlas, "style": style, "behaviour": behaviour, "renderer": renderer}


def parse(argv=None):
    p = argparse.ArgumentParser(
        prog="scripts/personalize.sh", description=__doc__.split("\n")[0],
        formatter_class=HelpWithDefaults,
    )  # fmt: skip
    p.add_argument("clip", type=Path, help=f"video of one person talking, {LEAST_S:.0f} s or longer, with sound")
    p.add_argument("--name", help="name of the person (default: of the clip)")
    p.add_argument("--output", type=Path, default=Path("data/people"), help="folder of the person folders")
    p.add_argument("--hold_out", type=float, default=0.0, help="share of the clip, at its end, that is not learnt from")
    p.add_argument("--several_faces", choices=("reject", "largest"), default="reject", help="as in data_process.clips")
    p.add_argument("--config", default=str(CONFIG.relative_to(REPOSITORY)), help="settings of the renderer's training")
    p.add_argument("--no_renderer", action="store_true", help="leave out the training: the mesh renderer needs none")
    p.add_argument("overrides", nargs="*", help="settings of the training, such as optim.iterations=3000")
    args = p.parse_intermixed_args(argv)
    if not 0 <= args.hold_out <= 0.5:
        p.error(f"--hold_out {args.hold_out}: a share from 0 to 0.5 is needed")
    return args


def run(args):
    """The person folder of a clip."""
    if not args.clip.is_file():
        raise PersonalizeError(f"{args.clip}: no such file")
    folder = (args.output / (args.name or args.clip.stem)).resolve()
    settings = {name: getattr(args, name) for name in ("hold_out", "several_faces", "config", "overrides")}
    work = Work(folder, args.clip.resolve(), settings)
    for name, function in STAGES.items():
        if name != "renderer" or not args.no_renderer:
            work.stage(name, function)
    print(work.table())
    return folder


def main(argv=None):
    """Exit status: 0 done, 1 refused or failed with a reason, 130 interrupted."""
    try:
        print(run(parse(argv)))
    except KeyboardInterrupt:
        print("\nstopped: run the same command to go on", file=sys.stderr)
        return 130
    except (PersonalizeError, *USER_ERRORS) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
