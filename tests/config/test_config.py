import itertools
import json
import re
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fljax
from fljax.aggregators import stateless
from fljax.cli.app import main
from fljax.config.loading import apply_overrides, load_config, read_toml
from fljax.config.optimizers import make_optimizer
from fljax.config.schema import Component, parse_config
from fljax.errors import ConfigError
from fljax.simulation.run_folder import RunFolder
from fljax.sweeps import make_sweep

CONFIGS = Path(__file__).parents[2] / "configs"

TINY = """
rounds = 4
eval_every = 2
num_clients = 5
root = { size = 20 }
data = { name = "synthetic", num_train = 200, num_test = 50 }
model = { name = "logistic_regression" }
aggregator = { name = "mean" }
"""


@pytest.fixture
def rejected(monkeypatch, capsys, tmp_path):
    """`fljax run` on the tiny configuration with overrides; returns the sentence it is refused with."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)

    def call(*settings: str) -> str:
        overrides = [word for setting in settings for word in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", ["fljax", "run", "tiny.toml", "--out", "out", *overrides])
        with pytest.raises(SystemExit) as leave:
            main()
        error = capsys.readouterr().err
        assert leave.value.code == 2, error
        assert re.fullmatch(r"fljax: [^\n]+\n", error), f"not one sentence: {error!r}"
        assert list(tmp_path.iterdir()) == [config], "something was written"
        return error.removeprefix("fljax: ").strip()

    return call


# --- keys and types ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "nearest", "choices"),
    [
        ("roundz=3", "rounds", ["eval_every", "num_clients", "aggregator", "attack"]),
        ("local.step=3", "steps", ["batch_size", "learning_rate", "optimizer"]),
        ("local.batchsize=3", "batch_size", ["steps", "learning_rate", "optimizer"]),
        ("root.sise=3", "size", ["bias", "bias_class", "batch_size", "loss_reduction"]),
        ("server.learningrate=3", "learning_rate", ["optimizer"]),
        ("seeds.dat=3", "data", ["init", "train"]),
    ],
)
def test_unknown_key_names_the_nearest_and_the_valid_ones(rejected, setting, nearest, choices):
    message = rejected(setting)
    *table, key = setting.partition("=")[0].split(".")
    assert repr(key) in message
    assert f"did you mean {nearest!r}" in message
    assert all(choice in message.partition("choose from")[2] for choice in choices)
    assert message.startswith(f"{table[0]}: " if table else "unknown key")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("rounds", '"ten"', "integer"),
        ("rounds", "ten", "integer"),
        ("rounds", "true", "integer"),
        ("rounds", "2.0", "integer"),
        ("rounds", "0", "greater than 0"),
        ("rounds", "", "integer"),
        ("eval_every", "-2", "greater than 0"),
        ("num_clients", "0", "greater than 0"),
        ("cohort_size", "0", "greater than 0"),
        ("client_chunk", "0", "greater than 0"),
        ("client_chunk", '"aut"', "['\"]auto['\"]"),
        ("seed", "-1", "greater than or equal to 0"),
        ("seeds.train", "1.5", "integer"),
        ("local.steps", "[1, 2]", "integer"),
        ("local.batch_size", '"fulll"', "['\"]full['\"]"),
        ("local.batch_size", "0", "greater than 0"),
        ("local.batch_size", "true", "integer"),
        ("local.learning_rate", "-1", "greater than 0"),
        ("local.learning_rate", "0", "greater than 0"),
        ("local.learning_rate", "nan", "finite"),
        ("local.learning_rate", "inf", "finite"),
        ("local.learning_rate", '"fast"', "number"),
        ("local.learning_rate", "true", "number"),
        ("local.learning_rate", "{init_value = 1.0}", "name"),
        ("server.learning_rate", "-1", "greater than 0"),
        ("root.size", "0", "greater than 0"),
        ("root.bias", "2", "less than or equal to 1"),
        ("root.batch_size", '"fulll"', "['\"]full['\"]"),
        ("root.loss_reduction", '"sums"', "'mean' or 'sum'"),
        ("data.dir", "3", "string"),
        ("aggregator.name", "3", "string"),
        ("local", "3", "table|dictionary"),
        ("aggregator", '"mean"', 'a table, for example { name = "mean" }, got'),
        ("aggregator", '"a\\n{b}"', 'a table, for example { name = "fltrust" }, got'),
        ("local.optimizer", "adam", 'a table, for example { name = "adam" }, got'),
    ],
)
def test_wrong_value_names_key_value_and_what_is_allowed(rejected, key, value, allowed):
    message = rejected(f"{key}={value}")
    assert re.match(rf"{re.escape(key)}(\.name)?: ", message), message
    assert re.search(allowed, message), message
    shown = "" if value in ("{init_value = 1.0}", "") else value.strip('"').capitalize()
    assert shown in message or shown.lower() in message


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan", '"half"', '"0.4"', "true"])
def test_attack_fraction_is_a_number_between_0_and_1(rejected, value):
    message = rejected("attack.name=sign_flip", f"attack.fraction={value}")
    assert message.startswith("attack.fraction: ")
    assert value.strip('"').lower() in message.lower()


def test_seed_too_large_for_a_key_is_one_sentence(rejected):
    assert "seed" in rejected("seed=99999999999999999999999")


# --- components --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "given", "suggestion"),
    [
        ("aggregator.name=krm", "krm", "krum"),
        ("aggregator.name=medain", "medain", "median"),
        ('aggregator.pre=[{name = "clipp", radius = 1.0}]', "clipp", "clip"),
        ("attack.name=sign_flp", "sign_flp", "sign_flip"),
        ("attack.name=non", "non", "none"),
        ("model.name=mpl", "mpl", "mlp"),
        ("data.name=digit", "digit", "digits"),
        ("partition.name=label_bais", "label_bais", "label_bias"),
        ("local.optimizer.name=sdg", "sdg", "sgd"),
        ("server.optimizer.name=adm", "adm", "adam"),
        (
            'local.learning_rate={name = "cosine_decay_shedule"}',
            "cosine_decay_shedule",
            "cosine_decay_schedule",
        ),
        ('server.learning_rate={name = "cosine"}', "cosine", "cosine_decay_schedule"),
    ],
)
def test_unknown_component_names_a_valid_one(rejected, setting, given, suggestion):
    message = rejected(setting)
    assert repr(given) in message
    assert re.search(rf"\b{suggestion}\b", message)


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        ('aggregator={name = "krum"}', ["krum", "num_malicious", "required"]),
        ('aggregator={name = "trimmed_mean"}', ["trimmed_mean", "trim", "required"]),
        ('aggregator={name = "trimmed_mean", trim = "a"}', ["trimmed_mean.trim", "integer", "'a'"]),
        ('aggregator={name = "trimmed_mean", trim = 1.5}', ["trimmed_mean.trim", "integer", "1.5"]),
        ('aggregator={name = "trimmed_mean", trim = true}', ["trimmed_mean.trim", "integer", "True"]),
        ('aggregator={name = "trimmed_mean", trm = 1}', ["'trm'", "did you mean 'trim'"]),
        ('aggregator={name = "krum", num_malicious = 1, trim = 1}', ["'trim'", "num_malicious", "power"]),
        ('aggregator={name = "median", trim = 1}', ["median", "takes no parameters", "'trim'"]),
        ('aggregator={name = "mean", weights = "siz"}', ["weights", "'size' or 'uniform'", "'siz'"]),
        ('aggregator={name = "fltrust", normalize = "ful"}', ["normalize", "'full'", "'shrink'", "'none'"]),
        ("aggregator={}", ["aggregator.name", "required"]),
        ('aggregator.pre=[{name = "clip"}]', ["clip", "radius", "required"]),
        ("aggregator.pre=[{radius = 1.0}]", ["aggregator.pre.0.name", "required"]),
        ('aggregator.pre=["clip"]', ["aggregator.pre.0", "'clip'"]),
        ('attack={name = "sign_flip", factr = 1}', ["'factr'", "did you mean 'factor'", "of"]),
        ('attack={name = "sign_flip", factor = "a"}', ["sign_flip.factor", "number", "'a'"]),
        ('attack={name = "sign_flip", of = "all"}', ["sign_flip.of", "'own' or 'mean'", "'all'"]),
        ('attack={name = "none", factor = 1}', ["takes no parameters", "'factor'"]),
        ("attack.fraction=0.2", ["attack.name", "required"]),
        ('partition={name = "label_bias", bais = 0.5}', ["'bais'", "did you mean 'bias'"]),
        ('partition={name = "label_bias", bias = "a"}', ["label_bias.bias", "number", "'a'"]),
        ('partition={name = "label_bias", num_clients = 3}', ["'num_clients'", "choose from bias"]),
        ('model={name = "mlp", hiden = [8]}', ["'hiden'", "did you mean 'hidden'"]),
        ('model={name = "mlp", hidden = ["a"]}', ["mlp.hidden.0", "integer", "'a'"]),
        ('model={name = "logistic_regression", hidden = [8]}', ["takes no parameters", "'hidden'"]),
        ('data={name = "synthetic", num_trian = 9}', ["'num_trian'", "did you mean 'num_train'"]),
        ('data={name = "synthetic", num_train = -1}', ["num_train", "-1"]),
        ('data={name = "digits", num_train = 9}', ["digits", "takes no parameters", "'num_train'"]),
        ('local.optimizer={name = "adam", beta1 = 0.9}', ["local.optimizer", "'beta1'", "b1"]),
        ('local.optimizer={name = "adam", learning_rate = 0.1}', ["local.optimizer", "'learning_rate'"]),
        ('local.learning_rate={name = "cosine_decay_schedule"}', ["local.learning_rate", "init_value"]),
        (
            'local.learning_rate={name = "linear_schedule", init_valu = 0.1}',
            ["local.learning_rate", "'init_valu'", "did you mean 'init_value'"],
        ),
    ],
)
def test_component_parameters_are_checked_against_the_signature(rejected, setting, fragments):
    message = rejected(setting)
    assert all(fragment in message for fragment in fragments), message


@pytest.mark.parametrize(
    ("setting", "fragments"),
    [
        (
            'local.learning_rate={name = "cosine_decay_schedule", init_value = "a", decay_steps = 3}',
            ["local.learning_rate"],
        ),
        (
            'local.learning_rate={name = "piecewise_constant_schedule", init_value = 0.1, '
            "boundaries_and_scales = {two = 0.5}}",
            ["local.learning_rate", "two"],
        ),
        (
            'local.learning_rate={name = "piecewise_constant_schedule", init_value = 0.1, '
            "boundaries_and_scales = 3}",
            ["local.learning_rate"],
        ),
        ('local.optimizer={name = "adam", b1 = "x"}', ["local.optimizer"]),
        ('server.optimizer={name = "adam", b1 = "x"}', ["server.optimizer"]),
        ('local.optimizer={name = "lbfgs"}', ["local.optimizer", "lbfgs"]),
        ('server.optimizer={name = "lbfgs"}', ["server.optimizer", "lbfgs"]),
    ],
)
def test_optax_parameters_that_cannot_work_are_errors_of_the_input(rejected, setting, fragments):
    message = rejected(setting)
    assert all(fragment in message for fragment in fragments), message


# --- what does not fit together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        (['aggregator={name = "trimmed_mean", trim = 3}'], ["trimmed_mean", "trim=3", "n > 6", "n=5"]),
        (['aggregator={name = "trimmed_mean", trim = -1}'], ["trimmed_mean", "trim=-1"]),
        (['aggregator={name = "krum", num_malicious = 3}'], ["krum", "num_malicious=3", "n=5"]),
        (['aggregator={name = "krum", num_malicious = -1}'], ["krum", "num_malicious=-1"]),
        (['aggregator={name = "krum", num_malicious = 1}', "cohort_size=3"], ["krum", "n=3"]),
        (['aggregator={name = "bulyan", num_malicious = 1}'], ["bulyan", "n > 6", "n=5"]),
        (['aggregator={name = "foolsgold", confidence = -1.0}'], ["foolsgold", "confidence=-1.0"]),
        (['aggregator={name = "geometric_median", max_iterations = 99999999999}'], ["max_iterations"]),
        (['aggregator={name = "krum", num_malicious = 1, power = 3}'], ["krum", "power=3"]),
        (['aggregator.pre=[{name = "clip", radius = -1.0}]'], ["clip", "radius=-1.0", "larger than 0"]),
        (["cohort_size=6"], ["cohort_size=6", "num_clients=5"]),
        (["eval_every=3"], ["rounds=4", "eval_every=3", "3 or 6"]),
        (["eval_every=5"], ["rounds=4", "eval_every=5"]),
        (["partition.name=label_bias"], ["num_clients=5", "classes", "10"]),
        (['partition={name = "label_bias", bias = 1.5}'], ["bias=1.5", "between 0 and 1"]),
        (["partition.name=by_client"], ["by_client", "synthetic", "no natural clients"]),
        (
            ["partition.name=by_client", 'data={name = "digits"}'],
            ["by_client", "digits", "no natural clients"],
        ),
        (["num_clients=190"], ["iid", "190 clients"]),
        (["root.size=200"], ["size=200", "199"]),
        (["root.size=199"], ["clients"]),
        (["root.bias=0.5", "root.bias_class=10"], ["bias_class=10", "between 0 and 9"]),
        (["root.size=50", "root.bias=1.0"], ["50 examples of class 1", "has 20"]),
        (["model.name=cnn", 'data={name = "digits"}'], ["cnn", "(8, 8, 1)"]),
        (["model.name=cnn"], ["cnn", "(20,)"]),
        (['model={name = "mlp", hidden = [0]}'], ["mlp"]),
        (['model={name = "mlp", hidden = [-3]}'], ["mlp"]),
        (
            ['root.loss_reduction="sum"', 'local.batch_size="full"'],
            ["loss_reduction", "batch_size", '"full"'],
        ),
        (['data={name = "mnist", dir = "nowhere"}'], ["mnist", "'nowhere'"]),
        (['attack={name = "scaling_attack", poison_fraction = -1.0}'], ["poison_fraction=-1.0"]),
        (['attack={name = "scaling_attack", every = 99}'], ["every=99", "20 features"]),
        (
            ['attack={name = "scaling_attack", pixels = [[100, 0]]}', 'data={name = "digits"}'],
            ["(100, 0)", "8×8"],
        ),
        (['attack={name = "scaling_attack", target = 10}'], ["target=10"]),
    ],
    ids=" ".join,
)
def test_pieces_that_do_not_fit_are_refused_before_anything_is_written(rejected, settings, fragments):
    message = rejected(*settings)
    assert all(fragment in message for fragment in fragments), message


def test_partitions_without_natural_clients_need_their_number():
    with pytest.raises(ConfigError, match="num_clients is required"):
        fljax.build(parse_config({"data": {"name": "synthetic"}}))


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("aggregator.nmae=krum", "name"),
        ("aggregator.per=[]", "pre"),
        ('aggregator.pre=[{name = "clip", radius = 1.0, nmae = 3}]', "name"),
        ('attack={name = "alie", fracton = 0.3}', "fraction"),
        ('attack={name = "none", in_chort = 1}', "in_cohort"),
        ('attack={name = "alie", shedule = {name = "periodic", on = 1, off = 1}}', "schedule"),
        ('attack={name = "worst_case", attacks = [{name = "alie", nmae = 3}]}', "name"),
        ("data.dri=there", "dir"),
        ('data={name = "digits", dri = "there"}', "dir"),
        ("model.nmae=cnn", "name"),
        ("partition.nmae=iid", "name"),
        ("local.optimizer.nmae=adam", "name"),
        ("local.optimizer.momentun=0.9", "momentum"),
        ("server.optimizer.nmae=adam", "name"),
        # Where nothing says which component is meant.
        ('attack={nmae = "alie"}', "nmae"),
        ('data={nmae = "digits"}', "nmae"),
        ('local.learning_rate={nmae = "exponential_decay"}', "nmae"),
        ('aggregator.pre=[{nmae = "clip"}]', "nmae"),
        ('attack={name = "alie", schedule = {nmae = "periodic"}}', "nmae"),
    ],
)
def test_a_misspelt_key_of_any_component_is_told_apart_from_its_parameters(rejected, setting, nearest):
    message = rejected(setting)
    assert re.search(rf"did you mean '{nearest}'|is '{nearest}' meant", message), message


@pytest.mark.parametrize(
    ("key", "name", "parameter"),
    [
        ("local.optimizer", "sgd", {"momentum": 0.9}),
        ("server.optimizer", "sgd", {"nesterov": True}),
        ("aggregator", "fltrust", {"clip_negative": False}),
        ("model", "mlp", {"hidden": [8]}),
        ("partition", "iid", {"min_size": 3}),
    ],
)
def test_a_table_without_a_name_is_of_the_default_component(key, name, parameter):
    (inner, value), *_ = parameter.items()
    config = parse_config(apply_overrides({}, {f"{key}.{inner}": value}))
    for part in key.split("."):
        config = getattr(config, part)
    assert (config.name, config.parameters) == (name, parameter)
    # A name that comes later is the one meant.
    named = apply_overrides(apply_overrides({}, {f"{key}.{inner}": value}), {f"{key}.name": "other"})
    config = parse_config(named)
    for part in key.split("."):
        config = getattr(config, part)
    assert (config.name, config.parameters) == ("other", parameter)


@pytest.mark.parametrize("setting", ["attack={fraction = 0.3}", 'data={dir = "there"}'])
def test_a_name_without_which_a_table_says_nothing_is_required(monkeypatch, rejected, setting):
    assert re.match(rf"{setting.partition('=')[0]}.name: .* required", rejected(setting))


# --- overrides ---------------------------------------------------------------------------------------


@pytest.fixture
def seen_config(monkeypatch, capsys, tmp_path):
    """The configuration `fljax run` arrives at, without running it."""
    (tmp_path / "tiny.toml").write_text(TINY)

    def call(*settings: str):
        seen = []

        def assemble(config, memory):
            seen.append(config)
            raise ConfigError("seen")

        monkeypatch.setattr("fljax.simulation.experiment.assemble", assemble)
        overrides = [word for setting in settings for word in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", ["fljax", "run", str(tmp_path / "tiny.toml"), *overrides])
        with pytest.raises(SystemExit):
            main()
        error = capsys.readouterr().err
        assert error == "fljax: seen\n"
        return seen[0]

    return call


def test_set_reads_toml_values_and_bare_words(seen_config):
    config = seen_config(
        "rounds=8",
        "seed = 3",
        "local.learning_rate=1e-2",
        "local.batch_size=full",
        'root.loss_reduction="sum"',
        'model={name = "mlp", hidden = [8, 4]}',
        "aggregator.name=fltrust",
        "aggregator.clip_negative=false",
        "local.optimizer.name='adam'",
        "data.dir=/a folder/with=equals",
    )
    assert (config.rounds, config.seed, config.num_clients) == (8, 3, 5)
    assert (config.local.learning_rate, config.local.batch_size) == (0.01, "full")
    assert config.root.loss_reduction == "sum"
    assert config.root.size == 20
    assert config.model.parameters == {"hidden": [8, 4]}
    assert (config.aggregator.name, config.aggregator.parameters) == ("fltrust", {"clip_negative": False})
    assert config.local.optimizer.name == "adam"
    assert config.data.dir == "/a folder/with=equals"


def test_the_last_of_two_equal_settings_wins(seen_config):
    assert seen_config("rounds=8", "rounds=6").rounds == 6


@pytest.mark.parametrize("setting", ["rounds", "=3", " =3", "rounds.x=3", "aggregator.name.x=1", "local.=3"])
def test_set_garbage_is_one_sentence_that_shows_it(rejected, setting):
    message = rejected(setting)
    assert setting.partition("=")[0].strip(" .") in message
    assert "unknown key ''" not in message


def test_a_new_name_drops_the_former_parameters_only():
    values = {
        "seed": 7,
        "attack": {"name": "trim_attack", "stretch": 3.0, "fraction": 0.4},
        "data": {"name": "synthetic", "num_train": 300, "dir": "/data"},
        "aggregator": {"name": "krum", "num_malicious": 2},
        "local": {"steps": 3, "optimizer": {"name": "sgd", "momentum": 0.9}},
    }
    before = json.dumps(values)
    new = apply_overrides(
        values,
        {
            "attack.name": "sign_flip",
            "data.name": "digits",
            "aggregator.name": "median",
            "local.optimizer.name": "adam",
        },
    )
    assert new == {
        "seed": 7,
        "attack": {"name": "sign_flip", "fraction": 0.4},
        "data": {"name": "digits", "dir": "/data"},
        "aggregator": {"name": "median"},
        "local": {"steps": 3, "optimizer": {"name": "adam"}},
    }
    assert json.dumps(values) == before


def test_a_table_that_is_set_is_left_alone_by_the_keys_beside_it():
    attack = {"name": "sign_flip"}
    assert apply_overrides({}, {"attack": attack, "attack.fraction": 0.4})["attack"]["fraction"] == 0.4
    assert attack == {"name": "sign_flip"}


def test_naming_the_same_component_keeps_its_parameters():
    values = {"aggregator": {"name": "krum", "num_malicious": 2}}
    assert apply_overrides(values, {"aggregator.name": "krum"}) == values


def test_a_new_rule_keeps_what_runs_before_it():
    # `pre` belongs to every aggregator table, as `fraction` does to every attack table.
    clip = {"name": "clip", "radius": 1.0}
    values = {"aggregator": {"name": "krum", "num_malicious": 2, "pre": [clip]}}
    assert apply_overrides(values, {"aggregator.name": "median"}) == {
        "aggregator": {"name": "median", "pre": [clip]}
    }


@pytest.mark.parametrize(
    "order",
    list(
        itertools.permutations([("aggregator.name", "krum"), ("aggregator.num_malicious", 1), ("rounds", 6)])
    ),
)
def test_a_parameter_goes_with_the_new_name_in_any_order(order):
    values = {"rounds": 4, "aggregator": {"name": "trimmed_mean", "trim": 1}}
    assert apply_overrides(values, dict(order)) == {
        "rounds": 6,
        "aggregator": {"name": "krum", "num_malicious": 1},
    }


def test_overrides_create_tables_that_the_file_leaves_out():
    config = parse_config(apply_overrides({}, {"local.optimizer.name": "adam", "local.optimizer.b1": 0.8}))
    assert config.local.optimizer.parameters == {"b1": 0.8}


# --- the resolved configuration ----------------------------------------------------------------------

FULL = {
    "rounds": 12,
    "eval_every": 3,
    "num_clients": 9,
    "cohort_size": 4,
    "checkpoint_every": {"minutes": 2},
    "client_chunk": 2,
    "devices": {"runs": 1, "clients": 2},
    "streaming": False,
    "precision": "highest",
    "seed": 5,
    "seeds": {"init": 1},
    "data": {"name": "synthetic", "normalize": True, "num_train": 300, "separation": 2},
    "partition": {"name": "label_bias", "bias": 0.25},
    "model": {"name": "mlp", "hidden": [8, 4]},
    "local": {
        "steps": 2,
        "batch_size": "full",
        "learning_rate": {
            "name": "piecewise_constant_schedule",
            "init_value": 0.1,
            "boundaries_and_scales": {"2": 0.5},
        },
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "augment": [{"name": "crop", "padding": 2}],
    },
    "root": {"size": 30, "bias": 0.1, "bias_class": 2, "batch_size": 7},
    "server": {"learning_rate": 0.5, "optimizer": {"name": "adam", "b1": 0.8}},
    "client": {"name": "momentum", "beta": 0.99},
    "aggregator": {"name": "trimmed_mean", "trim": 1, "pre": [{"name": "clip", "radius": 2}]},
    "attack": {
        "name": "sign_flip",
        "factor": 3,
        "fraction": 0.25,
        "in_cohort": 2,
        "schedule": {"name": "periodic", "on": 5, "off": 5},
        "natural": [{"name": "badnets"}],
    },
    "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
    "metrics": ["test_loss", {"name": "client_errors"}],
    "validation": {"size": 40},
    "stop": {"metric": "validation_error", "target": 0.1, "patience": 4},
}


@pytest.mark.parametrize("name", ["quickstart", "mnist_quick", "rules_by_attacks"])
def test_shipped_configurations_survive_the_round_trip(name):
    values = read_toml(CONFIGS / f"{name}.toml")
    values.pop("sweep", None)
    config = parse_config(values)
    assert parse_config(json.loads(json.dumps(config.resolved()))) == config


def test_every_key_survives_the_round_trip():
    config = parse_config(FULL)
    resolved = json.loads(json.dumps(config.resolved(), allow_nan=False))
    assert parse_config(resolved) == config
    assert resolved["attack"] == FULL["attack"]
    assert resolved["aggregator"]["pre"] == FULL["aggregator"]["pre"]
    assert resolved["local"] == {**FULL["local"], "epochs": None}
    assert resolved["metrics"] == [{"name": "test_loss"}, {"name": "client_errors"}]
    assert {key: resolved[key] for key in ("loss", "stop", "validation")} == {
        key: FULL[key] for key in ("loss", "stop", "validation")
    }
    assert set(FULL) == set(resolved)


def test_defaults_are_resolved():
    resolved = parse_config({}).resolved()
    assert resolved["rounds"] == 500
    assert resolved["aggregator"]["name"] == "fltrust"
    assert resolved["cohort_size"] is None
    assert resolved["local"]["optimizer"] == {"name": "sgd"}


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_parameter_that_is_not_finite_survives_the_round_trip(factor):
    # TOML has inf and nan, and an attack may send them; JSON has not.
    config = parse_config({"attack": {"name": "sign_flip", "factor": factor, "fraction": 0.25}})
    resolved = json.loads(json.dumps(config.resolved(), allow_nan=False))
    np.testing.assert_equal(float(parse_config(resolved).attack.parameters["factor"]), factor)


def test_load_config_reads_and_overrides(tmp_path):
    path = tmp_path / "ü ñ.toml"
    path.write_text(TINY + '\n[attack]\nname = "sign_flip"\nfactor = 3.0\nfraction = 0.4\n', encoding="utf-8")
    config = fljax.load_config(str(path), overrides={"attack.name": "label_flip", "rounds": 6})
    assert (config.rounds, config.attack.name, config.attack.fraction) == (6, "label_flip", 0.4)
    assert config.attack.parameters == {}
    assert load_config(path).attack.parameters == {"factor": 3.0}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 3.0])
def test_load_config_reads_what_a_run_wrote(tmp_path, value):
    values = {**FULL, "attack": {"name": "constant", "value": value, "fraction": 0.25}}
    config = parse_config(values)
    run = RunFolder(tmp_path / "demo", config.resolved(), resume=False)
    path = run.path / "config.json"
    assert load_config(path) == config == load_config(json.loads(path.read_text()))
    (tmp_path / "again.toml").write_text('extends = "demo/config.json"\nseed = 9\n')
    for again in (load_config(path, {"seed": 9}), load_config(tmp_path / "again.toml")):
        assert again == config.model_copy(update={"seed": 9})
    with pytest.raises(ConfigError, match=r"demo is a run's folder|demo/config\.json"):
        load_config(run.path)


def test_load_config_reads_a_cell_of_a_sweep():
    table = {"axes": {"attack": [{"name": "constant", "value": float("nan")}]}}
    cell = make_sweep({"num_clients": 10}, table).cells[0]
    config = load_config(json.loads(json.dumps(cell.config.resolved())))
    assert np.isnan(config.attack.parameters["value"])
    assert config.model_dump(exclude={"attack"}) == cell.config.model_dump(exclude={"attack"})


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"rounds": 3', "null", '{"rounds": 3}x'])
def test_json_that_is_no_configuration_is_one_sentence(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


# --- schedules and optimizers ------------------------------------------------------------------------


def _history(rounds: int = 3, **tables):
    """Models before and after each round, and the norms of the aggregates."""
    values = apply_overrides(tomllib.loads(TINY), {name.replace("__", "."): v for name, v in tables.items()})
    round_fn, state = fljax.build(parse_config(values))

    @jax.jit
    def many(state):
        def one(carry, _):
            after, metrics = round_fn(carry)
            return after, (after.run.params, metrics.update_norm)

        return jax.lax.scan(one, state, length=rounds)[1]

    params, norms = many(state)
    return np.concatenate([np.asarray(state.run.params)[None], np.asarray(params)]), np.asarray(norms)


HALVED = {"name": "piecewise_constant_schedule", "init_value": 0.1, "boundaries_and_scales": {"2": 0.5}}


@pytest.fixture(scope="module")
def plain():
    """Three rounds of FedAvg: SGD at 0.1 on the clients, at 1.0 on the server."""
    return _history()


def test_local_schedule_halves_the_step_from_its_boundary_on(plain):
    _, constant = plain
    _, scheduled = _history(local__learning_rate=HALVED)
    assert (constant > 0).all()
    np.testing.assert_allclose(scheduled[:2], constant[:2], rtol=1e-6)
    # One SGD step a round from the same model: half the rate is half the update.
    np.testing.assert_allclose(scheduled[2], constant[2] / 2, rtol=1e-5)


def test_every_kind_of_schedule_has_its_name():
    for table in (
        {"name": "exponential_decay", "init_value": 0.1, "transition_steps": 1, "decay_rate": 0.5},
        {"name": "linear_schedule", "init_value": 0.1, "end_value": 0.05, "transition_steps": 1},
    ):
        _, norms = _history(2, local__learning_rate=table)
        _, constant = _history(2, local__learning_rate=0.1)
        np.testing.assert_allclose(norms[0], constant[0], rtol=1e-6)
        assert norms[1] < 0.7 * constant[1]


def test_server_schedule_halves_the_model_change_from_its_boundary_on(plain):
    params, norms = plain
    halved, same_norms = _history(server__learning_rate=HALVED | {"init_value": 1.0})
    np.testing.assert_allclose(same_norms, norms, rtol=1e-6)
    np.testing.assert_allclose(halved[:3], params[:3], rtol=1e-6)
    np.testing.assert_allclose(halved[3] - halved[2], (params[3] - params[2]) / 2, atol=1e-6)


def test_server_momentum_adds_the_former_step(plain):
    params, norms = _history(server__optimizer={"name": "sgd", "momentum": 0.9})
    np.testing.assert_allclose(params[1], plain[0][1], rtol=1e-6)
    step = np.diff(params, axis=0)
    # w_2 − w_1 = g_2 + 0.9 g_1, so what is left after the momentum has the aggregate's norm.
    np.testing.assert_allclose(np.linalg.norm(step[1] - 0.9 * step[0]), norms[1], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(step[2] - 0.9 * step[1]), norms[2], rtol=1e-4)


def test_weight_decay_enters_the_momentum_as_in_pytorch():
    decay, rate, momentum = 0.1, 0.5, 0.9
    table = {"name": "sgd", "momentum": momentum, "weight_decay": decay}
    optimizer = make_optimizer("server.optimizer", Component.model_validate(table))(rate)
    w, gradient, trace = 2.0, 0.3, 0.0
    params, state = jnp.float32(w), optimizer.init(jnp.float32(w))
    for _ in range(3):
        trace = momentum * trace + gradient + decay * w
        w -= rate * trace
        change, state = optimizer.update(jnp.float32(gradient), state, params)
        params += change
    np.testing.assert_allclose(params, w, rtol=1e-6)


def test_weight_decay_is_no_part_of_an_optimizer_without_it():
    def state(**table):
        optimizer = make_optimizer("local.optimizer", Component.model_validate(table))(0.1)
        return jax.tree.structure(optimizer.init(jnp.zeros(2)))

    assert state(name="sgd") == jax.tree.structure(optax.sgd(0.1).init(jnp.zeros(2)))
    # AdamW has its own.
    assert state(name="adamw", weight_decay=0.1) == state(name="adamw")


def test_server_adam_moves_every_coordinate_by_its_rate_at_first(plain):
    params, _ = _history(rounds=1, server__optimizer={"name": "adam"}, server__learning_rate=0.01)
    update, step = plain[0][1] - plain[0][0], params[1] - params[0]
    moved = np.abs(update) > 1e-4
    assert moved.mean() > 0.5
    np.testing.assert_allclose(step[moved], 0.01 * np.sign(update[moved]), rtol=1e-2)


def test_local_optimizer_starts_afresh_every_round():
    # So small a rate leaves the gradient as it is: two steps of momentum 0.9 are 1 + 1.9 of it, every round.
    small = {"local__steps": 2, "local__batch_size": "full", "local__learning_rate": 1e-4, "num_clients": 1}
    _, without = _history(2, **small)
    _, with_momentum = _history(2, local__optimizer={"name": "sgd", "momentum": 0.9}, **small)
    np.testing.assert_allclose(with_momentum / without, [2.9 / 2, 2.9 / 2], rtol=1e-2)


def test_build_takes_components_in_place_of_the_configuration():
    def quarter(updates):
        return jnp.full(updates.shape[1], 0.25)

    round_fn, state = fljax.build(parse_config(tomllib.loads(TINY)), aggregator=stateless(quarter))
    after, metrics = jax.jit(round_fn)(state)
    assert int(after.run.round) == 1
    # The server goes along the aggregate, not against it.
    np.testing.assert_allclose(after.run.params - state.run.params, 0.25, rtol=1e-5)
    np.testing.assert_allclose(metrics.update_norm, 0.25 * np.sqrt(210), rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"rounds": 10}, 3, None], ids=["values", "a number", "None"])
def test_what_is_no_configuration_is_refused_wherever_one_is_wanted(wrong):
    for call in (fljax.run, fljax.build, fljax.experiment.assemble):
        with pytest.raises(ConfigError, match=r"^a configuration is what fljax.load_config makes of .*, got"):
            call(wrong)
    if not isinstance(wrong, dict):
        with pytest.raises(ConfigError, match=r"^a sweep is a path, a dictionary .*make_sweep returns, got"):
            fljax.sweep(wrong)
        with pytest.raises(ConfigError, match=r"^load_config takes a path or a dictionary of values, got"):
            fljax.load_config(wrong)
    else:
        with pytest.raises(ConfigError, match=r"^this dictionary has no \[sweep\] table.*: fljax\.run$"):
            fljax.sweep(wrong)
        with pytest.raises(ConfigError, match=r"^load_config reads a file or plain values"):
            fljax.load_config(parse_config(wrong))
