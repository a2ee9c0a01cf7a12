"""A small convolutional network in numpy: inference and training.

Images are [N,1,8,8], probabilities [N,10]. Every convolution is 3x3 with zero padding and a ReLU, followed by 2x2 max
pooling and one dense layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]

BATCH = 64
LEARNING_RATE = 0.005


def initial_weights(channels: tuple[int, ...], random: np.random.Generator) -> Weights:
    """Return random weights (He's) for convolutions with these numbers of channels, on 8x8 images."""
    weights: Weights = {}
    before = 1
    for number, after in enumerate(channels):
        weights[f"conv{number}.weight"] = random.normal(0, (2 / (9 * before)) ** 0.5, (after, before, 3, 3))
        weights[f"conv{number}.bias"] = np.zeros(after)
        before = after
    weights["dense.weight"] = random.normal(0, (2 / (16 * before)) ** 0.5, (16 * before, 10))
    weights["dense.bias"] = np.zeros(10)
    return weights


def probabilities(weights: Weights, images: Array) -> Array:
    """Return the network's output, [N,10]; each row adds up to 1."""
    return _forward(weights, images)[0]


def train(weights: Weights, images: Array, digits: NDArray[Any], epochs: int, random: np.random.Generator) -> None:
    """Change the weights in place: Adam on the cross-entropy, with the rate falling to zero along a cosine."""
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    steps = epochs * -(-len(images) // BATCH)
    step = 0
    for _ in range(epochs):
        order = random.permutation(len(images))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            gradients = _gradients(weights, images[chosen], digits[chosen])
            rate = LEARNING_RATE * (1 + np.cos(np.pi * step / steps)) / 2
            step += 1
            for name, gradient in gradients.items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                mean, spread = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                weights[name] -= rate * mean / (np.sqrt(spread) + 1e-8)


def _forward(weights: Weights, images: Array) -> tuple[Array, list[Array], list[Array], Array]:
    """Return probabilities, each convolution's patches and output for the backward pass, and the pooled values."""
    patches: list[Array] = []
    activations: list[Array] = []
    values = images
    for number in range(len(weights) // 2 - 1):
        kernel = weights[f"conv{number}.weight"]
        patches.append(_patches(values))
        values = patches[-1] @ kernel.reshape(len(kernel), -1).T + weights[f"conv{number}.bias"]
        values = np.maximum(values, 0).transpose(0, 3, 1, 2)
        activations.append(values)
    count, channels = values.shape[:2]
    pooled = values.reshape(count, channels, 4, 2, 4, 2).max(axis=(3, 5))
    logits = pooled.reshape(count, -1) @ weights["dense.weight"] + weights["dense.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), patches, activations, pooled


def _gradients(weights: Weights, images: Array, digits: NDArray[Any]) -> Weights:
    """Return the gradient of the mean cross-entropy for each weight."""
    answer, patches, activations, pooled = _forward(weights, images)
    count = len(images)
    slope = answer.copy()
    slope[np.arange(count), digits] -= 1
    slope /= count
    gradients = {"dense.weight": pooled.reshape(count, -1).T @ slope, "dense.bias": slope.sum(axis=0)}
    at_pool = (slope @ weights["dense.weight"].T).reshape(pooled.shape)
    at_values = np.repeat(np.repeat(at_pool, 2, axis=2), 2, axis=3)
    at_values = at_values * (activations[-1] == np.repeat(np.repeat(pooled, 2, axis=2), 2, axis=3))
    for number in reversed(range(len(patches))):
        kernel = weights[f"conv{number}.weight"]
        at_conv = (at_values * (activations[number] > 0)).transpose(0, 2, 3, 1).reshape(-1, len(kernel))
        flat = patches[number].reshape(-1, patches[number].shape[-1])
        gradients[f"conv{number}.weight"] = (at_conv.T @ flat).reshape(kernel.shape)
        gradients[f"conv{number}.bias"] = at_conv.sum(axis=0)
        if number:
            # The backward pass of a convolution is the same convolution with a rotated kernel and swapped channels.
            turned = kernel[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
            spread = _patches(at_conv.reshape(count, 8, 8, -1).transpose(0, 3, 1, 2))
            at_values = (spread @ turned.reshape(len(turned), -1).T).transpose(0, 3, 1, 2)
    return gradients


def _patches(values: Array) -> Array:
    """Return each pixel's 3x3 neighborhood in every channel: [N,C,8,8] becomes [N,8,8,C*9]."""
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(values), 8, 8, -1)
