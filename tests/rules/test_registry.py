"""How a function becomes a rule: one decorator for the library's own and for users'."""

import inspect
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax import aggregators
from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Context,
    from_registry,
    krum,
    median,
    pre_from_registry,
    register_pre_aggregator,
    register_rule,
)
from fljax.attacks import SURROGATES
from fljax.config.signatures import keyword_parameters
from tests.rules.case import first_rows, make
from tests.rules.table import RULE_CASES

ROWS, OTHERS = make(d=5)


@pytest.fixture
def known():
    """Whatever a test registers is forgotten after it."""
    before = [(registry, set(registry)) for registry in (RULES, PRE_AGGREGATORS)]
    yield
    for registry, names in before:
        for name in set(registry) - names:
            registry.remove(name)


def test_a_function_that_returns_the_update_is_a_rule(known):
    @register_rule(title="First row", assumes="f = 0", source="here")
    def first(updates, *, scale: float = 1.0):
        """The first row.

        And more.
        """
        return scale * updates[0]

    np.testing.assert_array_equal(first(ROWS, scale=2.0), 2 * ROWS[0])
    update, info = first.explained(ROWS)
    np.testing.assert_array_equal(update, ROWS[0])
    assert info == {}
    entry = RULES["first"]
    assert (entry.function, entry.title, entry.assumes, entry.source) == (first, "First row", "f = 0", "here")
    assert entry.summary == "The first row."
    aggregate = from_registry(RULES, "first", scale=3.0).aggregate
    np.testing.assert_array_equal(aggregate(ROWS, (), Context())[0], 3 * ROWS[0])


def test_a_function_that_explains_itself_is_a_rule(known):
    @register_rule("lightest")
    def chosen(updates, weights):
        row = jnp.argmin(weights)
        return updates[row], {"selected": jnp.arange(len(updates)) == row}

    weights = OTHERS["weights"]
    np.testing.assert_array_equal(chosen(ROWS, weights), ROWS[weights.argmin()])
    _, _, info = from_registry(RULES, "lightest").aggregate(ROWS, (), Context(weights=weights))
    assert np.flatnonzero(info["selected"]).tolist() == [weights.argmin()]
    assert RULES["lightest"].title == "lightest"
    with pytest.raises(ValueError, match="^chosen: needs weights, which this round does not provide$"):
        from_registry(RULES, "lightest").aggregate(ROWS, (), Context())


def test_a_users_rule_computes_in_float32_and_answers_in_the_type_of_the_updates(known):
    seen = []

    @register_rule()
    def total(updates):
        seen.append(updates.dtype)
        return jnp.sum(updates, 0)

    @register_pre_aggregator(mixes_rows=True)
    def doubled(updates):
        seen.append(updates.dtype)
        return jnp.concatenate([updates, updates])

    half = jnp.asarray(ROWS, jnp.bfloat16)
    assert total(half).dtype == jnp.bfloat16
    np.testing.assert_array_equal(total(half), total(half.astype(jnp.float32)).astype(jnp.bfloat16))
    assert total(ROWS.astype(int)).dtype == jnp.float32
    assert doubled(half).dtype == jnp.bfloat16
    assert set(seen) == {jnp.dtype("float32")}
    piece = pre_from_registry(PRE_AGGREGATORS, "doubled")
    rows, _, context = piece.transform(ROWS, (), Context(weights=OTHERS["weights"]))
    assert rows.shape == (24, 5)
    assert context.weights is None


def test_a_partial_of_a_rule_is_a_rule_of_its_own(known):
    mild = register_rule("mild_krum")(partial(krum, num_malicious=1))
    np.testing.assert_array_equal(mild(ROWS), krum(ROWS, num_malicious=1))
    assert keyword_parameters(mild)["num_malicious"] == (int, 1)
    assert RULES["mild_krum"].summary == RULES["krum"].summary


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: register_rule("krum")(lambda updates: updates[0]), r"^rule 'krum' is taken by .*krum$"),
        (lambda: register_rule("two words")(lambda updates: updates[0]), "^rule: a name has letters"),
        (lambda: register_rule()(3), r"^rule \?: must be a function of the updates, got 3$"),
        (lambda: register_rule("none")(lambda: 0), "^rule none: must be a function of the updates, got"),
        (
            lambda: register_rule("matrix")(lambda updates: updates)(ROWS),
            r"^matrix: must return an update of shape \(5,\), alone or with its info, got float32 of shape",
        ),
        (
            lambda: register_rule("nothing")(lambda updates: None)(ROWS),
            r"^nothing: must return an update of shape \(5,\), alone or with its info, got None$",
        ),
        (
            lambda: register_pre_aggregator("row")(lambda updates: updates[0])(ROWS),
            r"^row: must return rows of shape \(n', 5\), got float32 of shape \(5,\)$",
        ),
    ],
)
def test_what_is_no_rule_is_one_sentence(known, make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_error_of_ones_own_stays_as_it_is(known):
    @register_rule("picky")
    def picky(updates):
        raise ValueError("not today")

    with pytest.raises(ValueError, match="^not today$"):
        picky(ROWS)

    @register_rule("cautious")
    def cautious(updates, *, num_malicious):
        return krum(updates, num_malicious=num_malicious)

    # The name of the rule that takes the argument, which says where to look for the bound.
    with pytest.raises(ValueError, match="^krum: num_malicious=9 needs n > 20 rows"):
        cautious(ROWS, num_malicious=9)


@pytest.mark.parametrize("case", first_rows(RULE_CASES), ids=lambda case: case.name)
def test_every_rule_is_a_function_like_any_other(case):
    rule = case.function
    for function in (rule, rule.explained):
        assert pickle.loads(pickle.dumps(function)) is function
        parameters = inspect.signature(function).parameters
        assert next(iter(parameters)) == "updates"
        assert {*case.hyper, *case.arrays} <= set(parameters)
    assert inspect.signature(rule).return_annotation is jax.Array
    assert getattr(aggregators, rule.__name__) is rule
    assert rule.__name__ in aggregators.__all__
    arrays = [OTHERS[name] for name in case.arrays]
    shapes = jax.eval_shape(lambda *given: rule.explained(*given, **case.hyper), ROWS, *arrays)
    assert shapes[0] == jax.eval_shape(lambda *given: rule(*given, **case.hyper), ROWS, *arrays)
    assert {value.shape for value in shapes[1].values()} <= {(12,)}


def test_updates_may_be_given_by_name_and_jit_knows_the_parameters():
    expected = krum(ROWS, num_malicious=2)
    np.testing.assert_array_equal(krum(updates=ROWS, num_malicious=2), expected)
    np.testing.assert_array_equal(
        jax.jit(krum, static_argnames=("num_malicious", "power"))(ROWS, num_malicious=2, power=2), expected
    )
    with pytest.raises(TypeError, match=r"^median\(\) missing 1 required positional argument: 'updates'$"):
        median()


def test_surrogates_are_those_that_rules_are_registered_with(known):
    assert dict(SURROGATES) == {
        name: e.facts["surrogate"] for name, e in RULES.items() if e.facts["surrogate"]
    }
    assert {"krum", "flame"} < set(SURROGATES)
    assert "bulyan" not in SURROGATES

    def smooth(updates):
        return jnp.mean(updates, 0)

    register_rule("stepped", surrogate=smooth)(lambda updates: updates[0])
    assert SURROGATES["stepped"] is smooth

    # Or what it looks at, of a rule that says which rows it averages.
    @register_rule("picky", surrogate="length")
    def picky(updates):
        return updates[0], {"selected": jnp.arange(len(updates)) < 1}

    rows = jnp.array([[1.0], [2.0], [4.0]])
    np.testing.assert_allclose(SURROGATES["picky"](rows, temperature=1e-4), [1.0], rtol=1e-6)
    assert float(SURROGATES["picky"](rows)[0]) > 1.01
