"""What a training step minimises: the weighted losses of an iteration and its learning rate."""

import math

import torch

from scripts.training.folder import RunError


def learning_rate(iteration, optim):
    """Rate of one iteration (from 0): linear warm-up, then constant, in steps, or half a cosine down to 0."""
    if iteration < optim.warmup:
        return optim.lr * (iteration + 1) / optim.warmup
    if optim.schedule == "steps":
        return optim.lr * optim.gamma ** sum(iteration >= milestone for milestone in optim.milestones)
    if optim.schedule == "constant":
        return optim.lr
    done = (iteration - optim.warmup) / max(1, optim.iterations - optim.warmup)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def weighted(parts, weights):
    """Total of losses by name. A loss without a weight is only reported, a weight without a loss belongs elsewhere."""
    used = [weight * parts[name] for name, weight in weights.items() if name in parts]
    if not used:
        raise RunError(
            f"loss: weights of {', '.join(weights) or 'nothing'} came, the method has {', '.join(parts)}: weigh these"
        )
    return sum(used)


def loss_weights(config, iteration):
    """Weights of the losses at one iteration (from 0)."""
    late = config.later_from and iteration >= config.later_from
    return config.loss | (config.loss_later if late else {})


def check_weights(weights, names):
    """Refuse a weight of a loss that no phase has."""
    unknown = sorted(set(weights) - set(names))
    if unknown:
        raise RunError(f"loss: weights of {unknown} came, the method has {', '.join(names)}: weigh these")


def check_finite(total, parts, batch, iteration):
    """Stop at the first loss that is not a number and say which part of it, and which clips."""
    if torch.isfinite(total):
        return
    bad = {name: value.item() for name, value in parts.items() if not torch.isfinite(value)}
    raise RunError(
        f"iteration {iteration}: loss is not finite: {bad or 'only the sum'}, clips {sorted(set(batch['clip'].tolist()))}: "
        "lower optim.lr, set optim.clip_norm or look at these clips; last.pt and best are from before"
    )
