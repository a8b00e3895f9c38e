"""Settings of `scripts.evaluate`: what is measured, on what, with which style and identity.

config = configs.load("configs/evaluate_grid_s1.yaml", ["clips=3"], EvaluateConfig)
"""

from dataclasses import dataclass, field
from typing import Literal

from configs import ConfigError


@dataclass
class StyleProtocol:
    """Where the style of a generated clip comes from; never from the frames under test."""

    clips: int = 0  # other clips of the speaker that are averaged, nearest in name first; 0: all of them
    same_emotion: bool = True  # only clips of the same emotion, where the speaker has any
    first_part: float = 0.5  # of a speaker's only clip: this share is the style, the rest is evaluated
    other: str | None = None  # a saved style (.json) for the row `other style`; None: the next speaker of the store


@dataclass
class EncodingConfig:
    """H.264 that every row is sent through before anything is measured on its pictures (`data_process.video_writer`)."""

    crf: int = 18
    preset: str = "veryfast"


@dataclass
class RendererConfig:
    """How motion becomes pictures."""

    name: str = "mesh"
    size: int = 256  # side of the square the head is drawn in
    seeds: int = 1  # of the seeds, so many are rendered; motion is measured for all


@dataclass
class ReportConfig:
    """What the page shows. Nothing here changes a number."""

    strata: list[str] = field(default_factory=lambda: ["speaker", "language", "emotion"])
    curves: int = 4  # clips whose lip opening is drawn against the truth
    worst: int = 3  # clips shown as contact sheets
    worst_by: str = "lve_mm"  # what makes a clip a bad one
    keep_videos: bool = False  # of the worst clips, beside the page


@dataclass
class EvaluateConfig:
    """Everything that `scripts.evaluate` needs to know. Rows `real`, `re-rendered` and `generated` are always there."""

    store: str = "data/lmdb"
    split: Literal["train", "val", "test"] = "test"
    checkpoint: str = "data/checkpoints/default"
    output: str = "data/runs/evaluate"
    clips: int = 0  # evenly spread over the split; 0: all
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    rows: list[str] = field(default_factory=lambda: ["other style", "mean style"])  # beside the three
    baselines: list[str] = field(default_factory=lambda: ["rest", "jaw by energy", "ridge"])
    gallery: list[str] = field(default_factory=list)  # more stores whose speakers are looked through in style retrieval
    control: int = 6  # clips whose sound is spoken in graded and blended styles to see how well a style steers; 0: none
    labels: dict[str, str] = field(default_factory=dict)  # strata of clips whose store says nothing, e.g. language: en
    video: bool = True  # false: motion only, for stores without video
    judges: list[str] = field(default_factory=list)  # networks of models.judges that are asked as well
    skip: list[str] = field(default_factory=list)  # metrics that are left out
    style: StyleProtocol = field(default_factory=StyleProtocol)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    device: str = "cpu"
    threads: int = 1  # of torch and of the drawing

    def check(self):
        """Refuse settings that no evaluation can use; called by `load`."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: {self.seeds} came, at least one and each once is needed (3 for a spread)")
        if not 0 < self.style.first_part < 1:
            raise ConfigError(f"style.first_part: {self.style.first_part} came, a share between 0 and 1 is needed")
        if not 0 <= self.encoding.crf <= 51:
            raise ConfigError(f"encoding.crf: {self.encoding.crf} came, 0 (lossless) to 51 is needed")
        if not 1 <= self.renderer.seeds <= len(self.seeds):
            raise ConfigError(
                f"renderer.seeds: {self.renderer.seeds} came, 1 to {len(self.seeds)} of the seeds can be rendered"
            )
        for name, value in {"clips": self.clips, "style.clips": self.style.clips, "control": self.control}.items():
            if value < 0:
                raise ConfigError(f"{name}: {value} came, a count is needed")
