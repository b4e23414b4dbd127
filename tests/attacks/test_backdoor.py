"""Backdoors: what is poisoned, by whom, how much it is enlarged, and what counts as success."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import Context
from fljax.attacks import (
    NO_ATTACK,
    Knowledge,
    Task,
    attack_from_registry,
    badnets,
    distributed_backdoor,
    edge_case,
    label_flip,
    model_replacement,
    random_label_flip,
    replace_model,
    scaling_attack,
    sinusoidal,
    sinusoidal_trigger,
)
from fljax.config.schema import parse_config
from fljax.engine.batches import Batches, marked_in_place
from fljax.simulation.experiment import assemble
from tests.attacks.quadratic import (
    BACKDOOR,
    COUNTS,
    HESSIAN,
    MALICIOUS,
    POINTS,
    POISON,
    RATE,
    START,
    Quadratic,
    sent_by_rounds,
)

COPIES = jnp.array([True, False])


def parts_of(attack, shape, count):
    """The positions that every member changes in a copy, and a check that originals stay."""
    x, y = jnp.full((2, *shape), 0.5), jnp.array([5, 5])
    found = []
    for member in range(count):
        marked, labels = attack.poison_data(x, y, COPIES, jnp.int32(member))
        np.testing.assert_array_equal(marked[1], x[1])
        np.testing.assert_array_equal(labels, [attack.trigger.target, 5])
        found.append({tuple(map(int, at)) for at in np.argwhere(np.asarray(marked[0]) != 0.5)})
    return found


def test_its_parts_are_triggers_of_their_own():
    attack = distributed_backdoor(image_shape=(28, 28, 1), target=3)
    x = jnp.zeros((1, 28, 28, 1))
    marked = {name: np.asarray(trigger.embed(x)) for name, trigger in attack.triggers.items()}
    assert list(marked) == ["part_0", "part_1", "part_2", "part_3"]
    assert {trigger.target for trigger in attack.triggers.values()} == {3}
    np.testing.assert_array_equal(sum(marked.values()), attack.trigger.embed(x))
    assert all(part.sum() == 4 for part in marked.values())


def test_distributed_trigger_for_mnist_is_the_published_one():
    parts = parts_of(distributed_backdoor(image_shape=(28, 28, 1)), (28, 28, 1), 5)
    bars = [(0, 0), (0, 6), (3, 0), (3, 6)]
    for part, (row, column) in zip(parts, bars, strict=False):
        assert part == {(row, column + k, 0) for k in range(4)}
    assert parts[4] == parts[0]  # the fifth attacker starts again


@pytest.mark.parametrize(
    ("shape", "options", "size"),
    [
        ((32, 32, 3), {}, 24 * 3),
        ((8, 8, 1), {}, 4),
        ((64, 64, 1), {"num_parts": 2}, 4),
        ((9, 9, 1), {"parts": [[(0, 0)], [(1, 1), (2, 2)], [(8, 8)]]}, 4),
        ((561,), {"num_parts": 3}, 28),
    ],
)
def test_parts_are_disjoint_and_make_up_the_trigger(shape, options, size):
    image = shape if len(shape) == 3 else None
    attack = distributed_backdoor(image_shape=image, **options)
    count = len(options.get("parts", range(options.get("num_parts", 4))))
    parts = parts_of(attack, shape, count)
    whole = np.asarray(attack.trigger.embed(jnp.full(shape, 0.5)))
    marked = {tuple(map(int, at)) for at in np.argwhere(whole != 0.5)}
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == size
    assert set.union(*parts) == marked
    assert (whole[whole != 0.5] == (1.0 if image else 0.0)).all()


def test_each_malicious_client_gets_its_own_part_in_a_run():
    seen = {}

    config = parse_config(
        {
            "rounds": 1,
            "eval_every": 1,
            "num_clients": 10,
            "cohort_size": 6,
            "model": {"name": "logistic_regression"},
            "client_chunk": 1,
            "attack": {"name": "none", "fraction": 0.5},
        }
    )
    base = distributed_backdoor(image_shape=(8, 8, 1), poison_fraction=1.0)

    def poison(x, y, is_copy, member):
        marked, labels = base.poison_data(x, y, is_copy, member)
        jax.debug.callback(
            lambda k, *what: seen.setdefault(int(k), []).append(tuple(map(np.asarray, what))),
            member,
            is_copy,
            x,
            marked,
        )
        return marked, labels

    experiment = assemble(config, attack=base._replace(poison_data=poison))
    state = experiment.state.run
    for _ in range(6):
        state, _ = jax.jit(experiment.step)(state, experiment.state.data)
    jax.block_until_ready(state)
    jax.effects_barrier()
    malicious = np.asarray(experiment.state.data.malicious)
    attackers = set(range(malicious.sum()))
    pixels = [(6, 6), (4, 6), (6, 4), (5, 5)]
    checked = set()
    for member, batches in seen.items():
        for is_copy, x, marked in batches:
            if not is_copy.any():
                continue
            row, column = pixels[member % 4]
            assert (marked[is_copy][:, row, column, 0] == 1).all()
            changed = np.argwhere((marked != x).any((0, 3)))
            assert {tuple(at) for at in changed} <= {(row, column)}
            checked.add(member)
    assert checked == attackers


def test_the_whole_trigger_is_measured():
    """A model that answers the target only for the whole trigger: success 1 with it, 0 for parts."""
    attack = distributed_backdoor(image_shape=(8, 8, 1), target=3)
    x = jnp.zeros((1, 8, 8, 1))
    assert float(attack.trigger.embed(x).sum()) == 4
    for member in range(4):
        part, _ = attack.poison_data(x, jnp.array([0]), jnp.array([True]), jnp.int32(member))
        assert float(part.sum()) == 1
    assert attack.trigger.target == 3


def test_model_replacement_replaces_the_model():
    random = np.random.default_rng(0)
    for m in (1, 3):
        updates = random.normal(size=(8, 5)).astype(np.float32)
        updates[m:] -= updates[m:].mean(0)  # honest clients have converged
        malicious = np.arange(8) < m
        replaced = np.asarray(replace_model(updates, malicious, server_lr=0.5))
        np.testing.assert_allclose(0.5 * replaced.mean(0), updates[:m].mean(0), rtol=1e-4, atol=1e-6)
        assert replaced[m:].tobytes() == updates[m:].tobytes()
    everybody, nobody = np.ones(8, bool), np.zeros(8, bool)
    np.testing.assert_allclose(replace_model(updates, everybody), updates, rtol=1e-6)
    np.testing.assert_array_equal(replace_model(updates, nobody), updates)
    attack = model_replacement(image_shape=(8, 8, 1), server_lr=0.5, target=2)
    corrupted, _ = attack.corrupt(jnp.asarray(updates), jnp.asarray(malicious), (), Knowledge(Context()))
    np.testing.assert_allclose(corrupted, replaced, rtol=1e-6)
    with pytest.raises(ValueError, match="server_lr=0 must be larger than 0"):
        replace_model(updates, malicious, server_lr=0)


def test_uniform_shares_are_drawn_once_for_every_client():
    attack = scaling_attack(image_shape=(8, 8, 1), poison_fraction="uniform")
    assert attack.copies == 1.0
    shares = np.array([float(attack.share(jnp.int32(k))) for k in range(200)])
    assert ((shares > 0) & (shares <= 1)).all()
    assert abs(shares.mean() - 0.5) < 0.06
    assert abs(shares.std() - np.sqrt(1 / 12)) < 0.04


def test_a_share_of_its_own_changes_how_many_copies_a_client_has():
    captured = []

    def poison(x, y, is_copy, member):
        jax.debug.callback(lambda k, c: captured.append((int(k), c.mean())), member, is_copy)
        return x, y

    config = parse_config(
        {
            "num_clients": 4,
            "model": {"name": "logistic_regression"},
            "client_chunk": 1,
            "local": {"batch_size": "full"},
            "attack": {"name": "none", "fraction": 1.0},
        }
    )
    attack = scaling_attack(image_shape=(8, 8, 1), poison_fraction="uniform")._replace(
        poison_data=poison, share=lambda member: jnp.array([0.0, 0.25, 0.5, 1.0])[member]
    )
    experiment = assemble(config, attack=attack)
    jax.block_until_ready(jax.jit(experiment.step)(experiment.state.run, experiment.state.data))
    jax.effects_barrier()
    data = experiment.state.data
    width = 2 * data.table.shape[1]
    for member, share in captured:
        copies = np.ceil([0.0, 0.25, 0.5, 1.0][member] * int(data.counts[member]) - 1e-3)
        assert round(float(share) * width) == copies
    assert len(captured) == 4


def test_source_to_target_flips_one_class():
    y = jnp.arange(6)
    np.testing.assert_array_equal(label_flip(y, num_classes=6, source=2, target=5), [0, 1, 5, 3, 4, 5])
    with pytest.raises(ValueError, match="source=2 and target=None go together"):
        label_flip(y, num_classes=6, source=2)
    with pytest.raises(ValueError, match="target=6 is not one of the 6 labels"):
        label_flip(y, num_classes=6, source=2, target=6)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"name": "distributed_backdoor", "num_parts": 5}, "num_parts=5 exceeds the trigger's 4 pixels"),
        (
            {"name": "distributed_backdoor", "num_parts": 0},
            "num_parts=0 must be a whole number of at least 1",
        ),
        ({"name": "distributed_backdoor", "parts": [[[0, 9]]]}, r"pixel \(0, 9\) lies outside images of 8×8"),
        ({"name": "distributed_backdoor", "target": 10}, "target=10 is not one of the 10 labels"),
        ({"name": "model_replacement", "server_lr": 0.0}, r"server_lr=0.0 must be larger than 0"),
        ({"name": "scaling_attack", "poison_fraction": "half"}, "poison_fraction"),
        ({"name": "scaling_attack", "poison_fraction": float("inf")}, "poison_fraction=inf must be"),
        ({"name": "scaling_attack", "pixels": []}, "pixels must hold at least one"),
        ({"name": "distributed_backdoor", "parts": []}, "parts must hold at least one"),
        ({"name": "distributed_backdoor", "parts": [[]]}, "pixels must hold at least one"),
        ({"name": "mimic", "target": 3_000_000_000}, "3000000000"),
        ({"name": "label_flip", "source": 3}, "source=3 and target=None go together"),
    ],
)
def test_bad_backdoors_are_one_sentence(attack, message):
    with pytest.raises(fljax.ConfigError, match=message):
        assemble(parse_config({"num_clients": 10, "attack": attack}))


def test_random_labels_are_all_others_alike():
    y = jnp.tile(jnp.arange(3), 3000)
    flipped = np.asarray(random_label_flip(y, jax.random.key(1), num_classes=3))
    assert (flipped != np.asarray(y)).all()
    for label in range(3):
        counts = np.bincount(flipped[np.asarray(y) == label], minlength=3)
        assert abs(counts[(label + 1) % 3] - 1500) < 150
    assert random_label_flip(jnp.zeros(2, jnp.int32), jax.random.key(0), num_classes=1).tolist() == [0, 0]


def test_random_labels_are_drawn_anew_in_every_step_and_by_every_client():
    seen = []

    def poison(x, y, is_copy, member, key):
        jax.debug.callback(
            lambda k, d: seen.append((int(k), tuple(d.tolist()))), member, jax.random.key_data(key)
        )
        return x, y

    config = parse_config(
        {
            "num_clients": 4,
            "model": {"name": "logistic_regression"},
            "local": {"batch_size": 8, "steps": 3},
            "client_chunk": 1,
            "attack": {"name": "none", "fraction": 0.5},
        }
    )
    attack = attack_from_registry("label_flip", Task(10))._replace(poison_data=poison)
    experiment = assemble(config, attack=attack)
    state = experiment.state.run
    for _ in range(2):
        state, _ = jax.jit(experiment.step)(state, experiment.state.data)
    jax.block_until_ready(state)
    jax.effects_barrier()
    by_attackers = {pair for pair in seen if pair[0] in (0, 1)}
    assert len(by_attackers) >= 2 * 3 * 2


def test_rare_inputs_of_a_file(tmp_path):
    random = np.random.default_rng(0)
    train, test = random.uniform(size=(5, 8, 8, 1)), random.uniform(size=(3, 8, 8, 1))
    np.savez(tmp_path / "rare.npz", train=train, test=test)
    attack = edge_case(file=str(tmp_path / "rare.npz"), image_shape=(8, 8, 1), target=4)
    x, y = jnp.zeros((200, 8, 8, 1)), jnp.full(200, 2)
    is_copy = jnp.arange(200) % 2 == 0
    marked, labels = attack.poison_data(x, y, is_copy, jnp.int32(0), jax.random.key(0))
    np.testing.assert_array_equal(labels, jnp.where(is_copy, 4, 2))
    np.testing.assert_array_equal(marked[1::2], 0)
    drawn = [int(np.argmin(abs(train - np.asarray(image)).sum((1, 2, 3)))) for image in marked[::2]]
    np.testing.assert_allclose(marked[::2], train[drawn], rtol=1e-6)
    assert set(drawn) == set(range(5))
    assert attack.copies == 0.25
    np.testing.assert_allclose(attack.trigger.examples, test, rtol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {"source": 1, "file": "rare.npz"}, "edge_case: takes either a file or a source, got file="),
        ({}, {"source": 10, "num_classes": 10}, "source=10 is not one of the 10 labels"),
        ({}, {"source": 1, "image_shape": None}, "source is for images"),
        ({"train": np.zeros((2, 8, 8, 1))}, {}, "must be an .npz file with the arrays train and test"),
        (
            {"train": np.zeros((2, 8, 8, 1)), "test": np.zeros((0, 8, 8, 1))},
            {},
            "test must hold at least one",
        ),
        ({"train": np.zeros((2, 8, 8, 1)), "test": np.zeros((2, 7, 8, 1))}, {}, "test holds inputs"),
        ({"train": np.full((2, 8, 8, 1), np.nan), "test": np.zeros((2, 8, 8, 1))}, {}, "finite numbers"),
    ],
)
def test_bad_rare_inputs_are_one_sentence(tmp_path, arrays, options, message):
    if arrays:
        np.savez(tmp_path / "rare.npz", **arrays)
        options = {"file": str(tmp_path / "rare.npz"), **options}
    with pytest.raises(ValueError, match=message):
        edge_case(**{"image_shape": (8, 8, 1), **options})
    with pytest.raises(ValueError, match="must be an .npz file"):
        edge_case(image_shape=(8, 8, 1), file=str(tmp_path / "absent.npz"))


def test_a_wave_of_eight_columns():
    wave = sinusoidal_trigger(jnp.full((1, 8, 1), 0.5), ndim=3, frequency=2.0)[0, :, 0] - 0.5
    np.testing.assert_allclose(wave, [0, 0.0784313725, 0, -0.0784313725] * 2, atol=1e-7)
    features = sinusoidal_trigger(jnp.full(8, 2.0), ndim=1, frequency=2.0)
    np.testing.assert_allclose(features - 2.0, wave, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: badnets(labels="all_to_all", target=2, num_classes=10), "goes with no target"),
        (lambda: badnets(labels="all_to_all"), 'labels="all_to_all" needs num_classes'),
        (lambda: badnets(labels="one"), "badnets: labels='one' must be"),
        (lambda: badnets(source=3, clean_label=True), "source=3 and clean_label=True exclude each other"),
        (lambda: badnets(source=3, target=3), "source=3 must be another label than the target"),
        (lambda: badnets(source=12, num_classes=10), "source=12 is not one of the 10 labels"),
        (lambda: badnets(mix="replace", poison_fraction=1.5), "poison_fraction=1.5 must be between 0 and 1"),
        (lambda: sinusoidal(frequency=jnp.inf), "sinusoidal: frequency=inf must be"),
    ],
)
def test_label_maps_that_do_not_fit_are_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_share_of_every_batch_is_replaced():
    batch = Batches(jnp.arange(8), jnp.array([1.0] * 7 + [0.0]), jnp.zeros(8, bool), jax.random.key(0))
    marks = jax.jit(
        jax.vmap(lambda key, share: marked_in_place(batch._replace(key=key), share).is_copy, (0, None))
    )
    keys = jax.random.split(jax.random.key(0), 400)
    found = np.asarray(marks(keys, 0.3))
    assert (found.sum(1) == 2).all()  # ⌊0.3 · 7⌋
    np.testing.assert_allclose(found.mean(0), [2 / 7] * 7 + [0], atol=0.08)
    assert np.asarray(marks(keys[:9], 1.0)).sum(1).tolist() == [7] * 9
    # Of four examples of a client two are the poisoned point, whichever.
    replacing = BACKDOOR._replace(in_place=True)
    sent = sent_by_rounds(replacing, rounds=1, problem=Quadratic(steps=1))[0]
    honest = sent_by_rounds(NO_ATTACK, rounds=1, problem=Quadratic(steps=1))[0]
    np.testing.assert_array_equal(sent[~MALICIOUS], honest[~MALICIOUS])
    for i in np.flatnonzero(MALICIOUS):
        own = POINTS[i, : COUNTS[i]]
        kept = [np.delete(own, chosen, 0) for chosen in combinations(range(len(own)), int(0.5 * len(own)))]
        centers = [np.vstack([rest, [POISON] * (len(own) - len(rest))]).mean(0) for rest in kept]
        possible = [-RATE * HESSIAN @ (START - center) for center in centers]
        assert min(np.abs(sent[i] - each).max() for each in possible) < 1e-6
