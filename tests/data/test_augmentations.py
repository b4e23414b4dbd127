"""Augmentations against NumPy, where they stand in a round, and inputs that models get normalised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.data import AUGMENTATIONS, Dataset, crop, cutout, flip
from fljax.data.augmentations.registry import of_batch
from fljax.data.moments import moments
from fljax.engine.keys import named_key
from fljax.models import Model
from fljax.simulation.experiment import assemble
from fljax.sweeps import make_plan, make_sweep

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).uniform(1, 2, (5, 4, 2)).astype(np.float32)


# --- references: every image that an augmentation can make, from its definition ---------------------------


def flips(image):
    height, width, _ = image.shape
    mirrored = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            mirrored[row, column] = image[row, width - 1 - column]
    return [image, mirrored]


def crops(image, padding):
    height, width, _ = image.shape
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            moved = np.zeros_like(image)
            for row in range(height):
                for column in range(width):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        moved[row, column] = image[row + down, column + right]
            yield moved


def cutouts(image, size):
    height, width, _ = image.shape
    for r in range(height):
        for c in range(width):
            cut = image.copy()
            for row in range(r - size // 2, r - size // 2 + size):
                for column in range(c - size // 2, c - size // 2 + size):
                    if 0 <= row < height and 0 <= column < width:
                        cut[row, column] = 0
            yield cut


REFERENCES = {
    "flip": (flip, {}, lambda image: flips(image)),
    "crop": (crop, {"padding": 2}, lambda image: crops(image, 2)),
    "cutout": (cutout, {"size": 3}, lambda image: cutouts(image, 3)),
    "cutout of even size": (cutout, {"size": 2}, lambda image: cutouts(image, 2)),
}


def test_every_augmentation_has_a_reference():
    assert {function for function, _, _ in REFERENCES.values()} == {
        e.function for e in AUGMENTATIONS.values()
    }


@pytest.mark.parametrize("name", REFERENCES)
def test_an_augmentation_makes_every_image_of_its_definition_equally_often(name):
    function, options, reference = REFERENCES[name]
    expected = [image.tobytes() for image in reference(IMAGE)]
    draws = 300 * len(expected)
    made = np.asarray(jax.vmap(lambda key: function(IMAGE, key, **options))(jax.random.split(KEY, draws)))
    found = dict.fromkeys(expected, 0)
    for image in made:
        found[image.tobytes()] += 1  # a KeyError is an image that it must not make
    wanted = {image: 300 * expected.count(image) for image in found}
    # Five standard deviations of a binomial count.
    for image, count in found.items():
        assert abs(count - wanted[image]) < 5 * np.sqrt(wanted[image])


def test_a_probability_of_flipping():
    assert np.array_equal(flip(IMAGE, KEY, probability=0.0), IMAGE)
    assert np.array_equal(flip(IMAGE, KEY, probability=1.0), flips(IMAGE)[1])


def test_every_example_and_every_augmentation_has_its_own_key():
    change = of_batch([lambda x, key: x + jax.random.uniform(key, ())] * 2)
    twice = change(jnp.zeros((4, 1)), KEY)[:, 0]
    assert len(np.unique(twice)) == 4
    own = jax.random.split(KEY, 4)[2]
    expected = sum(jax.random.uniform(jax.random.fold_in(own, number), ()) for number in range(2))
    np.testing.assert_allclose(twice[2], expected, rtol=1e-6)
    # What an example gets does not depend on the size of the batch.
    np.testing.assert_array_equal(change(jnp.zeros((3, 1)), KEY)[:, 0], twice[:3])


# --- in a round -----------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(1).uniform(0, 1, (30, 6, 6, 1)).astype(np.float32)
DATA = Dataset(
    IMAGES, np.arange(30, dtype=np.int32) % 3, IMAGES[:6], np.arange(6, dtype=np.int32) % 3, 3, "i"
)
BASE = {
    "rounds": 1,
    "eval_every": 1,
    "num_clients": 3,
    "root": {"size": 3},
    "local": {"batch_size": "full", "learning_rate": 1.0, "steps": 2},
    "aggregator": {"name": "mean", "weights": "uniform"},
    "attack": {"name": "none"},
}
AUGMENT = [{"name": "flip"}, {"name": "crop", "padding": 1}]
# The gradient is the mean of what the model sees.
MEAN = Model(
    lambda key: {"w": jnp.zeros((36, 3))},
    lambda params, x: x.reshape(len(x), -1) @ params["w"],
)


def config(**changes):
    return parse_config({**BASE, **changes})


def one_round(configuration, model=MEAN):
    experiment = assemble(configuration, model=model, dataset=DATA)
    run, data = experiment.state
    after, metrics = jax.jit(experiment.step)(run, data)
    return experiment, np.asarray(after.params - run.params).reshape(36, 3), metrics


def softmax(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def seen_by_hand(experiment, change):
    """The mean update of three clients, two steps each, of softmax regression on what `change` makes."""
    run, data = experiment.state
    key = named_key(jax.random.fold_in(run.key, 0), "batches")
    updates = []
    for client in range(3):
        examples = np.asarray(data.table)[client, : int(data.counts[client])]
        own, w = jax.random.fold_in(key, client), np.zeros((36, 3))
        for step in range(2):
            draws = named_key(jax.random.fold_in(named_key(own, "step"), step), "augment")
            x = change(IMAGES[examples], draws, client).reshape(-1, 36).astype(np.float64)
            errors = softmax(x @ w) - np.eye(3)[DATA.train_y[examples]]
            w = w - x.T @ errors / len(x)
        updates.append(w)
    return np.mean(updates, 0)


def augmented(x, key):
    """The configured augmentation of a batch, example by example."""
    out = []
    for image, own in zip(x, jax.random.split(key, len(x)), strict=True):
        image = flip(image, jax.random.fold_in(own, 0))
        out.append(crop(image, jax.random.fold_in(own, 1), padding=1))
    return np.stack(out)


def test_a_round_trains_on_augmented_examples():
    local = {**BASE["local"], "augment": AUGMENT}
    experiment, update, _ = one_round(config(local=local))
    expected = seen_by_hand(experiment, lambda x, key, client: augmented(x, key))
    np.testing.assert_allclose(update, expected, atol=1e-5)
    assert np.abs(update - seen_by_hand(experiment, lambda x, key, client: x)).max() > 1e-3
    # Evaluation is on the images as they are.
    weights = np.random.default_rng(2).normal(size=(36, 3))
    wrong = np.argmax(IMAGES[:6].reshape(6, -1) @ weights, 1) != DATA.test_y
    evaluate = jax.jit(experiment.evaluate)
    found = evaluate(jnp.asarray(weights.ravel(), jnp.float32), DATA.test_x, DATA.test_y)
    np.testing.assert_allclose(found.test_error, wrong.mean())
    # How many clients train at once does not change what is drawn.
    _, other, _ = one_round(config(local=local, client_chunk=1))
    np.testing.assert_allclose(other, update, atol=1e-5)


def test_epochs_are_augmented_as_well():
    local = {**BASE["local"], "augment": [{"name": "flip", "probability": 1.0}], "steps": None, "epochs": 2}
    experiment, update, _ = one_round(config(local=local))
    expected = seen_by_hand(experiment, lambda x, key, client: x[:, :, ::-1])
    np.testing.assert_allclose(update, expected, atol=1e-5)


def test_a_trigger_stands_where_the_attacker_puts_it():
    # Every malicious client's examples are white all over: nothing is moved into the picture afterwards.
    local = {**BASE["local"], "augment": AUGMENT}
    white = fljax.attacks.NO_ATTACK._replace(
        poison_data=lambda x, y, is_copy, member: (jnp.ones_like(x), y), active=None
    )
    attacked = assemble(
        config(local=local, attack={"name": "sign_flip", "fraction": 0.4}),
        dataset=DATA,
        model=MEAN,
        attack=white,
    )
    run, data = attacked.state
    after, _ = jax.jit(attacked.step)(run, data)
    malicious = np.asarray(data.malicious)
    expected = seen_by_hand(
        attacked, lambda x, key, client: np.ones_like(x) if malicious[client] else augmented(x, key)
    )
    np.testing.assert_allclose(np.asarray(after.params).reshape(36, 3), expected, atol=1e-5)


def test_models_get_normalised_inputs_in_training_and_evaluation():
    experiment, update, _ = one_round(config(data={"name": "digits", "normalize": True}))
    mean, deviation = IMAGES.mean(dtype=np.float64), IMAGES.std(dtype=np.float64)
    expected = seen_by_hand(experiment, lambda x, key, client: (x - mean) / deviation)
    np.testing.assert_allclose(update, expected, atol=1e-5)
    np.testing.assert_array_equal(experiment.state.data.x, IMAGES)
    weights = np.random.default_rng(2).normal(size=(36, 3))
    wrong = np.argmax((IMAGES[:6].reshape(6, -1) - mean) @ weights, 1) != DATA.test_y
    evaluate = jax.jit(experiment.evaluate)
    found = evaluate(jnp.asarray(weights.ravel(), jnp.float32), DATA.test_x, DATA.test_y)
    np.testing.assert_allclose(found.test_error, wrong.mean())


def test_moments_are_of_channels_or_features():
    x = np.random.default_rng(3).normal(5, 2, (2500, 3, 2)).astype(np.float32)
    found = moments(x)
    np.testing.assert_allclose(found.mean, x.mean((0, 1), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, x.std((0, 1), dtype=np.float64), rtol=1e-6)
    constant = moments(np.full((7, 2), 0.1, np.float32))
    np.testing.assert_allclose(constant, [[0.1, 0.1], [1, 1]], rtol=1e-6)


def test_cells_whose_data_have_other_moments_have_other_programs():
    base = {**BASE, "data": {"name": "synthetic", "num_train": 60, "num_test": 10, "normalize": True}}
    base["model"] = {"name": "logistic_regression"}
    assert len(make_plan(make_sweep(base, {"axes": {"seed": [0, 1]}})).groups) == 2
    base["data"] = {**base["data"], "normalize": False}
    assert len(make_plan(make_sweep(base, {"axes": {"seed": [0, 1]}})).groups) == 1


# --- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ([{"name": "flop"}], "unknown augmentation 'flop'; did you mean 'flip'"),
        ([{"name": "crop", "size": 3}], "augmentation crop: unknown parameter 'size'"),
        (
            [{"name": "crop", "padding": 0}],
            "local.augment: crop: padding=0 must be a whole number of at least 1",
        ),
        ([{"name": "flip", "probability": 2.0}], "local.augment: flip: probability=2.0 must be"),
    ],
)
def test_augmentations_that_do_not_fit_are_one_sentence(augment, said):
    with pytest.raises(fljax.ConfigError) as caught:
        fljax.build(config(local={"augment": augment}), dataset=DATA, model=MEAN)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_augmentations_of_images_refuse_other_inputs():
    rows = Dataset(IMAGES[:, 0, :, 0], DATA.train_y, IMAGES[:6, 0, :, 0], DATA.test_y, 3, "rows")
    for name in AUGMENTATIONS:
        with pytest.raises(fljax.ConfigError, match=rf"local.augment: {name}: images .* shape \(6,\)"):
            fljax.build(config(local={"augment": [{"name": name}]}), dataset=rows)


def test_tokens_have_no_mean():
    tokens = np.zeros((20, 3), np.int32)
    texts = Dataset(tokens, np.zeros(20, np.int32), tokens[:5], np.zeros(5, np.int32), 2, "texts")
    with pytest.raises(fljax.ConfigError, match="data.normalize: texts: .* but the inputs are tokens"):
        fljax.build(config(data={"name": "digits", "normalize": True}), dataset=texts)
