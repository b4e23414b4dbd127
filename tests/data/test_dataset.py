"""The forms of examples that a data set can have, and what refuses the forms it cannot use."""

import numpy as np
import pytest

from fljax.aggregators import mean, stateless
from fljax.attacks import NO_ATTACK
from fljax.cli.data_table import remarks, sizes_table
from fljax.config.schema import parse_config
from fljax.data import Dataset, Format, from_arrays, load, root_dataset
from fljax.errors import ConfigError, DataError
from fljax.report.partition import plot_partition
from fljax.simulation.assembly import make_parts
from fljax.simulation.checks import check_model, check_pieces
from fljax.simulation.holdings import load_holdings

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3)).astype(np.float32)
TOKENS = RANDOM.integers(0, 7, (40, 5)).astype(np.int32)
NUMBERS = RANDOM.normal(size=40).astype(np.float32)
CLASSES = (np.arange(40) % 4).astype(np.int32)
RUN = {
    "num_clients": 4,
    "rounds": 1,
    "eval_every": 1,
    "model": {"name": "logistic_regression"},
    "root": {"size": 4},
    "aggregator": {"name": "mean"},
}


def dataset(x, y, num_classes, **more):
    return Dataset(x, y, x[:9], y[:9], num_classes, "mine", **more)


FORMS = {
    "classes": (X, CLASSES, 4, Format((3,), None, (), 4), (4,)),
    "tokens": (TOKENS, CLASSES, 4, Format((5,), 7, (), 4), (4,)),
    "next token": (TOKENS, TOKENS, 7, Format((5,), 7, (5,), 7), (5, 7)),
    "regression": (X, NUMBERS, None, Format((3,), None, (), None), (1,)),
    "two numbers": (X, X[:, :2], None, Format((3,), None, (2,), None), (2,)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    x, y, classes, expected, outputs = FORMS[form]
    data = dataset(x, y, classes)
    assert data.format == expected
    assert data.format.outputs == outputs
    assert data.format.one_class == (form in ("classes", "tokens"))
    shapes = data.format.batch(2)
    assert [(s.shape, s.dtype) for s in shapes] == [((2, *a.shape[1:]), a.dtype) for a in (x, y)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dataset(X, NUMBERS, 4), "float32 and float32, expected float32 and int32"),
        (lambda: dataset(X, CLASSES, None), "float32 and int32, expected float32 and float32"),
        (lambda: Dataset(TOKENS, CLASSES, X, CLASSES, 4, "mine"), "test_x .*expected int32 and int32"),
        (lambda: dataset(X, np.full(40, np.nan, np.float32), None), "train_y is not finite"),
        (lambda: dataset(TOKENS, CLASSES, 4, num_tokens=6), "tokens go from 0 to 6, expected 0 to 5"),
        (lambda: dataset(TOKENS - 1, CLASSES, 4), "tokens go from -1 to 5, expected 0 or more"),
        (lambda: dataset(X, CLASSES, 4, num_tokens=9), "num_tokens=9, but the inputs are real numbers"),
        (lambda: Dataset(X, X[:, :2], X, X, None, "mine"), r"labels \(2,\) in train_y, \(3,\) in test_y"),
        (lambda: dataset(X, TOKENS[:, :, None], 7), "do not fit together"),
        (lambda: dataset(X, CLASSES, 4, test_client_ids=CLASSES[:9]), "test_client_ids need client_ids"),
        (
            lambda: dataset(X, CLASSES, 4, client_ids=CLASSES, test_client_ids=CLASSES[:9] + 1),
            "test_client_ids go from 1 to 4, expected -1 to 3",
        ),
        (
            lambda: dataset(X, CLASSES, 4, client_ids=CLASSES, test_client_ids=CLASSES),
            r"test_client_ids are int32 \(40,\), expected int32 \(9,\)",
        ),
        (lambda: from_arrays(X, NUMBERS), "train_y holds float32, expected whole numbers"),
        (lambda: from_arrays(X, TOKENS), r"train_y has shape \(40, 5\), expected one label"),
        (lambda: from_arrays(X, NUMBERS * np.inf, regression=True), "train_y is not finite"),
        (lambda: from_arrays(X, CLASSES, tokens=True), "train_x is float32 .*expected whole numbers"),
        (lambda: from_arrays(TOKENS - 1, CLASSES, tokens=True), "goes from -1 to 5, expected tokens from 0"),
        (lambda: from_arrays(X, CLASSES, test_client_ids=[0]), "test_client_ids need client_ids and test_x"),
    ],
)
def test_what_does_not_fit_is_one_sentence(build, message):
    with pytest.raises(DataError, match=f"^(mine|arrays): .*{message}"):
        build()


def test_tokens_and_numbers_from_arrays(tmp_path):
    ids = np.array(["b", "a", "c", "b"] * 10)
    tested = np.array(["c", "nobody", "a"])
    data = from_arrays(
        TOKENS, TOKENS, TOKENS[:3], TOKENS[:3], tokens=True, client_ids=ids, test_client_ids=tested
    )
    assert (data.train_x.dtype, data.num_classes, data.num_tokens) == (np.int32, 7, 7)
    assert data.test_client_ids.tolist() == [2, -1, 0]
    held = from_arrays(TOKENS, CLASSES, tokens=True, client_ids=ids, test_share=0.5)
    for part, owner in (("train", held.client_ids), ("test", held.test_client_ids)):
        rows = [np.flatnonzero((row == TOKENS).all(1))[0] for row in getattr(held, f"{part}_x")]
        assert [sorted(set(ids)).index(ids[row]) for row in rows] == owner.tolist()
    np.savez(tmp_path / "mine.npz", train_x=X, train_y=NUMBERS.astype(np.float64))
    data = load("npz", tmp_path, file="mine.npz", regression=True)
    assert (data.num_classes, data.train_y.dtype, len(data.test_y)) == (None, np.float32, 8)
    assert data.label_hash() != from_arrays(X, NUMBERS * 2, regression=True).label_hash()
    with pytest.raises(ConfigError, match="num_classes=3, but in regression there are no classes"):
        load("npz", tmp_path, file="mine.npz", regression=True, num_classes=3)


def parts(form, **more):
    x, y, classes, *_ = FORMS[form]
    loss = {} if classes else {"loss": {"name": "mse"}}
    return make_parts(parse_config({**RUN, **loss, **more}), dataset(x, y, classes, client_ids=CLASSES))


@pytest.mark.parametrize("form", ["next token", "regression"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"partition": {"name": "dirichlet"}}, "partition dirichlet: goes by the class .* by_client"),
        ({"partition": {"name": "label_bias"}}, "partition label_bias: goes by the class"),
        ({"root": {"size": 4, "bias": 0.5}}, "root: bias=0.5 is about classes"),
    ],
)
def test_what_goes_by_classes_refuses_data_without(form, setting, message):
    with pytest.raises(ConfigError, match=message):
        parts(form, **setting)


@pytest.mark.parametrize("attack", ["label_flip", "scaling_attack"])
def test_attacks_on_labels_refuse_regression(attack):
    made = parts("regression", attack={"name": attack})
    with pytest.raises(ConfigError, match=f"^{attack}: is about classes, .* regression"):
        made.resolved.make_attack(made.task)


def test_poisoned_examples_keep_their_type():
    form, rule = FORMS["next token"][3], stateless(mean)
    for message, poison_data in {
        "turns inputs int32 .* into float32": lambda x, y, *_: (x * 0.5, y),
        r"turns labels int32 \(1, 5\) into int32 \(1, 4\)": lambda x, y, *_: (x, y[:, 1:]),
    }.items():
        attack = NO_ATTACK._replace(poison_data=poison_data)
        with pytest.raises(ConfigError, match=message):
            check_pieces(rule, attack, 4, 4, form)
    check_pieces(rule, NO_ATTACK._replace(poison_data=lambda x, y, *_: (x + 1, y)), 4, 4, form)


def test_models_of_numbers():
    made = parts("regression")
    for shape in ((), (1,)):
        model = made.model._replace(apply=lambda p, x, shape=shape: x[:, 0].reshape(len(x), *shape))
        assert check_model(model, {}, FORMS["regression"][3], None) == ()
    with pytest.raises(ValueError, match=r"must become predictions \(1, 1\), got shape \(1, 2\)"):
        check_model(made.model._replace(apply=lambda p, x: x[:, :2]), {}, FORMS["regression"][3], None)


def test_root_and_holdings_without_classes(tmp_path):
    assert len(root_dataset(NUMBERS, 0, size=5)) == 5
    np.savez(tmp_path / "mine.npz", train_x=X, train_y=NUMBERS)
    data = {"name": "npz", "dir": str(tmp_path), "file": "mine.npz", "regression": True}
    config = parse_config({**RUN, "data": data})
    loaded, holdings = load_holdings(config)
    assert not holdings.by_class
    assert (holdings.clients.sum(), holdings.root.tolist()) == (28, [4])
    headers = [column.header for table in sizes_table(loaded, holdings) for column in table.columns]
    assert "examples" in headers
    assert "classes" not in headers
    assert not any("class" in remark for remark in remarks(config, holdings))
    plot_partition(holdings, "numbers", (), tmp_path / "shares.png")
    assert (tmp_path / "shares.png").stat().st_size > 1000
