"""Entries of one shape, and the one way to register them."""

import functools

import pytest

from fljax.errors import ConfigError
from fljax.registry import Registry


@pytest.fixture
def animals():
    return Registry("animal", legs=4)


def cat():
    """A cat.

    It sleeps.
    """


def another():
    pass


def test_an_entry_has_what_it_was_registered_with(animals):
    assert animals.register(title="House cat", source="Linnaeus 1758", assumes="milk")(cat) is cat
    entry = animals["cat"]
    assert (entry.name, entry.title, entry.source, entry.assumes) == (
        "cat",
        "House cat",
        "Linnaeus 1758",
        "milk",
    )
    assert (entry.function, entry.summary, entry.facts) == (cat, "A cat.", {"legs": 4})
    animals.register("bird", legs=2)(another)
    assert (animals["bird"].title, animals["bird"].summary, animals["bird"].facts) == (
        "bird",
        "",
        {"legs": 2},
    )
    assert list(animals) == ["cat", "bird"]
    animals.remove("cat")
    assert list(animals) == ["bird"]


def test_a_name_belongs_to_one_function_which_may_be_defined_again(animals):
    animals.register()(cat)

    def defined_anew():
        pass

    defined_anew.__qualname__, defined_anew.__module__ = cat.__qualname__, cat.__module__
    animals.register("cat")(defined_anew)
    assert animals["cat"].function is defined_anew
    animals.register("cat")(functools.partial(cat))
    with pytest.raises(ValueError, match=r"^animal 'cat' is taken by tests\.test_registry\.cat$"):
        animals.register("cat")(another)


@pytest.mark.parametrize("name", ["", "1cat", "a cat", "cat.", 3])
def test_a_name_is_a_word(animals, name):
    with pytest.raises(
        ValueError, match=r"^animal: a name has letters, digits, _ and -, a letter first, got "
    ):
        animals.register(name)(cat)


def test_what_is_no_entry_is_refused(animals):
    with pytest.raises(ValueError, match=r"^animal cat: unknown fact 'leg'; did you mean 'legs'\?"):
        animals.register("cat", leg=3)
    with pytest.raises(ValueError, match=r"^animal cat: must be a function, got a int$"):
        animals.register("cat")(4)
    with pytest.raises(ValueError, match=r"^animal: a name has letters.*got None$"):
        animals.register()(4)


def test_an_unknown_name_comes_with_the_nearest(animals):
    animals.register()(cat)
    assert animals.find("cat").function is cat
    with pytest.raises(
        ConfigError, match=r"^unknown animal 'cst'; did you mean 'cat'\? \(choose from cat\)$"
    ):
        animals.find("cst")
