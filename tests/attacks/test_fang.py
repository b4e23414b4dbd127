"""The attacks of Fang et al. against references that build every trial stack."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import Context, krum, median
from fljax.attacks import Knowledge, Task, attack_from_registry, krum_attack, trim_attack
from tests.attacks import krum_attack as reference
from tests.attacks import trim_attack as trim_reference
from tests.support.programs import jitted

KEY = jax.random.key(3)
N, D = 12, 40


def stack(seed, n, d, spread):
    """Rows around a common one; the smaller the spread, the smaller the λ that Krum selects."""
    random = np.random.default_rng(seed)
    return (random.normal(size=d) + spread * random.normal(size=(n, d))).astype(np.float32)


def mask_of(seed, n, m):
    return np.random.default_rng(seed).permutation(n) < m


OPTIONS = ("knowledge", "direction", "lambda_init", "power", "max_malicious")


@partial(jax.jit, static_argnames=OPTIONS)
def equal_rows(updates, malicious, f, threshold, **options):
    return krum_attack(
        updates, malicious, KEY, num_malicious=f, threshold=threshold, supporters="copies", **options
    )


@partial(jax.jit, static_argnames=OPTIONS)
def run(updates, malicious, key, unit, spread, threshold, **options):
    return krum_attack(updates, malicious, key, unit, threshold=threshold, spread=spread, **options)


def attack(updates, malicious, key=KEY, unit=1.0, spread=0.01, threshold=1e-5, **options):
    return run(updates, malicious, key, unit, spread, threshold, **options)


@jax.jit
def choice(updates, f):
    return krum.explained(updates, num_malicious=f, strict=False)[1]["selected"]


def compare(result, updates, malicious, size, s):
    crafted = np.asarray(result, np.float64)[malicious]
    expected = np.tile(-size * s, (len(crafted), 1))
    np.testing.assert_allclose(crafted, expected, rtol=2e-5, atol=1e-30)
    np.testing.assert_array_equal(np.asarray(result)[~malicious], updates[~malicious])


LAMBDA_CASES = {
    "paper": (12, 40, {}),
    "few parameters": (13, 7, {}),
    "sum from one": (12, 40, {"direction": "sum", "lambda_init": "one"}),
    "distances": (12, 40, {"power": 1}),
}


@pytest.mark.parametrize(("n", "d", "options"), LAMBDA_CASES.values(), ids=LAMBDA_CASES.keys())
def test_lambda_is_the_references(n, d, options):
    halvings, solved = set(), set()
    for m in range(1, n):
        for seed, spread in enumerate((3.0, 1.0, 0.4, 0.15)):
            updates, malicious = stack(100 * m + seed, n, d, spread), mask_of(m + seed, n, m)
            threshold, f = 1e-5 if seed % 2 else 0.02, min(m, n - 3)
            start, size, s, found = reference.search(updates, malicious, threshold=threshold, **options)
            compare(equal_rows(updates, malicious, f, threshold, **options), updates, malicious, size, s)
            solved.add(found)
            halvings.add(round(np.log2(start / size)))
    # The cases are of every kind: with and without a solution, at once and after many trials.
    assert solved == {True, False}
    assert 0 in halvings
    assert len(halvings) >= 4


@pytest.mark.parametrize("f", [0, 1, 5, 8])
def test_lambda_for_another_krum_than_the_one_for_m_attackers(f):
    for m in (1, 3, 5):
        updates, malicious = stack(m, N, D, 1.0), mask_of(m, N, m)
        _, size, s, _ = reference.search(updates, malicious, f)
        compare(equal_rows(updates, malicious, f, 1e-5), updates, malicious, size, s)


def test_the_direction_is_the_choice_of_the_krum_attacked():
    # Rows with a few large entries, for which distances and squared distances choose differently.
    random, malicious, differ = np.random.default_rng(0), mask_of(0, N, 3), 0
    while differ < 3:
        updates = (random.standard_t(2, size=(N, D))).astype(np.float32)
        if len({reference.krum_choice(updates.astype(float), 3, power) for power in (1, 2)}) == 2:
            _, size, s, _ = reference.search(updates, malicious, 3, power=1)
            compare(equal_rows(updates, malicious, 3, 1e-5, power=1), updates, malicious, size, s)
            differ += 1


def test_of_equal_scores_the_smaller_next_distance_wins_in_the_search():
    # With one neighbour, the row −λs and the row nearest to it have the same score, wherever they are.
    updates, solved = stack(0, N, D, 3.0), []
    for row in (0, N - 1):
        malicious = np.arange(N) == row
        _, size, s, found = reference.search(updates, malicious, N - 3)
        compare(equal_rows(updates, malicious, N - 3, 1e-5), updates, malicious, size, s)
        solved.append(found)
    assert solved == [True, True]


def test_the_default_is_a_krum_told_the_number_of_attackers():
    for seed, m in enumerate((2, 4, 11, 11, 11, 11)):
        updates, malicious = stack(seed, N, D, 1.0), mask_of(m, N, m)
        _, size, s, _ = reference.search(updates, malicious)
        compare(attack(updates, malicious, spread=0.0), updates, malicious, size, s)


@pytest.mark.parametrize(("d", "init"), [(D, "bound"), (7, "one")])
def test_partial_knowledge_adds_copies_until_one_is_selected(d, init):
    options, competed = {"knowledge": "partial", "lambda_init": init}, set()
    for m in range(1, N + 1):
        for seed, spread in enumerate((3.0, 1.0, 0.3)):
            updates, malicious = stack(100 * m + seed, N, d, spread), mask_of(m + seed, N, m)
            size, s, copies = reference.search_partial(updates, malicious, threshold=0.02, lambda_init=init)
            compare(equal_rows(updates, malicious, 0, 0.02, **options), updates, malicious, size, s)
            competed.add(copies)
    assert len(competed) >= 4


def test_partial_knowledge_sees_own_rows_only():
    updates, malicious = stack(0, N, D, 1.0), mask_of(0, N, 4)
    options = {"knowledge": "partial"}
    crafted = np.asarray(attack(updates, malicious, **options))[malicious]
    other = np.where(malicious[:, None], updates, np.nan).astype(np.float32)
    for more in ({}, {"max_malicious": 6}):
        for rows in (updates, other):
            result = np.asarray(attack(rows, malicious, **options, **more))[malicious]
            np.testing.assert_allclose(result, crafted, rtol=1e-5)


def test_the_result_does_not_depend_on_the_bound_on_attackers():
    updates, malicious = stack(0, N, D, 1.0), mask_of(0, N, 4)
    result = attack(updates, malicious)
    np.testing.assert_array_equal(attack(updates, malicious, max_malicious=6), result)


def test_krum_selects_what_the_search_says():
    selected = set()
    for m in range(1, 6):
        for seed, spread in enumerate((3.0, 1.0, 0.3)):
            updates, malicious = stack(10 * m + seed, N, D, spread), mask_of(seed, N, m)
            _, _, _, found = reference.search(updates, malicious)
            # Supporters this near move no score by more than its rounding.
            chosen = np.asarray(choice(attack(updates, malicious, spread=1e-6), m))
            assert malicious[chosen].all() == found
            selected.add(found)
    assert selected == {True, False}


def test_supporters_are_within_the_spread():
    n, d, m = 40, 300, 30
    updates, malicious = stack(0, n, d, 1.0), mask_of(0, n, m)
    for unit, spread in ((1.0, 0.01), (0.5, 3.0)):
        rows = np.asarray(attack(updates, malicious, KEY, unit, spread), np.float64)[malicious]
        np.testing.assert_allclose(abs(rows[0]), abs(rows[0, 0]))
        away = rows[1:] - rows[0]
        lengths = np.linalg.norm(away, axis=1) / (unit * spread)
        # Lengths uniform in [0, 1], up to the float's rounding of −λs.
        assert lengths.max() <= 1 + 1e-3
        assert abs(lengths.mean() - 0.5) < 0.2
        assert lengths.max() > 0.85
        assert lengths.min() < 0.15
    directions = away / np.linalg.norm(away, axis=1, keepdims=True)
    assert abs(directions @ directions.T - np.eye(m - 1)).max() < 0.3
    assert abs(directions.mean()) < 0.01
    # From a cube: no coordinate is above √3 times the root mean square, and the largest is near.
    largest = abs(directions).max(axis=1) * np.sqrt(d / 3)
    assert largest.max() < 1.15
    assert largest.min() > 0.9


def test_another_key_moves_the_supporters_only():
    updates, malicious = stack(0, N, D, 1.0), mask_of(0, N, 3)
    one, two = (np.asarray(attack(updates, malicious, jax.random.key(k)))[malicious] for k in (0, 1))
    np.testing.assert_array_equal(one[0], two[0])
    assert (one[1:] != two[1:]).any(axis=1).all()


@pytest.mark.parametrize("options", [{}, {"lambda_init": "one"}, {"knowledge": "partial"}], ids=str)
def test_in_units_of_gradients_the_attack_is_the_same(options):
    unit = np.float32(2.0**-9)
    for spread in (0.3, 2.0):
        updates, malicious = stack(1, N, D, spread), mask_of(1, N, 4)
        small = attack(unit * updates, malicious, KEY, unit, threshold=0.02, **options)
        large = attack(updates, malicious, KEY, 1.0, threshold=0.02, **options)
        np.testing.assert_allclose(small, unit * large, rtol=1e-5)


def test_the_round_gives_the_unit():
    updates, malicious = stack(1, N, D, 0.05), mask_of(1, N, 4)
    known = Knowledge(Context(key=KEY), local_rate=jnp.float32(0.1), batch_size=jnp.float32(4.0))
    # The loss of the group's code is summed over the batch: a gradient is four times the mean loss's.
    for options, unit in (({}, 0.025), ({"unit": "sum"}, 0.025), ({"unit": "mean"}, 0.1)):
        made = attack_from_registry("krum_attack", Task(10), spread=0.5, **options)
        result, _ = jax.jit(made.corrupt)(updates, malicious, (), known)
        expected = attack(updates, malicious, KEY, unit, 0.5)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)
    assert not np.allclose(result, attack(updates, malicious, KEY, 0.2, 0.5))


def test_the_attack_on_summed_gradients_is_the_attack_on_their_updates():
    rate, size = np.float32(0.25), np.float32(16.0)
    compiled = jitted(krum_attack)
    summed, malicious = 3.0 * stack(1, N, D, 0.5), mask_of(1, N, 4)
    gradients = np.asarray(compiled(summed, malicious, KEY, threshold=0.02))
    factor = -rate / size
    given = {"local_rate": rate, "batch_size": size, "threshold": 0.02, "supporters": "copies"}
    sent = np.asarray(compiled(factor * summed, malicious, KEY, **given))
    np.testing.assert_allclose(sent[malicious][0], factor * gradients[malicious][0], rtol=1e-5)
    # Where the threshold ends the search, or λ starts at one unit, the unit decides.
    given |= {"lambda_init": "one", "knowledge": "partial", "threshold": 0.5}
    by_unit = {
        unit: compiled(factor * summed, malicious, KEY, **given, unit=unit) for unit in ("sum", "mean")
    }
    assert not np.allclose(by_unit["sum"], by_unit["mean"])


def test_two_attackers_with_partial_knowledge_win_a_tie_or_send_copies_of_one_unit():
    # One crafted row ties with the nearest of the two; only where these are far apart is it nearer the other.
    for spread, wins in ((3.0, True), (0.3, False)):
        updates, malicious = stack(7, N, D, spread), mask_of(7, N, 2)
        own = updates[malicious]
        sign = np.sign(own.astype(np.float64).mean(0))
        sent = np.asarray(attack(updates, malicious, KEY, 0.5, 0.0, knowledge="partial"))[malicious]
        size = np.abs(sent).max()
        np.testing.assert_allclose(sent, np.tile(-size * sign, (2, 1)), rtol=1e-6)
        assert (size != 0.5) == wins
        assert bool(choice(np.concatenate([own, sent[:1]]), 0)[2]) == wins


HOSTILE = {
    "NaN": lambda rows: np.where(np.arange(N)[:, None] == 0, np.nan, rows),
    "one NaN": lambda rows: np.where(np.arange(N * D).reshape(N, D) == 3, np.nan, rows),
    "infinite": lambda rows: np.where(np.arange(N)[:, None] == 0, np.inf, rows),
    "huge": lambda rows: np.where(np.arange(N)[:, None] == 0, 1e38, rows),
    "all huge": lambda rows: rows * 1e37,
    "tiny": lambda rows: rows * 1e-30,
    "zero": lambda rows: rows * 0.0,
    "equal": lambda rows: np.broadcast_to(rows[0], rows.shape),
    "all NaN": lambda rows: rows * np.nan,
}


@pytest.mark.parametrize("options", [{}, {"lambda_init": "one"}, {"knowledge": "partial"}], ids=str)
def test_the_search_ends_whatever_the_rows_hold(options):
    for name, change in HOSTILE.items():
        rows = change(stack(0, N, D, 1.0)).astype(np.float32)
        for m in (1, 3, N):
            # Row 0 is hostile once among the honest rows and once among the attackers' own.
            for malicious in (np.arange(N) < m, np.arange(N) >= N - m):
                crafted = np.asarray(attack(rows, malicious, **options))[malicious]
                assert np.isfinite(crafted).all(), (name, m)
    # Nor does it go on for ever with what is no unit or threshold at all.
    updates, malicious = stack(0, N, D, 1.0), mask_of(0, N, 3)
    for unit, threshold in ((0, 1e-5), (1, 0), (1, -1), (np.inf, 1e-5), (np.nan, 1e-5), (1, np.nan)):
        given = {"unit": np.float32(unit), "threshold": np.float32(threshold)}
        jax.block_until_ready(attack(updates, malicious, KEY, **given, **options))


def test_broken_honest_rows_are_as_far_as_krum_has_them():
    m = 3
    updates, malicious = stack(5, N, D, 1.0), np.arange(N) >= N - m
    whole = np.asarray(equal_rows(updates[1:], malicious[1:], m - 1, 1e-5))
    broken = np.where(np.arange(N)[:, None] == 0, np.nan, updates).astype(np.float32)
    # One row more, told of one more: as many neighbours, and the broken row is none of them.
    result = np.asarray(equal_rows(broken, malicious, m, 1e-5))
    np.testing.assert_allclose(result[malicious], whole[-m:], rtol=1e-5)
    assert malicious[choice(result, m)].all()


def test_a_direction_with_zeros_counts_its_nonzero_entries():
    updates, malicious = stack(2, N, D, 1.0), mask_of(2, N, 3)
    updates[:, ::4] = 0.0
    _, size, s, _ = reference.search(updates, malicious)
    assert (s == 0).sum() == 10
    compare(equal_rows(updates, malicious, 3, 1e-5), updates, malicious, size, s)


def test_rows_close_together_keep_their_distances():
    # |a|² + |b|² − 2ab has no digit left of these distances.
    updates, malicious = stack(3, N, D, 1e-4) + np.float32(3.0), mask_of(3, N, 4)
    _, size, s, found = reference.search(updates, malicious, threshold=1e-3)
    assert not found
    compare(equal_rows(updates, malicious, 4, 1e-3), updates, malicious, size, s)


def test_one_or_two_rows_are_negated():
    rows = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    mask = np.array([False, True])
    np.testing.assert_array_equal(krum_attack(rows, mask, KEY), [[1.0, -2.0], [-3.0, -4.0]])
    np.testing.assert_array_equal(krum_attack(rows[:1], ~mask[:1], KEY), [[-1.0, 2.0]])


def test_the_attack_in_double_and_half_precision():
    updates, malicious = stack(4, N, D, 1.0), mask_of(4, N, 3)
    _, size, s, _ = reference.search(updates, malicious)
    with jax.enable_x64(True):
        crafted = equal_rows(updates.astype(float), malicious, 3, 1e-5)
        np.testing.assert_allclose(np.asarray(crafted)[malicious], np.tile(-size * s, (3, 1)), rtol=1e-12)
    half = attack(jnp.asarray(updates, jnp.bfloat16), malicious)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, float)[malicious][0], -size * s, rtol=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 0.0}, r"threshold=0\.0 must be larger than 0"),
        ({"spread": -0.1}, r"spread=-0\.1 must be at least 0"),
        ({"knowledge": "some"}, 'knowledge=\'some\' must be "full" or "partial"'),
        ({"direction": "mean"}, "direction='mean' must be"),
        ({"lambda_init": "two"}, "lambda_init='two' must be"),
        ({"supporters": "none"}, "supporters='none' must be"),
        ({"power": 3}, "power=3 must be 1"),
        ({"num_malicious": 7}, "num_malicious=7 needs n > num_malicious \\+ 2 rows, got n=9"),
        ({"num_malicious": -1}, "num_malicious=-1 must be a whole number"),
    ],
    ids=str,
)
def test_bad_arguments_of_the_krum_attack(given, message):
    with pytest.raises(ValueError, match=f"krum_attack: {message}"):
        krum_attack(stack(0, 9, 4, 1.0), mask_of(0, 9, 3), KEY, **given)


# --- Trim attack --------------------------------------------------------------------------------------


def four_sides(seed, n=9, d=600):
    """Rows and a mask with each sign of s and of the extreme in many coordinates, and some without a sign."""
    random = np.random.default_rng(seed)
    center = random.choice([-3.0, -0.3, 0.3, 3.0], size=d)
    updates = (center + random.normal(size=(n, d))).astype(np.float32)
    updates[:, :5] = 0.0
    return updates, random.permutation(n) < 3


def test_every_side_occurs():
    updates, malicious = four_sides(0)
    s = np.sign(updates.sum(0))
    extreme = trim_reference.trim_extreme(updates[~malicious], s)
    for sign in (-1, 1):
        for side in (-1, 1):
            assert ((s == sign) & (np.sign(extreme) == side)).sum() > 50
    assert (s == 0).sum() == 5


def root_of(updates):
    return (-0.5 * updates.sum(0) + 4.0).astype(np.float32)


VARIANTS = {
    "paper": {},
    "letter": {"direction": "rule"},
    "demo": {"pool": "all"},
    "demo with the server": {"pool": "all", "include_root": True},
    "honest and server": {"include_root": True},
}


def expected(updates, malicious, options):
    """The extremes and s, from the options."""
    rows, root = updates.astype(float), root_of(updates).astype(float)
    server = [root] if options.get("include_root") else []
    pool = rows if options.get("pool") == "all" else rows[~malicious]
    s = np.sign(np.median(rows, axis=0) if options.get("direction") == "rule" else sum([*rows, *server]))
    return trim_reference.trim_extreme(np.array([*pool, *server]), s), s


@partial(jax.jit, static_argnames=("law", "direction", "pool", "include_root"))
def trim(updates, root_update, malicious, stretch, **options):
    return trim_attack(updates, malicious, KEY, median, root_update, stretch=stretch, **options)


@pytest.mark.parametrize("law", ["uniform", "divide", "fixed"])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_of_the_trim_attack(law, options):
    for seed, stretch in ((0, 2.0), (1, 5.0)):
        updates, malicious = four_sides(seed)
        extreme, s = expected(updates, malicious, options)
        crafted = np.asarray(
            trim(updates, root_of(updates), malicious, stretch, law=law, **options), np.float64
        )[malicious]
        full = trim_reference.trim_beyond(extreme, s, stretch)
        assert (crafted[:, s == 0] == 0).all()
        if law == "fixed":
            np.testing.assert_allclose(crafted, np.tile(full, (3, 1)), rtol=1e-6)
            continue
        acts = abs(extreme) > 1e-3
        if law == "uniform":
            place = ((crafted - extreme) / (full - extreme + (~acts)))[:, acts]
        else:
            shrinks = (s * extreme > 0)[acts]
            some, all_ = crafted[:, acts], extreme[acts]
            place = (np.where(shrinks, all_ / some, some / all_) - 1) / (stretch - 1)
        # Uniform over the interval, for each client and each coordinate anew.
        assert place.min() > -1e-3
        assert place.max() < 1 + 1e-3
        ordered = np.sort(place.ravel())
        assert abs(ordered - np.linspace(0, 1, len(ordered))).max() < 0.05
        assert abs(np.corrcoef(place) - np.eye(3)).max() < 0.2


def test_the_trim_attack_without_honest_rows_looks_at_all():
    updates, _ = four_sides(2)
    everybody = np.ones(len(updates), bool)
    crafted = np.asarray(trim(updates, root_of(updates), everybody, 2.0, law="fixed"))
    extreme, s = expected(updates, ~everybody, {})
    np.testing.assert_allclose(
        crafted, np.tile(trim_reference.trim_beyond(extreme, s, 2.0), (9, 1)), rtol=1e-6
    )


def test_the_fixed_law_with_partial_knowledge():
    updates, malicious = four_sides(3)
    own = updates[malicious].astype(float)
    crafted = trim_attack(updates, malicious, KEY, knowledge="partial", law="fixed")
    value = own.mean(0) - 3.5 * np.sign(own.mean(0)) * own.std(0)
    np.testing.assert_allclose(np.asarray(crafted)[malicious], np.tile(value, (3, 1)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"law": "normal"}, 'law=\'normal\' must be "uniform" or "divide" or "fixed"'),
        ({"pool": "own"}, 'pool=\'own\' must be "honest" or "all"'),
        ({"direction": "krum"}, 'direction=\'krum\' must be "sum" or "rule"'),
        ({"direction": "rule"}, 'direction="rule" needs the rule'),
        ({"include_root": True}, "include_root=True needs root_update"),
        ({"stretch": np.inf}, "stretch=inf must be larger than 1"),
        ({"knowledge": "partial", "law": "divide"}, 'law="divide" must be'),
        ({"knowledge": "partial", "pool": "all"}, 'pool="all" must be "honest"'),
        ({"knowledge": "partial", "direction": "rule"}, 'direction="rule" must be "sum"'),
    ],
    ids=str,
)
def test_bad_arguments_of_the_trim_attack(given, message):
    with pytest.raises(ValueError, match=f"trim_attack: {message}"):
        trim_attack(*four_sides(0), KEY, **given)
