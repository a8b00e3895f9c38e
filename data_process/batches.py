"""What training reads, by kind, and in which order: the same for the same seed, on any number of workers, and resumable."""

import itertools
from importlib import import_module

import torch
from torch.utils.data import DataLoader, Sampler

# Kind of data -> its `open_split(data: configs.DataConfig, split, seed)`, which gives a dataset: for "train" one with
# `set_epoch`, for "val" any with length and index. A dataset with `about()` gives the model's constructor its facts;
# without it they are the stats.json of the store. A new kind is one file and one line here.
DATASETS = {
    "motion": "data_process.dataset:open_split",
    "pictures": "data_process.pictures:open_split",
    "poses": "data_process.poses:open_split",
    "meshes": "data_process.meshes_dataset:open_split",
    "mesh_vertices": "data_process.meshes_dataset:open_vertices",
}


def open_dataset(kind, data, split, seed):
    """The dataset of one split; kind: a name of DATASETS."""
    if kind not in DATASETS:
        raise KeyError(f"data of kind {kind!r} came, there is {', '.join(sorted(DATASETS))}: use one of these names")
    module, name = DATASETS[kind].split(":")
    return getattr(import_module(module), name)(data, split, seed)


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
