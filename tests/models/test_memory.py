"""Memory: what is written comes back, what is old is overwritten, and the loss draws queries to keys of the same face."""

import pytest
import torch
import torch.nn.functional as F

from models.memory import MARGIN, Memory


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def memory(slots=8):
    torch.manual_seed(0)
    return Memory(slots, 20, 6, 5)


def test_pairs_come_back_by_their_query():
    m, queries, values = memory(), unit(4, 6), unit(4, 5, seed=1)
    m.write(queries, values)
    assert m.written.sum() == 4
    torch.testing.assert_close(m.read(queries), values)


def test_the_same_face_moves_its_key_and_takes_no_new_place():
    m, value = memory(), unit(1, 5)
    a, b = unit(1, 6), F.normalize(unit(1, 6) + 0.1 * unit(1, 6, seed=3), dim=1)
    m.write(a, value)
    m.write(b, value)
    assert m.written.sum() == 1
    torch.testing.assert_close(m.keys[m.written], F.normalize(a + b, dim=1))
    assert m.ages[m.written].item() == 0 and (m.ages[~m.written] == 2).all()


def test_the_oldest_gives_way():
    m = memory(slots=3)
    m.ages += torch.tensor([100.0, 0.0, 50.0])
    m.write(unit(1, 6), unit(1, 5))
    assert m.written.tolist() == [True, False, False]


def test_loss_is_the_papers():
    m = memory(slots=2)
    m.keys.copy_(torch.eye(6)[:2])
    m.values.copy_(torch.eye(5)[:2])
    query = F.normalize(torch.tensor([[0.6, 0.8, 0, 0, 0, 0.0]]), dim=1)
    assert m.loss(query, torch.eye(5)[:1]).item() == pytest.approx(0.8 - 0.6 + MARGIN)
    assert m.loss(query, torch.eye(5)[1:2]).item() == pytest.approx(max(0.0, 0.6 - 0.8 + MARGIN))
    assert m.loss(query, torch.eye(5)[3:4]).item() == 0  # nobody like that is known


def test_training_the_map_lowers_the_loss():
    m, features = memory(64), torch.randn(40, 20)
    values = F.one_hot(torch.arange(40) % 4, 5).float()
    optimiser = torch.optim.Adam(m.parameters(), 1e-2)
    first = None
    for _ in range(40):
        query = m.query(features)
        loss = m.loss(query, values)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        m.write(query.detach()[::5], values[::5])
        first = loss.item() if first is None and loss > 0 else first
    assert first is not None and m.loss(m.query(features), values) < first
