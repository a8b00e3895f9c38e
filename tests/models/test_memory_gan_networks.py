"""Networks of the memory-augmented GAN: the original's outputs, and our small form."""

import pytest
import torch

from models.memory_gan_networks import SMALL_WIDTHS, MemoryGenerator, PatchDiscriminator, released_name
from tests.models.golden import fill, golden, inputs, largest_miss


def test_discriminator_equals_the_original():
    network, numbers = PatchDiscriminator(), golden("headpose__patch_discriminator")
    assert sum(p.numel() for p in network.parameters()) == numbers["parameters"] == 2_774_849
    for rule in "AB":
        with torch.no_grad():
            assert largest_miss([fill(network, numbers, rule)(*inputs(numbers, torch.float32))], numbers, rule) <= 1


def test_paper_generator_equals_the_original():
    numbers = golden("headpose__generator")
    network = MemoryGenerator()
    assert sum(p.numel() for p in network.parameters()) == numbers["parameters"] == 259_055_556
    spoken_of = {released_name(name) for name in network.state_dict()}
    others = [name for name, *_ in numbers["state_dict"] if name not in spoken_of]
    # what is left: level convolutions under their second name, and statistics without effect
    assert all(name.split(".", 1)[1].startswith(("conv.", "deconv.", "body.2.running")) for name in others)
    for rule in "AB":
        fill(network, numbers, rule, released_name)
        with torch.no_grad():
            assert largest_miss(network(*inputs(numbers, torch.float32)), numbers, rule) <= 1


def test_small_generator_listens_to_the_identity_and_is_the_same_twice():
    torch.manual_seed(0)
    network = MemoryGenerator(SMALL_WIDTHS[:5], n_identity=16, perceptron=False)
    assert sum(p.numel() for p in MemoryGenerator(SMALL_WIDTHS, 512, False).parameters()) < 30e6
    frames, identity = torch.rand(2, 9, 64, 64), torch.randn(2, 16)
    with pytest.raises(AssertionError), torch.no_grad():  # in training, dropout differs from call to call
        torch.testing.assert_close(network(frames, identity)[0], network(frames, identity)[0])
    network.eval()
    with torch.no_grad():
        colour, attention = network(frames, identity)
        torch.testing.assert_close(network(frames, identity)[0], colour, rtol=0, atol=0)
        other = network(frames, identity.flip(0))[0]
    assert colour.shape == (2, 3, 64, 64) and attention.shape == (2, 1, 64, 64)
    assert 0 <= attention.min() and attention.max() <= 1
    assert (other - colour).abs().mean() > 1e-4
