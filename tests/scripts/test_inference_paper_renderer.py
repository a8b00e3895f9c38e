"""A person drawn by the paper's renderer, which was not trained on them."""

import numpy as np
import torch

from data_process.video import read_frames
from deep_3drecon.face_model import load_face_model
from models import checkpoint
from models.person import Person
from models.style_avatar_renderer import StyleAvatarRenderer
from scripts.inference.person import PersonDrawer
from tests.made_person import made_person


def test_a_person_is_drawn_in_the_clips_frames(tmp_path):
    model, folder = load_face_model("open"), tmp_path / "anna"
    made_person(folder)
    torch.manual_seed(0)
    about = {"face_model": model.name, "face_model_hash": model.hash, "size": 64, "n_people": 9, "heads": 1.5}
    checkpoint.save(
        folder / "renderer/best", "style_avatar_renderer", StyleAvatarRenderer({"preset": "tiny", "dims": {}}, about)
    )
    person = Person.load(folder, read_frames)
    drawer = PersonDrawer(person, checkpoint.load(person.renderer), {"_full": True, "_face": False})
    motion = {"exp": np.zeros((3, 52)), "angle": np.zeros((3, 3)), "trans": np.zeros((3, 3))}
    motion["exp"][2] = 0.3
    motion = {name: value.astype(np.float32) for name, value in motion.items()}
    drawer.plan(motion)
    frames = list(drawer.draw(motion))
    assert [full.shape for full, _ in frames] == [(48, 64, 3)] * 3 and frames[0][1].shape == (64, 64, 3)
    assert (frames[0][1] == frames[1][1]).all() and (frames[0][1] != frames[2][1]).any()
