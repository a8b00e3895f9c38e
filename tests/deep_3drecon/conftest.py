import numpy as np
import pytest


@pytest.fixture(scope="session")
def basel(tmp_path_factory):
    """A stand-in for the Basel model, of its true sizes: see `stand_ins.BaselLike`."""
    from tests.deep_3drecon.stand_ins import basel_like

    return basel_like(tmp_path_factory.mktemp("models") / "bfm")


@pytest.fixture(scope="session")
def ict_folder(tmp_path_factory):
    """A stand-in for the folder FaceXModel: see `stand_ins.ict_like`."""
    from tests.deep_3drecon.stand_ins import ict_like

    return ict_like(tmp_path_factory.mktemp("models") / "FaceXModel")


@pytest.fixture(scope="session")
def made_turn():
    """A second of a made person who turns the head and moves the mouth: `made_turns.Turn`."""
    from data_process.made_turns import make_turn

    return make_turn(3, n_frames=26, size=192)


@pytest.fixture(scope="session")
def shaken(made_turn):
    """The track of the same from landmarks that err as our landmarker does on turned heads, and the fit does not know it."""
    import torch

    from deep_3drecon.face_model import load_face_model
    from deep_3drecon.fit import fit_clip
    from deep_3drecon.landmark_bias import bias

    truth = made_turn.truth
    wrong = (
        bias(torch.tensor(truth.parts()["angle"])).numpy() / np.linalg.norm(truth.crop[:, :1, :2], axis=-1)[..., None]
    )
    points = truth.landmarks + wrong
    return fit_clip(points, 0 * truth.scores, truth.valid, truth.frame_size, 25, load_face_model("open"))
