import numpy as np
import pytest
import torch

from deep_3drecon.face_model import FaceModelError, load_face_model
from deep_3drecon.landmarks import INNER_LIP_LOWER, INNER_LIP_UPPER, LIPS, lip_opening

REST = torch.zeros(80), torch.zeros(52)


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


def rest_with(head, **expressions):
    exp = torch.zeros(52)
    for name, value in expressions.items():
        exp[head.index(name)] = value
    return head.vertices(torch.zeros(80), exp)


def test_sizes_and_names(head):
    assert head.layout.size == 80 + 52 + 0 + 3 + 27 + 3
    assert head.n_vertices == len(head.uv) == len(head.weld) == 5070 and len(head.triangles) == 9528
    assert len(set(head.expression_names)) == 52 and head.expression_names[-1] == "tongueOut"
    assert head.uv.min() >= 0 and head.uv.max() <= 1
    with pytest.raises(FaceModelError, match="available: open"):
        load_face_model("bmf")


def test_faces_look_outwards_and_seams_are_welded(head):
    vertices = head.vertices(*REST)
    assert torch.equal(vertices, vertices[torch.from_numpy(head.weld)])
    normals = head.normals(vertices)
    face = torch.from_numpy(head.regions["face"])
    front = face[vertices[face, 2] > 0.2]
    assert (normals[front, 2] > 0).float().mean() > 0.85  # the rest are nostrils and the inner side of lids


def test_mean_head_is_symmetric(head):
    mirrored = head.mean[torch.from_numpy(head.mirror)] * torch.tensor([-1.0, 1, 1])
    assert torch.allclose(mirrored, head.mean, atol=1e-5)


def test_atlas_is_one_to_one_on_the_face(head):
    corner = head.uv[head.triangles]
    ab, ac = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    face = np.isin(head.triangles, head.regions["face"]).all(1)
    assert (np.sign(area[face]) == np.sign(np.median(area[face]))).mean() > 0.995
    assert np.abs(area[face]).sum() / 2 > 0.2  # the face has at least a fifth of the texels


def test_jaw_opens_the_lips_and_blinks_stay_on_their_side(head):
    rest = head.landmarks(head.vertices(*REST))
    opened = head.landmarks(rest_with(head, jawOpen=0.6))
    assert lip_opening(opened.numpy()) > lip_opening(rest.numpy()) + 0.1
    moved = (rest_with(head, eyeBlinkLeft=1.0) - head.vertices(*REST)).norm(dim=-1)
    assert moved[head.mean[:, 0] > 0.1].max() > 0.05
    assert moved[head.mean[:, 0] < -0.1].max() < 1e-4


def test_gaze_turns_the_eyeball_without_bending_it(head):
    eye = torch.from_numpy(head.regions["eyeball_left"])
    rest, turned = head.vertices(*REST)[eye], rest_with(head, eyeLookOutLeft=1.0)[eye]
    assert torch.allclose(torch.cdist(rest, rest), torch.cdist(turned, turned), atol=1e-3)
    assert (turned - rest)[rest[:, 2].argmax(), 0] > 0.02  # outwards, to the subject's left


def test_landmarks_lie_where_their_names_say(head):
    points = head.landmarks(head.vertices(*REST))
    assert points[1, 2] == points[:468, 2].max() or points[:468, 2].max() - points[1, 2] < 0.05  # nose tip in front
    assert points[473, 0] > 0.25 > -0.25 > points[468, 0]
    assert (points[INNER_LIP_UPPER, 1] >= points[INNER_LIP_LOWER, 1] - 0.01).all()
    lips = torch.from_numpy(head.regions["lips"])
    assert torch.cdist(points[LIPS], head.vertices(*REST)[lips]).min(1)[0].max() < 0.06
    sixty_eight = head.landmarks(head.vertices(*REST), 68)
    assert torch.allclose(
        sixty_eight[36:42].mean(0) * torch.tensor([-1.0, 1, 1]), sixty_eight[42:48].mean(0), atol=0.01
    )


def test_vertices_of_a_batch_equal_single_ones(head):
    g = torch.Generator().manual_seed(0)
    id, exp = torch.randn(3, 80, generator=g), torch.rand(3, 52, generator=g)
    batch = head.vertices(id, exp)
    for k in range(3):
        assert torch.allclose(batch[k], head.vertices(id[k], exp[k]), atol=1e-5)
