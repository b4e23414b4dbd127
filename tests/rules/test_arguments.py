"""The border of the pure functions: whatever form a number or an array comes in, it is checked alike."""

import inspect
import math
import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Context,
    bucketing,
    centered_clipping,
    clip,
    divide_and_conquer,
    fltrust,
    foolsgold_mean,
    geometric_median,
    krum,
    krum_scores,
    mean,
    median,
    multi_krum,
    nnm,
    root_only,
    trimmed_mean,
    trust_scores,
)
from fljax.attacks import (
    ATTACKS,
    SCHEDULES,
    SURROGATES,
    Knowledge,
    Task,
    attack_from_registry,
    gaussian,
    optimize_attack,
    scale,
    schedule_from_registry,
)
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.config.signatures import keyword_parameters
from tests.attacks.case import told
from tests.rules.case import first_rows, make
from tests.rules.table import POST_CASES, PRE_CASES, RULE_CASES

KEY = jax.random.key(0)
CASES = first_rows(RULE_CASES) + first_rows(PRE_CASES)
ROWS, OTHERS = make()
MASK = np.arange(12) < 3
TASK = Task(
    num_classes=10, image_shape=(8, 8, 1), init_params=lambda key: jax.random.normal(key, ROWS.shape[1:])
)
# What has no default; every other parameter keeps its own.
NEEDED = {
    "gaussian": {"std": 1.0},
    "ipm": {"epsilon": 1.0},
    "constant": {"value": 0.0},
    "label_flip": {"num_classes": 10},
    "dynamic_label_flip": {"num_classes": 10},
    "edge_case": {"source": 1},
    "projected_gradient": {"norm": 1.0},
    "train_and_scale": {"bound": 1.0},
    "periodic": {"on": 1, "off": 1},
    "at_random": {"probability": 0.5},
}
# Any number goes.
FREE = {
    "constant.value",
    *(f"{name}.factor" for name in ("scale", "sign_flip", "scaling_attack", "distributed_backdoor")),
    *(f"{name}.value" for name in ("badnets", "scaling_attack", "model_replacement", "distributed_backdoor")),
}
# So many are legal, and take long.
LARGE = (
    "steps",
    "sweeps",
    "evaluations",
    "max_iterations",
    "num_iterations",
    "subspace_size",
    "warmup",
    "seed",
)


def forms(value):
    """One number in every form in which it can be concrete."""
    number = np.float32(value) if isinstance(value, float) else np.int32(value)
    return [value, number, np.array(value), np.array(number), jnp.asarray(number)]


def call_rule(case, **changed):
    jax.eval_shape(lambda updates, others: case.call(updates, others, **changed), ROWS, OTHERS)


def call_surrogate(name, **changed):
    needed = {"trim": 1, "num_malicious": 1}
    parameters = inspect.signature(SURROGATES[name]).parameters
    hyper = {**{key: value for key, value in needed.items() if key in parameters}, **changed}
    arrays = {key: value for key, value in OTHERS.items() if key in parameters}
    jax.eval_shape(lambda updates: SURROGATES[name](updates, **arrays, **hyper), ROWS)


def call_attack(name, **changed):
    if name == "worst_case":
        changed = {"attacks": [attack_from_registry("scale", TASK)], **changed}
    # What the task provides of an attack is the caller's where the function is called directly.
    hyper = {**NEEDED.get(name, {}), **changed}
    made = attack_from_registry(name, TASK, **hyper)

    def sent(updates):
        context = Context(key=KEY, round=0, params=updates[0], root_update=updates[1])
        known = Knowledge(context, rule=lambda rows: jnp.mean(rows, 0), run_key=KEY)
        return made.corrupt(updates, jnp.asarray(MASK), made.init(*ROWS.shape), known)[0]

    jax.eval_shape(sent, ROWS)
    if made.poison_data is not None:
        x, y = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)
        jax.eval_shape(partial(made.poison_data, **told(made)), x, y, jnp.zeros(1, bool), jnp.int32(0))


def call_schedule(name, **changed):
    active = schedule_from_registry(name, **{**NEEDED.get(name, {}), **changed})
    active(Context(key=KEY, round=jnp.int32(0), client_ids=jnp.arange(4)))


def numeric(function):
    """The keyword parameters that are numbers, of which a wrong one can be made."""
    for name, (hint, _) in keyword_parameters(function, hidden=TASK_ARGUMENTS).items():
        if any(kind in str(hint) for kind in ("int", "float", "bool")) and "Sequence" not in str(hint):
            yield name


def every_number():
    for case in (*CASES, *first_rows(POST_CASES)):
        for name in numeric(case.registry[case.name].function):
            yield f"{case.name}.{name}", partial(call_rule, case), name
    for kind, registry, call in (
        ("soft ", SURROGATES, call_surrogate),
        ("", {key: entry.function for key, entry in ATTACKS.items()}, call_attack),
        ("", {key: entry.function for key, entry in SCHEDULES.items()}, call_schedule),
    ):
        for key, function in registry.items():
            for name in numeric(function):
                yield f"{kind}{key}.{name}", partial(call, key), name


NUMBERS = list(every_number())


def outcome(call, **changed):
    """The sentence with which a call fails, or None."""
    try:
        call(**changed)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("place", "call", "name"), NUMBERS, ids=[place for place, *_ in NUMBERS])
def test_a_wrong_number_is_refused_alike_in_every_form(place, call, name):
    refused = {}
    for value in (-1.0, 1.5, math.nan, -7, 10**6):
        if value == 10**6 and name in LARGE:
            continue
        message = outcome(call, **{name: value})
        if message is not None:
            refused[value] = message
    for value, message in refused.items():
        assert name in message
        for form in forms(value):
            assert outcome(call, **{name: form}) == message, (value, type(form))
    assert refused or place in FREE, "no wrong value is refused"
    for nothing in ("2", np.ones(2, np.float32), jnp.arange(3), 1j, [1]):
        message = outcome(call, **{name: nothing})
        assert message is not None, nothing
        assert name in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "form", [jnp.int32(3), np.int16(3), np.array(3), jnp.bfloat16(3.0), np.float64(3.0), 3]
)
def test_a_right_number_gives_the_same_in_every_form(form):
    """Also while something else is traced, where operations on a concrete JAX array would be traced too."""

    def program(value):
        rules = (
            partial(krum, num_malicious=value),
            partial(trimmed_mean, trim=value),
            partial(clip, radius=value),
        )
        return str(jax.make_jaxpr(lambda rows: [rule(rows) for rule in rules])(ROWS))

    assert program(form) == program(3)
    assert program(form) != program(2)


def test_an_option_gives_the_same_in_every_form():
    for function in (krum, krum_scores, multi_krum):
        expected = function(ROWS, num_malicious=2, power=1)
        for form in (1.0, np.int8(1), jnp.float32(1.0)):
            np.testing.assert_array_equal(function(ROWS, num_malicious=2, power=form), expected)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int16, jnp.uint8])
def test_traced_counts_of_narrow_types_do_not_wrap(dtype):
    rows = np.arange(300, dtype=np.float32)[:, None]
    traced = jax.jit(lambda count: nnm(rows, num_malicious=count))
    np.testing.assert_allclose(traced(dtype(100))[0], np.arange(200).mean(), rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, True, jnp.ones(2, jnp.int32)])
def test_a_traced_value_must_be_of_a_counts_type(value):
    with pytest.raises(
        ValueError, match="^krum: num_malicious must be a whole number, got (float32|bool|int32)"
    ):
        jax.eval_shape(lambda f: krum(ROWS, num_malicious=f), value)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda k: centered_clipping(ROWS, ROWS[0], radius=1.0, num_iterations=k), "num_iterations"),
        (lambda k: bucketing(ROWS, KEY, bucket_size=k), "bucket_size"),
        (lambda k: divide_and_conquer(ROWS, KEY, num_malicious=1, num_iterations=k), "num_iterations"),
        (lambda k: optimize_attack(ROWS, MASK, partial(jnp.mean, axis=0), steps=k), "steps"),
        (lambda k: gaussian(ROWS, MASK, KEY, std=1.0, max_malicious=k), "max_malicious"),
    ],
)
def test_what_decides_the_program_cannot_be_traced(call, name):
    with pytest.raises(ValueError, match=f": {name} must be a Python int, got a traced value; .*static"):
        jax.eval_shape(call, 3)


# --- one bound: what the registry says is what the function takes --------------------------------------


def counted():
    for registry in (RULES, PRE_AGGREGATORS):
        for name, rule in registry.items():
            parameters = inspect.signature(rule.function).parameters
            for count in {"num_malicious", "trim"} & set(parameters):
                yield next(case for case in CASES if case.name == name), count, "strict" in parameters


COUNTED = list(counted())
# Where a rule computes something for fewer rows than its guarantee needs: n > a·f + b; else n > f.
LEAST = {"krum": (1, 2), "multi_krum": (1, 2), "bulyan": (4, 0)}


def taken(case, count, n, f, **options):
    updates, others = make(n=n, d=4)
    hyper = {"num_neighbors": None} if "num_neighbors" in case.hyper else {}
    return outcome(
        lambda: jax.eval_shape(
            lambda u, o: case.call(u, o, **{count: f}, **hyper, **options), updates, others
        )
    )


@pytest.mark.parametrize(("case", "count", "has_strict"), COUNTED, ids=[case.name for case, *_ in COUNTED])
def test_the_function_takes_what_its_registry_entry_says(case, count, has_strict):
    text = case.registry[case.name].assumes
    sign, slope, offset = re.match(r"n (>|≥) (\d*)f(?: \+ (\d+))?(?=$|[,;])", text).groups()
    slope, least = int(slope or 1), int(offset or 0) + (sign == ">")
    for n in (7, 8, 9, 10, 11):
        largest = (n - least) // slope
        assert taken(case, count, n, largest) is None
        message = taken(case, count, n, largest + 1)
        assert f"{count}={largest + 1} needs n > {slope * (largest + 1) + least - 1} rows" in message
        assert message.endswith(f", got n={n}")
        slope_least, offset_least = LEAST.get(case.name, (1, 0))
        enough = n > slope_least * (largest + 1) + offset_least
        assert ("with strict=False" in message) == (has_strict and enough)


@pytest.mark.parametrize(
    "case", [case for case, _, has_strict in COUNTED if has_strict], ids=lambda case: case.name
)
def test_beyond_the_guarantee_it_computes_the_same_formula(case):
    slope, offset = LEAST.get(case.name, (1, 0))
    n = 9
    largest = (n - offset - 1) // slope
    updates, others = make(n=n, d=5)
    assert taken(case, "num_malicious", n, largest + 1, strict=False).endswith(f"rows, got n={n}")
    traced = jax.jit(lambda u, o, f: case.call(u, o, num_malicious=f, strict=False))
    for f in (largest, largest - 1):
        expected = case.expected(updates, others, num_malicious=f)
        np.testing.assert_allclose(traced(updates, others, f), expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(traced(updates, others, 100), traced(updates, others, largest))


# --- arrays --------------------------------------------------------------------------------------------


def test_a_list_of_rows_is_stacked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (list(ROWS), list(map(jnp.asarray, ROWS)), ROWS.tolist(), tuple(ROWS)):
            np.testing.assert_array_equal(median(rows), median(ROWS))
        np.testing.assert_allclose(jax.jit(lambda rows: median(list(rows)))(ROWS), median(ROWS), rtol=1e-6)
        sent = scale(list(ROWS), MASK.tolist(), factor=2.0)
        np.testing.assert_array_equal(sent, np.where(MASK[:, None], 2 * ROWS, ROWS))
        np.testing.assert_array_equal(mean(ROWS, [1.0] * 12), mean(ROWS, np.ones(12, np.float32)))


WRONG_UPDATES = [
    ({"w": ROWS}, r"got a dict; on_pytrees"),
    (None, r"got None; on_pytrees"),
    ([ROWS[0], ROWS[0, 1:]], "got a list that does not stack to one"),
    ([{"w": ROWS}], "got a list that does not stack to one; on_pytrees"),
    ("rows", "got a str"),
    (np.array([["a", "b"]]), "got a ndarray of <U1"),
    (np.array([[1.0, None]]), "got a ndarray of object"),
    (ROWS * 1j, "got complex64"),
    (ROWS > 0, "got bool"),
    (ROWS[0], r"got shape \(37,\)"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_no_stack_of_updates_is_one_sentence(case):
    for updates, message in WRONG_UPDATES:
        with pytest.raises(ValueError, match=rf"^\w+: updates must be \(n, d\) [^\n]*{message}[^\n]*$"):
            case.call(updates, OTHERS)


@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.endswith("label_flip")])
def test_attacks_check_updates_and_mask(name):
    def sent(updates, malicious):
        others = {"attacks": [attack_from_registry("scale", TASK)]} if name == "worst_case" else {}
        made = attack_from_registry(name, TASK, **NEEDED.get(name, {}), **others)
        context = Context(KEY, 0, params=ROWS[0], root_update=ROWS[1])
        known = Knowledge(context, rule=lambda rows: jnp.mean(rows, 0), run_key=KEY)
        return made.corrupt(updates, malicious, made.init(*ROWS.shape), known)

    integers = (ROWS.astype(int), "of a floating type, got int32")
    for updates, message in (*WRONG_UPDATES, integers):
        with pytest.raises(ValueError, match=rf"^\w+: updates must be [^\n]*{message}[^\n]*$"):
            sent(updates, MASK)
    for mask in (MASK[:-1], MASK.astype(int), "all", [0, 1], {"malicious": MASK}):
        with pytest.raises(
            ValueError, match=r"^\w+: malicious must be a boolean mask of shape \(12,\), got [^\n]*$"
        ):
            sent(ROWS, mask)


@pytest.mark.parametrize("wrong", [None, ROWS[0, 1:], {"w": ROWS[0]}, ROWS[0] * 1j, "root"])
def test_arrays_beside_the_updates_are_named_by_the_function_called(wrong):
    for function, name in (
        (trust_scores, "root_update"),
        (fltrust, "root_update"),
        (root_only, "root_update"),
        (partial(centered_clipping, radius=1.0), "center"),
        (foolsgold_mean, "history"),
    ):
        title = getattr(function, "func", function).__name__.removesuffix("_mean")
        with pytest.raises(ValueError, match=rf"^{title}: {name} must be \(.*\)[^\n]*, got [^\n]*$"):
            function(ROWS, wrong)
    if wrong is not None:
        for function in (mean, geometric_median):
            with pytest.raises(
                ValueError, match=r"^\w+: weights must be \(12,\), one per row[^\n]*, got [^\n]*$"
            ):
                function(ROWS, wrong)


@pytest.mark.parametrize("name", ["krum_attack", "fltrust_attack", "min_max", "min_sum"])
def test_what_a_gradient_is_in_updates_is_checked(name):
    function = ATTACKS[name].function
    arrays = {**OTHERS, "malicious": MASK}
    taken = {key: arrays[key] for key in inspect.signature(function).parameters if key in arrays}
    for key, wrong in (
        ("local_rate", -0.1),
        ("local_rate", math.nan),
        ("batch_size", 0),
        ("batch_size", "2"),
    ):
        if key in inspect.signature(function).parameters:
            for form in (lambda value: value, np.asarray):
                with pytest.raises(ValueError, match=rf"^{name}: {key}"):
                    function(ROWS, **taken, **{key: form(wrong)})
