"""Bucketing: rows, references and wrong versions."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS
from tests.rules.case import Poisoned, RuleCase
from tests.rules.mean import mean
from tests.rules.rounding import equals_reference, wide


def bucketing(updates, members, bucket_size):
    """Karimireddy et al. 2022: the mean of every bucket; `members[b, i]`: is row i in bucket b?"""
    rows = np.asarray(updates, np.float64)
    sizes = [bucket_size] * (len(rows) // bucket_size)
    if len(rows) % bucket_size:
        sizes.append(len(rows) % bucket_size)
    assert members.sum(1).tolist() == sizes
    assert (members.sum(0) == 1).all()
    return np.stack([mean(rows[np.flatnonzero(inside)]) for inside in members])


@lru_cache
def _buckets_of_identity(bucket_size: int) -> Callable[..., jax.Array]:
    bucketing = PRE_AGGREGATORS["bucketing"].function
    return jax.jit(lambda identity, key: bucketing(identity, key, bucket_size=bucket_size))


def bucket_members(updates: Any, key: jax.Array, *, bucket_size: int) -> tuple[np.ndarray]:
    """Which rows `bucketing` put into which bucket, read off the rows of the identity."""
    identity = np.eye(len(updates), dtype=np.float32)
    return (np.asarray(_buckets_of_identity(bucket_size)(identity, key)) > 0,)


def whole_buckets_stay(bucket_size: int) -> Callable[[Poisoned], bool]:
    """For bucketing: a bucket without a hostile row is what it was."""

    def criterion(seen: Poisoned) -> bool:
        (members,) = bucket_members(seen.updates, seen.others["key"], bucket_size=bucket_size)
        whole = ~np.delete(members, seen.kept, axis=1).any(1)
        return whole.any() and np.allclose(seen.result[whole], seen.clean[whole], rtol=1e-5, atol=1e-6)

    return criterion


def of_bucket(case, rows, others, expected):
    (members,) = case.draws(rows, others["key"], **case.hyper)
    return np.stack([np.abs(rows[inside]).max(0) for inside in members])


def in_order(updates, bucket_size):
    rows = wide(updates)
    return np.stack([rows[i : i + bucket_size].mean(0) for i in range(0, len(rows), bucket_size)])


CASES = [
    *(
        RuleCase(
            "bucketing",
            bucketing,
            {"bucket_size": size},
            arrays=("key",),
            draws=bucket_members,
            tolerated=2,
            hostile=whole_buckets_stay(size),
            accepts=equals_reference(of_bucket),
            permutation=False,
            registry=PRE_AGGREGATORS,
        )
        for size in (2, 5)
    ),
]


MUTANTS = {
    "bucketing": {
        "no permutation": lambda updates, members, bucket_size: in_order(updates, bucket_size),
        "rows dealt out in turn": lambda updates, members, bucket_size: np.stack(
            [wide(updates)[b :: len(members)].mean(0) for b in range(len(members))]
        ),
        "last bucket over its full size": lambda updates, members, bucket_size: (
            members @ wide(updates) / bucket_size
        ),
        "sums": lambda updates, members, bucket_size: members @ wide(updates),
        "rows left over dropped": lambda updates, members, bucket_size: bucketing(
            updates, members, bucket_size
        )[: len(updates) // bucket_size],
        "number of buckets for their size": lambda updates, members, bucket_size: in_order(
            updates, -(-len(updates) // bucket_size)
        ),
    },
}
