"""Norms and duality maps written plainly in NumPy float64, one vector, row, column or tap at a
time.

Nothing here calls the library's mathematics: the library is compared with it. Its tree walk is the
recursion over compositions and concatenations, pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Abs,
    Add,
    Atom,
    AvgPool,
    Bias,
    Bond,
    ChannelRMS,
    Composition,
    Concatenation,
    Conv2D,
    Embed,
    Gain,
    Identity,
    Linear,
    Linf,
    MeanSubtract,
    Module,
    Mul,
    Norm,
    OneHot,
    ReLU,
    RMSNorm,
    ScaledReLU,
    SiLU,
    Softmax,
    Tanh,
)

Array = NDArray[np.float64]
Parts = dict[Atom, Array]
AnyModule = Module
Radius = float | tuple


# Vectors


def vector_norm(norm: type[Norm], x: Array) -> float:
    if norm is L1:
        return float(np.abs(x).sum())
    if norm is Linf:
        return float(np.abs(x).max())
    return float(np.sqrt((x**2).sum())) / (1.0 if norm is L2 else math.sqrt(len(x)))


def vector_dual_norm(norm: type[Norm], g: Array) -> float:
    """max of <g, t> over the unit ball of `norm`."""
    if norm is L1:
        return float(np.abs(g).max())
    if norm is Linf:
        return float(np.abs(g).sum())
    return float(np.sqrt((g**2).sum())) * (1.0 if norm is L2 else math.sqrt(len(g)))


def vector_dual(norm: type[Norm], g: Array) -> Array:
    """The maximiser of <g, t> over the unit ball of `norm`."""
    if not g.any():
        return np.zeros_like(g)
    if norm is L1:
        t = np.zeros_like(g)
        t[np.abs(g).argmax()] = np.sign(g[np.abs(g).argmax()])
        return t
    if norm is Linf:
        return np.sign(g)
    return g / np.sqrt((g**2).sum()) * (1.0 if norm is L2 else math.sqrt(len(g)))


def row_norm(domain: type[Norm], row: Array) -> float:
    """A row is a functional on the domain: its norm is the dual one."""
    return vector_dual_norm(domain, row)


def row_dual(domain: type[Norm], g: Array) -> Array:
    """The maximiser of <g, t> over the rows t of dual norm 1."""
    if not g.any():
        return np.zeros_like(g)
    if domain is L1:
        return np.sign(g)
    if domain is Linf:
        return vector_dual(L1, g)
    return g / np.sqrt((g**2).sum()) / (1.0 if domain is L2 else math.sqrt(len(g)))


# Matrices [d_out, d_in] and kernels [d_out, d_in, k_h, k_w]


def spectral_unit(domain: type[Norm], W: Array) -> float:
    return 1.0 if domain is L2 else math.sqrt(W.shape[0] / W.shape[1])


def polar_factor(G: Array, tolerance: float = 1e-12) -> Array:
    U, S, Vt = np.linalg.svd(G, full_matrices=False)
    kept = tolerance * max(S.max(), np.finfo(float).tiny) < S
    return (U * kept) @ Vt


def weight_norm(domain: type[Norm], codomain: type[Norm], W: Array) -> float:
    if domain is ChannelRMS:
        count = W.shape[2] * W.shape[3]
        return count * max(weight_norm(RMS, RMS, W[:, :, i, j]) for i, j in np.ndindex(W.shape[2:]))
    if domain in (L1, OneHot):
        return max(vector_norm(codomain, W[:, j]) for j in range(W.shape[1]))
    if codomain is Linf:
        return max(row_norm(domain, W[i]) for i in range(W.shape[0]))
    return float(np.linalg.svd(W, compute_uv=False).max()) / spectral_unit(domain, W)


def weight_dual_norm(domain: type[Norm], codomain: type[Norm], G: Array) -> float:
    if domain is ChannelRMS:
        count = G.shape[2] * G.shape[3]
        return (
            sum(weight_dual_norm(RMS, RMS, G[:, :, i, j]) for i, j in np.ndindex(G.shape[2:]))
            / count
        )
    if domain in (L1, OneHot):
        return sum(vector_dual_norm(codomain, G[:, j]) for j in range(G.shape[1]))
    if codomain is Linf:
        return sum(float(G[i] @ row_dual(domain, G[i])) for i in range(G.shape[0]))
    return float(np.linalg.svd(G, compute_uv=False).sum()) * spectral_unit(domain, G)


def weight_dual(domain: type[Norm], codomain: type[Norm], G: Array) -> Array:
    if domain is ChannelRMS:
        D = np.zeros_like(G)
        for i, j in np.ndindex(G.shape[2:]):
            D[:, :, i, j] = weight_dual(RMS, RMS, G[:, :, i, j]) / (G.shape[2] * G.shape[3])
        return D
    if domain in (L1, OneHot):
        return np.stack([vector_dual(codomain, G[:, j]) for j in range(G.shape[1])], axis=1)
    if codomain is Linf:
        return np.stack([row_dual(domain, G[i]) for i in range(G.shape[0])])
    return polar_factor(G) * spectral_unit(domain, G)


# Atoms


def _as_map(atom: Atom) -> tuple[type[Norm], type[Norm]]:
    if isinstance(atom, Linear):
        return atom.domain.norm, atom.codomain.norm
    return (ChannelRMS, ChannelRMS) if isinstance(atom, Conv2D) else (OneHot, RMS)


def _on_atom(atom: Atom, W: Array, vector: Callable, matrix: Callable):
    """Apply the function for vectors to a bias or a gain, and that for matrices to the rest."""
    if isinstance(atom, Bias):
        return vector(RMS, W)
    if isinstance(atom, Gain):
        return vector(Linf, W)
    return matrix(*_as_map(atom), W)


def atom_norm(atom: Atom, W: Array) -> float:
    return _on_atom(atom, W.T if isinstance(atom, Embed) else W, vector_norm, weight_norm)


def atom_dual_norm(atom: Atom, G: Array) -> float:
    return _on_atom(atom, G.T if isinstance(atom, Embed) else G, vector_dual_norm, weight_dual_norm)


def atom_dual(atom: Atom, G: Array) -> Array:
    D = _on_atom(atom, G.T if isinstance(atom, Embed) else G, vector_dual, weight_dual)
    return D.T if isinstance(atom, Embed) else D


# The recursion


def children(module: AnyModule) -> list[AnyModule]:
    """The modules inside, in the order in which data meets them."""
    return [child for _, child in torch.nn.Module.named_children(module)]


def atoms(module: AnyModule) -> list[Atom]:
    if isinstance(module, Atom):
        return [module]
    return (
        [atom for child in children(module) for atom in atoms(child)]
        if isinstance(module, (Composition, Concatenation))
        else []
    )


def mass(module: AnyModule) -> float:
    return sum(atom.mass for atom in atoms(module))


def sensitivity(module: AnyModule) -> float:
    if isinstance(module, (Atom, Bond)):
        return module.sensitivity
    inside = [sensitivity(child) for child in children(module)]
    return math.prod(inside) if isinstance(module, Composition) else sum(inside)


def _share(whole: float, part: float, size: float) -> float:
    """(m/m_i)·‖w_i‖: a part without mass may not move at all."""
    if size == 0:
        return 0.0
    return whole / part * size if part else math.inf


def downstream(module: AnyModule) -> dict[Atom, float]:
    """By how much the output of `module` changes at most for one unit at each atom's output."""
    if isinstance(module, Atom):
        return {module: 1.0}
    if isinstance(module, Bond):
        return {}
    found: dict[Atom, float] = {}
    for part in children(module):
        if isinstance(module, Composition):
            found = {atom: sensitivity(part) * s for atom, s in found.items()}
        found |= downstream(part)
    return found


def coefficients(module: AnyModule) -> dict[Atom, float]:
    """The factor of each atom's own dual in the dual of the whole, carried from pair to pair."""
    if isinstance(module, Atom):
        return {module: 1.0 if module.mass else 0.0}
    if isinstance(module, Bond):
        return {}
    if isinstance(module, Concatenation):
        m, found = mass(module), {}
        for part in children(module):
            found |= _times(mass(part) / m if m else 0.0, coefficients(part))
        return found
    return _chain_coefficients(children(module))


def _chain_coefficients(parts: Sequence[AnyModule]) -> dict[Atom, float]:
    """(m1/m)/s2 for all before the last part, m2/m for the last, times what each has inside."""
    last, before = parts[-1], parts[:-1]
    if not before:
        return coefficients(last)
    m1, m2 = sum(map(mass, before)), mass(last)
    m = m1 + m2 or 1.0
    return _times(m1 / m / sensitivity(last), _chain_coefficients(before)) | _times(
        m2 / m, coefficients(last)
    )


def _times(factor: float, numbers: dict[Atom, float]) -> dict[Atom, float]:
    return {atom: factor * number for atom, number in numbers.items()}


def norm(module: AnyModule, w: Parts) -> float:
    if isinstance(module, Atom):
        return _share(module.mass, module.mass, atom_norm(module, w[module]))
    if isinstance(module, Bond):
        return 0.0
    if isinstance(module, Concatenation):
        return max(_share(mass(module), mass(part), norm(part, w)) for part in children(module))
    return _chain_norm(children(module), w)


def _chain_norm(parts: Sequence[AnyModule], w: Parts) -> float:
    """‖(w1, w2)‖ = max( s2·(m/m1)·‖w1‖, (m/m2)·‖w2‖ ), where M2 is the last part and M1 all before
    it.
    """
    last, before = parts[-1], parts[:-1]
    if not before:
        return norm(last, w)
    m1, m2 = sum(map(mass, before)), mass(last)
    return max(
        sensitivity(last) * _share(m1 + m2, m1, _chain_norm(before, w)),
        _share(m1 + m2, m2, norm(last, w)),
    )


def dual_norm(module: AnyModule, g: Parts) -> float:
    if isinstance(module, Atom):
        return atom_dual_norm(module, g[module]) if module.mass else 0.0
    if isinstance(module, Bond):
        return 0.0
    if isinstance(module, Concatenation):
        m = mass(module)
        return sum(mass(part) / m * dual_norm(part, g) for part in children(module) if m)
    return _chain_dual_norm(children(module), g)


def _chain_dual_norm(parts: Sequence[AnyModule], g: Parts) -> float:
    last, before = parts[-1], parts[:-1]
    if not before:
        return dual_norm(last, g)
    m1, m2 = sum(map(mass, before)), mass(last)
    if m1 + m2 == 0:
        return 0.0
    return m1 / (m1 + m2) / sensitivity(last) * _chain_dual_norm(before, g) + m2 / (
        m1 + m2
    ) * dual_norm(last, g)


def dualize(module: AnyModule, g: Parts) -> Parts:
    if isinstance(module, Atom):
        return {module: atom_dual(module, g[module]) if module.mass else np.zeros_like(g[module])}
    if isinstance(module, Bond):
        return {}
    if isinstance(module, Concatenation):
        m, found = mass(module), {}
        for part in children(module):
            found |= _scaled(mass(part) / m if m else 0.0, dualize(part, g))
        return found
    return _chain_dualize(children(module), g)


def _chain_dualize(parts: Sequence[AnyModule], g: Parts) -> Parts:
    """( (m1/m)/s2 · D1(g1), (m2/m) · D2(g2) )."""
    last, before = parts[-1], parts[:-1]
    if not before:
        return dualize(last, g)
    m1, m2 = sum(map(mass, before)), mass(last)
    m = m1 + m2 or 1.0
    return _scaled(m1 / m / sensitivity(last), _chain_dualize(before, g)) | _scaled(
        m2 / m, dualize(last, g)
    )


def _scaled(factor: float, parts: Parts) -> Parts:
    return {atom: factor * part for atom, part in parts.items()}


# Radii


def radii(module: AnyModule, entering: Radius) -> tuple[Radius, list[tuple[str, Radius]]]:
    """The largest norm of the output, and of what enters each atom, by recursion over the tree.

    A tuple stands for a tuple of values, a part each.
    """
    return _radii(module, entering, "")


def _radii(module: AnyModule, entering: Radius, path: str):
    if isinstance(module, (Composition, Concatenation)):
        read, outputs = [], []
        for name, part in torch.nn.Module.named_children(module):
            output, inside = _radii(part, entering, f"{path}.{name}".lstrip("."))
            read += inside
            outputs.append(output)
            if isinstance(module, Composition):
                entering = output
        return outputs[-1] if isinstance(module, Composition) else tuple(outputs), read
    read = [(path, entering)] if isinstance(module, Atom) else []
    return _radius_of(module, entering), read


def _radius_of(module: AnyModule, R: Radius) -> Radius:
    """By each operation's own estimate |f(x)| ≤ …, for a weight of norm 1."""
    if isinstance(module, (Linear, Embed, Conv2D, Gain, Identity, ReLU, GELU, SiLU, Tanh, Abs)):
        return R
    if isinstance(module, (AvgPool, MeanSubtract)):
        return R
    if isinstance(module, Bias):
        return R + 1
    if isinstance(module, (RMSNorm, Softmax)):
        return 1.0
    if isinstance(module, ScaledReLU):
        return math.sqrt(2) * R
    if isinstance(module, Mul):
        return (
            tuple(abs(module.scale) * r for r in R)
            if isinstance(R, tuple)
            else (abs(module.scale) * R)
        )
    assert isinstance(module, Add), module
    return sum(R)


# Muon


def muon(G: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The iteration of torch.optim.Muon on one matrix: one polynomial, five times, in bfloat16
    (Jordan et al. 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.bfloat16() if G.shape[0] <= G.shape[1] else G.bfloat16().T
    X = X / X.norm()
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X if G.shape[0] <= G.shape[1] else X.T
