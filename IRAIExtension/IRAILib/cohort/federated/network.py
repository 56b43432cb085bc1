"""A small network for a binary outcome: one tanh layer, in plain numpy; local training and federated averaging.

FedAvg: McMahan B et al., AISTATS 2017. The proximal term: Li T et al., FedProx, MLSys 2020.
"""

from __future__ import annotations

import numpy as np


def n_weights(p: int, hidden: int) -> int:
    """How many weights a network of p inputs has."""
    return hidden * (p + 1) + hidden + 1


def first_weights(p: int, hidden: int, seed: int) -> np.ndarray:
    """(n_weights,) start values, the same wherever the seed is the same."""
    random = np.random.default_rng(seed)
    weights = np.zeros(n_weights(p, hidden))
    weights[:hidden * p] = random.normal(0, 1 / np.sqrt(max(p, 1)), hidden * p)
    weights[hidden * (p + 1):-1] = random.normal(0, 1 / np.sqrt(hidden), hidden)
    return weights


def forward(weights: np.ndarray, x: np.ndarray, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) inputs -> (n,) log odds, (n, hidden) activations."""
    p = x.shape[1]
    first = weights[:hidden * p].reshape(hidden, p)
    activation = np.tanh(x @ first.T + weights[hidden * p:hidden * (p + 1)])
    return activation @ weights[hidden * (p + 1):-1] + weights[-1], activation


def loss_and_gradient(weights: np.ndarray, x: np.ndarray, y: np.ndarray, hidden: int,
                      decay: float) -> tuple[float, np.ndarray]:
    """Mean cross entropy plus decay/2 |weights of the layers|^2, and its gradient (n_weights,). n must be >= 1."""
    n, p = x.shape
    logit, activation = forward(weights, x, hidden)
    error = (0.5 * (1 + np.tanh(0.5 * logit)) - y) / n
    back = np.outer(error, weights[hidden * (p + 1):-1]) * (1 - activation ** 2)
    gradient = np.concatenate([(back.T @ x).ravel(), back.sum(axis=0), activation.T @ error, [error.sum()]])
    penalised = np.ones(len(weights), dtype=bool)
    penalised[hidden * p:hidden * (p + 1)] = False
    penalised[-1] = False
    gradient[penalised] += decay * weights[penalised]
    loss = float(np.mean(np.logaddexp(0, logit) - y * logit)) + 0.5 * decay * float(weights[penalised] @
                                                                                   weights[penalised])
    return loss, gradient


def train_locally(start: np.ndarray, x: np.ndarray, y: np.ndarray, *, hidden: int, epochs: int, learning_rate: float,
                  decay: float, proximal: float) -> np.ndarray:
    """Full-batch descent from `start`, held near it by proximal/2 |w - start|^2; the gradient's length is kept
    below 1. Nothing is random. No rows give `start`."""
    weights = np.array(start, dtype=np.float64)
    if len(x) == 0:
        return weights
    for _ in range(epochs):
        _, gradient = loss_and_gradient(weights, x, y, hidden, decay)
        gradient += proximal * (weights - start)
        weights -= learning_rate * gradient / max(1.0, float(np.linalg.norm(gradient)))
    return weights
