"""FLDetector over rounds: the published algorithm in double precision beside the rule with its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import RULES, Context, from_registry
from tests.rules.fldetector import suspects, uniform


def hessian_product(steps, changes, vector):
    """L-BFGS in compact form, from the columns of S and Y, oldest first."""
    s, y = np.array(steps).T, np.array(changes).T
    sigma = y[:, -1] @ s[:, -1] / (s[:, -1] @ s[:, -1])
    crossed = s.T @ y
    lower = np.tril(crossed, -1)
    matrix = np.block([[sigma * s.T @ s, lower], [lower.T, -np.diag(np.diag(crossed))]])
    both = np.hstack([sigma * s, y])
    return sigma * vector - both @ np.linalg.solve(matrix, both.T @ vector)


class Reference:
    """The rule with its memory, by client."""

    def __init__(self, num_clients, num_rounds, start):
        self.num_clients, self.num_rounds, self.start = num_clients, num_rounds, start
        self.rows, self.steps, self.changes, self.scores, self.excluded = {}, [], [], [], set()
        self.round, self.last = 0, None

    def __call__(self, params, ids, rows):
        finite = [i for i in range(len(ids)) if np.isfinite(rows[i]).all()]
        if self.round >= self.start and self.steps:
            product = hessian_product(self.steps, self.changes, params - self.last[0])
            distances = {}
            for i in finite:
                row, when = self.rows.get(ids[i], (None, None))
                if when == self.round - 1 and ids[i] not in self.excluded:
                    distances[ids[i]] = np.linalg.norm(row + product - rows[i])
            total = sum(distances.values())
            self.scores.append({client: each / total for client, each in distances.items()})
            if len(self.scores) >= self.num_rounds:
                recent = self.scores[-self.num_rounds :]
                means = np.full(self.num_clients, np.nan)
                for client in set().union(*recent) - self.excluded:
                    means[client] = np.mean([each[client] for each in recent if client in each])
                self.excluded |= set(suspects(means, uniform(self.num_clients)).tolist())
        kept = [rows[i] for i in finite if ids[i] not in self.excluded]
        update = np.mean(kept, axis=0) if kept else np.zeros(rows.shape[1])
        if self.last is not None:
            self.steps = [*self.steps, params - self.last[0]][-self.num_rounds :]
            self.changes = [*self.changes, update - self.last[1]][-self.num_rounds :]
        for i in finite:
            self.rows[ids[i]] = rows[i], self.round
        self.last, self.round = (params, update), self.round + 1
        return update


@pytest.mark.parametrize("cohort", [9, 7])
def test_fldetector_leaves_out_who_does_not_send_what_was_foretold(cohort):
    num_clients, d, attackers = 9, 6, (2, 6)
    random = np.random.default_rng(0)
    roots = random.normal(size=(num_clients, d, d)) * 0.05 + np.diag(np.linspace(0.5, 1.0, d))
    optima = random.normal(size=(num_clients, d)) * 0.3
    rule = from_registry(RULES, "fldetector", num_rounds=3, start=2)
    aggregate = jax.jit(rule.aggregate)
    state, reference = rule.init(num_clients, d), Reference(num_clients, 3, 2)
    params = np.full(d, 2.0)
    for number in range(9):
        ids = np.arange(num_clients) if cohort == num_clients else random.permutation(num_clients)[:cohort]
        rows = np.array([-0.3 * roots[i] @ roots[i].T @ (params - optima[i]) for i in ids])
        for place, client in enumerate(ids):
            if client in attackers:
                rows[place] = random.normal(size=d)
        if number == 4:
            rows[0, 0] = np.nan
        rows, params = rows.astype(np.float32), params.astype(np.float32).astype(np.float64)
        context = Context(params=jnp.asarray(params, jnp.float32), client_ids=jnp.asarray(ids))
        update, state, info = aggregate(rows, state, context)
        expected = reference(params, ids.tolist(), rows.astype(np.float64))
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
        assert set(np.flatnonzero(state.excluded).tolist()) == reference.excluded
        left = [int(i) for i in ids if i not in reference.excluded]
        assert set(ids[np.asarray(info["selected"])].tolist()) <= set(left)
        params = params + np.asarray(update, np.float64)
    assert reference.excluded >= set(attackers)


def test_fldetector_says_what_it_needs():
    rule = from_registry(RULES, "fldetector")
    rows = jnp.ones((3, 2))
    with pytest.raises(ValueError, match="^fldetector: needs params, which this round does not provide$"):
        rule.aggregate(rows, rule.init(3, 2), Context())
    with pytest.raises(ValueError, match="^fldetector: got 3 rows for 4 clients and no client_ids"):
        rule.aggregate(rows, rule.init(4, 2), Context(params=jnp.zeros(2)))
    with pytest.raises(ValueError, match="^fldetector: num_rounds=0 must be a whole number of at least 1$"):
        from_registry(RULES, "fldetector", num_rounds=0)
    with pytest.raises(
        ValueError, match=r"^fldetector: scores must be \(3,\), one per row, got shape \(2,\)$"
    ):
        RULES["fldetector"].function(rows, jnp.zeros(2))
