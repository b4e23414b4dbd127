"""The configuration of a run: a TOML file, validated key by key before anything else happens."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fljax.config.bounds import Chunk, Count, Epochs, Rate, Share, Steps, Whole
from fljax.config.plain import jsonable
from fljax.config.plugins import is_plugin, module_name
from fljax.config.signatures import check_parameters, explain
from fljax.errors import ConfigError

Purpose = Literal["data", "init", "train"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
# Keys that decide nothing about the numbers of a run.
WITHOUT_EFFECT = frozenset({"checkpoint_every", "devices"})
# Dotted keys that cells of earlier versions did not have; at their default they leave a cell's id as it was.
LATER = frozenset(
    {
        "loss",
        "metrics",
        "stop",
        "validation",
        "aggregator.post",
        "client",
        "data.normalize",
        "local.epochs",
        "local.augment",
        "attack.natural",
        "streaming",
        "precision",
    },
)


def _plugin(value: str) -> str:
    if not is_plugin(value):
        raise PydanticCustomError("plugin", 'the name of a module, for example "my_rules"')
    return value


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _named(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """A component's table with parameters but no name is the default component's.

        Not of "none" and "digits", which have none: there a name was forgotten.
        """
        default = cls.model_fields[str(info.field_name)].default
        if not isinstance(default, Component):
            return value
        if isinstance(value, str):
            name = value if value.isidentifier() and len(value) < 40 else default.name
            table = f'a table, for example {{ name = "{name}" }}'
            raise PydanticCustomError("component", table)
        nameless = isinstance(value, dict) and value and "name" not in value
        if nameless and not isinstance(default, (DataConfig, AttackConfig)):
            return {"name": default.name, **value}
        return value


def _table_of(value: Any) -> Any:
    """The table of a component that is given as a mere name."""
    return {"name": value} if isinstance(value, str) else value


class Component(pydantic.BaseModel):
    """A table with a name and whatever parameters that name takes."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", strict=True)
    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything in the table but the keys every table of its kind has."""
        return dict(self.model_extra or {})

    def checked(
        self, where: str, parameters: Mapping[str, tuple[Any, Any]], without: Collection[str] = ()
    ) -> dict[str, Any]:
        """The parameters in the table, checked.

        Args:
            where: the component, for the message.
            parameters: `{name: (type, default)}` that it takes, as `keyword_parameters` returns them.
            without: those that are checked elsewhere.

        Raises:
            ConfigError: for an unknown, missing or mistyped parameter, naming the valid ones.
        """
        given = {name: value for name, value in self.parameters.items() if name not in without}
        return check_parameters(where, parameters, given, type(self).model_fields)


class DataConfig(Component):
    """A data set, and the folder of its files.

    Attributes:
        name: a registry name (`fljax list datasets`).
        dir: folder that holds the data sets' folders; None for `FLJAX_DATA`, then TensorFlow Datasets.
        normalize: whether models get the inputs less the training inputs' mean and divided by their standard
            deviation, of every channel or feature, in training and evaluation. Triggers and augmentation
            come before.
    """

    dir: str | None = None
    normalize: bool = False


class AggregatorConfig(Component):
    """A rule, and what runs before and after it.

    Attributes:
        name: a registry name (`fljax list rules`).
        pre: pre-aggregators in order, each a table with a name.
        post: post-aggregators in order, each a table with a name.
    """

    pre: Annotated[tuple[Component, ...], Field(strict=False)] = ()
    post: Annotated[tuple[Component, ...], Field(strict=False)] = ()


class AttackConfig(Component):
    """An attack, and the number of malicious clients.

    Attributes:
        name: a registry name (`fljax list attacks`), or "none".
        fraction: share of the clients that is malicious, rounded to a whole number; nobody is under "none".
        in_cohort: how many malicious clients every round's cohort holds, drawn from that pool; None leaves it
            to chance.
        schedule: when they attack (`fljax list schedules`); None for every round.
        natural: further attacks, names or tables, whose triggers are put on test examples, too, although
            nobody trains on them: under "none" the natural success of these triggers. None for no others.
    """

    fraction: Share = 0.2
    in_cohort: Whole | None = None
    schedule: Component | None = None
    natural: (
        Annotated[tuple[Annotated[Component, BeforeValidator(_table_of)], ...], Field(strict=False)] | None
    ) = None


class LocalConfig(_Table):
    """Local training of the clients, the paper's ModelUpdate.

    Attributes:
        steps: R, local steps a round, at most 100,000; None where `epochs` are given.
        epochs: E > 0 instead of steps: passes over the client's own examples a round, each in a new order and
            with a last batch that may be smaller; of a last broken one that share of the examples. A client
            with fewer examples takes fewer steps.
        batch_size: b, or "full" for all of a client's examples; a client that has fewer than b uses all.
        learning_rate: β, or a schedule over rounds as a table `{name = "...", ...}` of an optax schedule.
        optimizer: any optax optimizer by name. It starts afresh every round: what it remembers lasts for
            `steps` steps, so with one step only one that remembers nothing is taken. With
            `client = { name = "kept_optimizer" }` it goes on in the client's next round.
        augment: random changes of the inputs in training (`fljax list augmentations`), each a table with a
            name, in order. They come before an attack's trigger; the server's training on root data has them
            as well, evaluation has not.
    """

    steps: Steps | None = 1
    epochs: Epochs | None = None
    batch_size: Count | Literal["full"] = 32
    learning_rate: Rate | Component = 0.1
    optimizer: Component = Component(name="sgd")
    augment: Annotated[tuple[Component, ...], Field(strict=False)] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _steps_or_epochs(cls, values: Any) -> Any:
        """With epochs there is no number of steps."""
        if not isinstance(values, dict):
            return values
        steps, epochs = (values.get(key) for key in ("steps", "epochs"))
        if epochs is not None and steps is not None:
            raise ConfigError(
                f"local.steps={steps} and local.epochs={epochs} exclude each other: give one of them"
            )
        if epochs is not None:
            return {**values, "steps": None}
        return {key: value for key, value in values.items() if key != "steps" or value is not None}


class RootConfig(_Table):
    """The server's root dataset and its training on it.

    Attributes:
        size: |D_0|, removed from the clients' data.
        bias: "uniform" (Case I of the paper), or the share of `bias_class` (Case II).
        bias_class: the class that a biased sample favours.
        batch_size: b of the server, or "full"; None for the clients' batch size.
        loss_reduction: "mean", or the authors' demo: "sum" over the root batch at the rate divided by the
            clients' batch size.
    """

    size: Count = 100
    bias: Share | Literal["uniform"] = "uniform"
    bias_class: Whole = 1
    batch_size: Count | Literal["full"] | None = None
    loss_reduction: Literal["mean", "sum"] = "mean"

    def sample(self) -> dict[str, Any]:
        """Keyword arguments of `fljax.data.root_dataset`."""
        bias = None if self.bias == "uniform" else self.bias
        return {"size": self.size, "bias": bias, "bias_class": self.bias_class}


class ServerConfig(_Table):
    """The server's step w + α·g.

    Attributes:
        learning_rate: α, or a schedule over rounds.
        optimizer: any optax optimizer by name, applied to −g; what it remembers lasts over the rounds.
    """

    learning_rate: Rate | Component = 1.0
    optimizer: Component = Component(name="sgd")


class SeedsConfig(_Table):
    """Separate seeds; what is not given is the run's `seed`.

    Attributes:
        data: split, partition, root dataset, choice of malicious clients.
        init: initial model.
        train: cohorts, batches, attacks and rules.
    """

    data: Whole | None = None
    init: Whole | None = None
    train: Whole | None = None


class ValidationConfig(_Table):
    """The server's validation examples, on which hyper-parameters are chosen.

    Attributes:
        size: how many of the training examples, drawn before the root dataset and held back from everybody.
    """

    size: Count


class StopConfig(_Table):
    """An early end of a run; what happens first counts.

    Attributes:
        metric: a column of metrics.jsonl that is measured in every evaluation.
        target: its value at which the run ends, or a better one.
        patience: evaluations without a better value after which it ends.
    """

    metric: str = "test_error"
    target: Annotated[float, Field(allow_inf_nan=False)] | None = None
    patience: Count | None = None

    @pydantic.model_validator(mode="after")
    def _ends(self) -> "StopConfig":
        if self.target is None and self.patience is None:
            raise ConfigError("stop: needs a target, a patience or both")
        return self


class Minutes(_Table):
    """A time.

    Attributes:
        minutes: of wall time.
    """

    minutes: Rate


class DevicesConfig(_Table):
    """Devices that share the work.

    Attributes:
        runs: among how many the runs of a sweep's batch are divided; 1 in a run alone.
        clients: among how many the clients of every run are divided.
    """

    runs: Count = 1
    clients: Count = 1


class ExperimentConfig(_Table):
    """A run. Unknown keys are errors.

    Attributes:
        rounds: global rounds R_g.
        eval_every: rounds compiled into one program between two evaluations; divides `rounds`, at most
            100,000.
        num_clients: n; None for the data set's natural clients.
        cohort_size: τ ≤ n, clients sampled each round; None for all.
        checkpoint_every: rounds, or `{minutes = m}`, or "auto": so seldom that it costs less than 2 %.
        client_chunk: how many clients are trained at once; "auto" chooses by device and model.
        devices: the devices that share the work; "auto" takes all accelerators, and on a CPU those that
            `fljax.use_cores` has made, else one.
        streaming: whether a round trains a chunk of clients after the other and adds up what the rule makes
            of each, anew in every pass over them, instead of holding all updates at once; "auto" where those
            do not fit the memory and rule and attack can do without.
        precision: of the model's forward and backward passes: what the device takes for products of float32,
            float32 itself, or bfloat16. Updates, rules and attacks are in float32 whatever it is.
        seed: the seed of everything that has none of its own in `seeds`.
        partition: who gets which examples (`fljax list partitions`).
        model: what is trained (`fljax list models`).
        client: what clients do in a round, and what stays with them (`fljax list clients`).
        loss: what clients and server minimise (`fljax list losses`).
        metrics: what is reported of every evaluation besides test error and attack success
            (`fljax list metrics`), names or tables.
        validation: examples that the server holds back, for `validation_error` in every evaluation.
        stop: what ends the run early.
        plugins: modules to import first, which register rules, attacks, data sets and the like: beside the
            configuration's file or on Python's path.
    """

    rounds: Count = 500
    eval_every: Chunk = 10
    num_clients: Count | None = None
    cohort_size: Count | None = None
    checkpoint_every: Count | Minutes | Literal["auto"] = "auto"
    client_chunk: Count | Literal["auto"] = "auto"
    devices: DevicesConfig | Literal["auto"] = "auto"
    streaming: bool | Literal["auto"] = "auto"
    precision: Literal["default", "highest", "bfloat16"] = "default"
    seed: Whole = 0
    seeds: SeedsConfig = SeedsConfig()
    data: DataConfig = DataConfig(name="digits")
    partition: Component = Component(name="iid")
    model: Component = Component(name="mlp")
    local: LocalConfig = LocalConfig()
    client: Component = Component(name="sgd")
    root: RootConfig = RootConfig()
    server: ServerConfig = ServerConfig()
    aggregator: AggregatorConfig = AggregatorConfig(name="fltrust")
    attack: AttackConfig = AttackConfig(name="none")
    loss: Component = Component(name="cross_entropy")
    metrics: Annotated[tuple[Annotated[Component, BeforeValidator(_table_of)], ...], Field(strict=False)] = ()
    validation: ValidationConfig | None = None
    stop: StopConfig | None = None
    plugins: Annotated[tuple[Annotated[str, AfterValidator(_plugin)], ...], Field(strict=False)] = ()

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "ExperimentConfig":
        if self.rounds % self.eval_every:
            below = self.rounds // self.eval_every * self.eval_every
            near = f"{below} or {below + self.eval_every}" if below else f"{self.eval_every}"
            raise ConfigError(
                f"rounds={self.rounds} must be a multiple of eval_every={self.eval_every}: {near}"
            )
        if self.cohort_size and self.num_clients and self.cohort_size > self.num_clients:
            raise ConfigError(
                f"cohort_size={self.cohort_size} must not exceed num_clients={self.num_clients}"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them; what is not finite becomes the string "inf" or "nan"."""
        return jsonable(self.model_dump(exclude=None if self.plugins else {"plugins"}))

    @property
    def plugin_names(self) -> list[str]:
        """The plugins' modules without their folders: what decides about a run."""
        return [module_name(plugin) for plugin in self.plugins]

    def seed_for(self, purpose: Purpose) -> int:
        """The seed of one purpose."""
        own = getattr(self.seeds, purpose)
        return self.seed if own is None else own


def parse_config(values: Mapping[str, Any]) -> ExperimentConfig:
    """Validate plain values as a configuration.

    Args:
        values: nested tables, as TOML gives them.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: one sentence with the key, what was given and what is allowed.

    Example:
        >>> parse_config({"rounds": 20, "aggregator": {"name": "median"}}).rounds
        20
    """
    try:
        return ExperimentConfig.model_validate(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, ExperimentConfig)) from None
