"""Shading against the golden values of specs/face_3dmm.md 3.3, normals against shapes whose normals are known."""

import numpy as np
import pytest
import torch

from deep_3drecon.shading import sh_basis, sh_shade, vertex_normals

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


def cube_triangles():
    """Twelve triangles, counter-clockwise seen from outside."""
    triangles = []
    for axis in range(3):
        for side in (-1, 1):
            face = np.nonzero(CUBE[:, axis] == side)[0]
            for ids in (face[[0, 1, 2]], face[[1, 3, 2]]):
                a, b, c = CUBE[ids]
                triangles.append(ids if np.cross(b - a, c - a)[axis] * side > 0 else ids[[0, 2, 1]])
    return np.array(triangles, np.int32)


def sphere(rows=20, columns=31):
    """A unit sphere whose first and last column lie at the same place: vertices, triangles, weld."""
    down, around = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    vertices = np.stack([np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)], -1)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = i * columns + j
    triangles = np.stack([a, a + columns, a + 1, a + 1, a + columns, a + columns + 1], -1).reshape(-1, 3)
    weld = np.arange(rows * columns).reshape(rows, columns)
    weld[:, -1] = weld[:, 0]
    weld[0], weld[-1] = weld[0, 0], weld[-1, 0]
    return vertices.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32), weld.reshape(-1)


def test_basis_golden_values():
    normals = torch.tensor([[0.0, 0.0, 1.0], [1 / 3, 2 / 3, 2 / 3]])
    golden = torch.tensor(
        [
            [0.886227, 0, 1.772454, 0, 0, 0, 1.401248, 0, 0],
            [0.886227, -1.181636, 1.181636, -0.590818, 0.539341, -1.078681, 0.233541, -0.539341, -0.404505],
        ]
    )
    torch.testing.assert_close(sh_basis(normals), golden, atol=1e-5, rtol=0)
    torch.testing.assert_close(sh_basis(normals.view(2, 1, 1, 3)), golden.view(2, 1, 1, 9), atol=1e-5, rtol=0)


def test_bands_are_orthogonal_over_the_sphere():
    """Nine independent lights: their products average to zero over all directions."""
    i = torch.arange(20000) + 0.5
    z, turn = 1 - 2 * i / 20000, i * 2.399963229728653
    ring = (1 - z * z).sqrt()
    bands = sh_basis(torch.stack([ring * turn.cos(), ring * turn.sin(), z], -1))
    product = bands.T @ bands / len(bands)
    assert (product - torch.diag(torch.diagonal(product))).abs().max() < 1e-3


def test_no_light_is_the_ambient_grey():
    albedo = torch.rand(2, 5, 3) * 255
    normals = torch.nn.functional.normalize(torch.randn(2, 5, 3), dim=-1)
    torch.testing.assert_close(sh_shade(albedo, normals, torch.zeros(2, 27)), 0.708982 * albedo, atol=1e-3, rtol=0)


def test_channels_bands_and_batches_are_kept_apart():
    generator = torch.Generator().manual_seed(0)
    albedo = torch.rand(2, 4, 6, 3, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(2, 4, 6, 3, generator=generator), dim=-1)
    gamma = torch.randn(2, 27, generator=generator)
    colour = sh_shade(albedo, normals, gamma)
    for b, y, x, channel in [(0, 0, 0, 0), (1, 3, 5, 1), (0, 2, 4, 2)]:
        light = gamma[b, 9 * channel : 9 * channel + 9].clone()
        light[0] += 0.8
        expected = albedo[b, y, x, channel] * (sh_basis(normals[b, y, x]) @ light)
        torch.testing.assert_close(colour[b, y, x, channel], expected)
    torch.testing.assert_close(sh_shade(albedo[1, 2, 3], normals[1, 2, 3], gamma[1]), colour[1, 2, 3])
    torch.testing.assert_close(sh_shade(albedo[1], normals[1], gamma[1]), colour[1])
    per_pixel = gamma[:, None, None].expand(2, 4, 6, 27)
    torch.testing.assert_close(sh_shade(albedo, normals, per_pixel), colour)
    with pytest.raises(ValueError, match="27"):
        sh_shade(albedo, normals, gamma[:, :9])


def test_normals_of_a_sphere_are_its_radii():
    vertices, triangles, weld = sphere()
    normals = vertex_normals(vertices, triangles, weld)
    along = (normals * vertices).sum(-1)
    assert along.min() > 0.97  # next to the poles, where the triangles around a vertex are least alike
    assert along[np.abs(vertices[:, 1]) < 0.5].min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)


def test_faces_count_alike_however_large():
    """The two triangles of a cube's side must not outweigh one: a corner seen by n triangles of three sides."""
    triangles = cube_triangles()
    normals = vertex_normals(CUBE, triangles)
    for vertex in range(8):
        total = np.zeros(3)
        for ids in triangles[(triangles == vertex).any(1)]:
            a, b, c = CUBE[ids]
            face = np.cross(a - b, b - c)
            total += face / np.linalg.norm(face)
        np.testing.assert_allclose(normals[vertex], total / np.linalg.norm(total), atol=1e-6)
    stretched = CUBE * np.float32([1.0, 1.0, 50.0])
    np.testing.assert_allclose(vertex_normals(stretched, triangles), normals, atol=1e-6)


def test_weld_gives_seam_vertices_one_normal():
    vertices, triangles, weld = sphere()
    split, whole = vertex_normals(vertices, triangles), vertex_normals(vertices, triangles, weld)
    seam = np.nonzero(weld != np.arange(len(weld)))[0]
    np.testing.assert_array_equal(whole[seam], whole[weld[seam]])
    assert np.abs(split[seam] - split[weld[seam]]).max() > 0.05
    joined = vertex_normals(vertices, weld[triangles])  # the same mesh with the doubled vertices gone
    np.testing.assert_allclose(whole[weld == np.arange(len(weld))], joined[weld == np.arange(len(weld))], atol=1e-5)


def test_kernel_torch_and_batch_agree_and_the_gradient_is_right():
    vertices, triangles, weld = sphere(8, 9)
    generator = torch.Generator().manual_seed(1)
    batch = torch.from_numpy(vertices) + 0.05 * torch.randn(2, 3, len(vertices), 3, generator=generator)
    fast = vertex_normals(batch, triangles, weld)
    assert torch.is_tensor(fast) and fast.shape == batch.shape
    slow = vertex_normals(batch.clone().requires_grad_(), triangles, weld)
    torch.testing.assert_close(fast, slow.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(fast[1, 2], vertex_normals(batch[1, 2], torch.from_numpy(triangles), weld))
    corner = torch.from_numpy(CUBE).double() + 0.1 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, cube_triangles()), corner.requires_grad_())


def test_faces_without_area_and_lone_vertices_give_zero():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [7, 7, 7]], np.float32)
    normals = vertex_normals(vertices, np.array([[0, 1, 2], [0, 1, 3]]))
    np.testing.assert_allclose(normals[:3], [[0, 0, 1]] * 3)
    assert not normals[3:].any()


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="there are 8"):
        vertex_normals(CUBE, np.array([[0, 1, 8]]))
    with pytest.raises(ValueError, match="weld"):
        vertex_normals(CUBE, cube_triangles(), np.arange(5))
