"""Sums over sites that nobody can take apart: each site adds numbers that cancel in the sum only.

Every pair of sites agrees on a key (X25519, new for each run) that is bound to a secret which the hospitals share
and the coordinator doesn't have. For every request each pair stretches its key to a vector over the ring of
integers modulo 2^128; one of the pair adds it, the other takes it away. A masked vector is uniformly distributed
over the ring; the masks cancel only in the sum of all sites. A missing site leaves noise: the round fails closed.

After the pairwise masking of Bonawitz K et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS 2017, without its recovery from drop-outs.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...geometry import InputError, MissingPackageError, RefusedError

WORD_BYTES = 16
RING = 1 << (8 * WORD_BYTES)
FRACTION_BITS = 48
LARGEST = 2.0 ** 72


@dataclass(frozen=True)
class FixedPoint:
    """Floats as integers modulo 2^128, with 48 bits behind the point: steps of 3.6e-15, up to 2^72."""

    def encode(self, vector: np.ndarray) -> list[int]:
        """(n,) finite floats to ring elements; empty gives []. Raises InputError for NaN, inf or |x| >= 2^72."""
        values = np.asarray(vector, dtype=np.float64).ravel()
        if values.size and not (np.isfinite(values).all() and np.abs(values).max() < LARGEST):
            raise InputError("federated: a sum is not finite or beyond 2^72; look for wild values in the table")
        return [round(math.ldexp(value, FRACTION_BITS)) % RING for value in values.tolist()]

    def decode(self, elements: Sequence[int]) -> np.ndarray:
        """Ring elements to (n,) floats."""
        signed = [element - RING if element >= RING // 2 else element for element in elements]
        return np.array([value / (1 << FRACTION_BITS) for value in signed], dtype=np.float64)


def to_bytes(elements: Sequence[int]) -> bytes:
    """16 bytes for each element, least significant first."""
    return b"".join(element.to_bytes(WORD_BYTES, "little") for element in elements)


def from_bytes(data: bytes) -> list[int]:
    """The inverse of to_bytes. Raises InputError when bytes are left over."""
    if len(data) % WORD_BYTES:
        raise InputError("federated: a masked vector is cut short")
    return [int.from_bytes(data[i:i + WORD_BYTES], "little") for i in range(0, len(data), WORD_BYTES)]


def stretch(key: bytes, context: bytes, n: int) -> list[int]:
    """n ring elements from a key of 32 bytes for one context (SHAKE-256 as the generator, length-tagged input)."""
    seed = len(key).to_bytes(2, "big") + key + len(context).to_bytes(4, "big") + context
    return from_bytes(hashlib.shake_256(b"IRAI mask v1" + seed).digest(n * WORD_BYTES))


def pair_key(agreed: bytes, secret: bytes, run: str, first: str, second: str) -> bytes:
    """The key of a pair: HKDF-SHA256 (RFC 5869) of the agreed X25519 value, salted with the group's secret and
    bound to the run and to both public keys (hex, in sorted order)."""
    extracted = hmac.new(secret, agreed, hashlib.sha256).digest()
    info = "|".join(["IRAI pair v1", run, *sorted((first, second))]).encode()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def introduction(secret: bytes, run: str, public_hex: str, digest: str) -> str:
    """The tag by which the sites know each other's public keys: HMAC-SHA256 with the group's secret, hex."""
    return hmac.new(secret, f"IRAI site v1|{run}|{public_hex}|{digest}".encode(), hashlib.sha256).hexdigest()


def known(secret: bytes, run: str, public_hex: str, digest: str, tag: str) -> bool:
    """Whether the tag was made by one who has the group's secret."""
    return hmac.compare_digest(introduction(secret, run, public_hex, digest), tag)


def add_masks(elements: Sequence[int], own: str, keys: Mapping[str, bytes], context: bytes) -> list[int]:
    """A site's vector with the masks of all its pairs.

    `own`: this site's public key (hex); `keys`: public key of each other site -> key of the pair; `context`: names
    the run and the request, and must never be used twice. Raises RefusedError when there is no other site.
    """
    if not keys or own in keys:
        raise RefusedError("federated: there is no other site to hide among; a sum of one is that site's own value")
    masked = list(elements)
    for other, key in keys.items():
        mask = stretch(key, context, len(masked))
        sign = 1 if own < other else -1
        masked = [(value + sign * noise) % RING for value, noise in zip(masked, mask, strict=True)]
    return masked


def sum_masked(vectors: Sequence[Sequence[int]]) -> list[int]:
    """The sum over sites modulo 2^128. Raises InputError for an empty list or vectors of different lengths."""
    if not vectors or len({len(vector) for vector in vectors}) != 1:
        raise InputError("federated: the sites' vectors are missing or of different lengths")
    return [sum(column) % RING for column in zip(*vectors, strict=True)]


def new_key_pair() -> tuple[bytes, str]:
    """(private key, 32 bytes; public key, hex) on X25519. Raises MissingPackageError without `cryptography`."""
    private = _x25519().X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw().hex()


def agree(private: bytes, public_hex: str) -> bytes:
    """The value that both ends of a pair compute. Raises InputError for a key that isn't one."""
    module = _x25519()
    try:
        public = module.X25519PublicKey.from_public_bytes(bytes.fromhex(public_hex))
        return module.X25519PrivateKey.from_private_bytes(private).exchange(public)
    except ValueError as error:
        raise InputError("federated: a public key of another site is damaged") from error


def _x25519():
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
    except ImportError as error:
        raise MissingPackageError("federated learning needs cryptography: pip install flwr") from error
    return x25519
