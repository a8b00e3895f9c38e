"""The order in which training reads windows: the same for the same seed, on any number of workers, and resumable."""

import itertools

import torch
from torch.utils.data import DataLoader, Sampler


class EpochBatches(Sampler):
    """Batches of indices of one epoch for one of `world` processes, in an order that seed and epoch alone decide.

    A resumed run says which epoch it is in and how many batches to `skip`, and goes on where the first one stopped.
    """

    def __init__(self, n, batch_size, seed, rank, world):
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.epoch = self.skip = 0

    def __len__(self):
        return max(1, self.n // (self.batch_size * self.world))

    def __iter__(self):
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch))
        order = order.tolist()
        for i in range(self.skip, len(self)):
            batch = order[i * self.batch_size * self.world : (i + 1) * self.batch_size * self.world]
            yield batch[self.rank :: self.world]


def endless(dataset, batch_size, seed, iteration=0, workers=0, rank=0, world=1):
    """Batches of a dataset with `set_epoch`, from number `iteration` on, for ever, whoever reads them."""
    sampler = EpochBatches(len(dataset), batch_size, seed, rank, world)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    first = iteration // len(sampler)
    for epoch in itertools.count(first):
        dataset.set_epoch(epoch)
        sampler.epoch, sampler.skip = epoch, iteration % len(sampler) if epoch == first else 0
        yield from loader
