"""The claims of benchmarks/claims.py: who says what of a defence or an attack, and the runs that show it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.config.schema import AggregatorConfig, AttackConfig
from fljax.config.signatures import keyword_parameters
from fljax.config.titles import axis_text, titles, under

ACTUAL = {"num_malicious": "actual"}
CLIP = {"name": "clip", "radius": 0.3}
PLAIN = {"name": "badnets", "poison_fraction": 0.5}
# Rules and attacks of the claims that are not one as the library has it, told the number of attackers.
RULE: dict[str, dict[str, Any]] = {
    "bucketing_krum": {"name": "krum", **ACTUAL, "pre": [{"name": "bucketing", "bucket_size": 2}]},
    "nnm_trimmed_mean": {"name": "trimmed_mean", "trim": "actual", "pre": [{"name": "nnm", **ACTUAL}]},
    "clip": {"name": "mean", "pre": [CLIP]},
    "clip_noise": {"name": "mean", "pre": [CLIP], "post": [{"name": "add_noise", "std": 0.002}]},
    "robust_learning_rate": {"name": "robust_learning_rate", "threshold": 8},
    "freq_fed_models": {"name": "freq_fed", "on": "models"},
    "fldetector": {"name": "fldetector", "start": 20},
}
ATTACK: dict[str, dict[str, Any]] = {
    "badnets": PLAIN,
    "gaussian": {"name": "gaussian", "std": 10.0},
    "alie": {"name": "alie", "z": 1.5, "knowledge": "full"},
    "ipm_small": {"name": "ipm", "epsilon": 0.2},
    "ipm_large": {"name": "ipm", "epsilon": 10.0},
    "sign_flip": {"name": "sign_flip", "factor": 10.0},
    "neurotoxin": {"name": "neurotoxin", "steps": 10, "share": 0.95, "backdoor": PLAIN},
    "no_mask": {"name": "neurotoxin", "steps": 10, "share": 1.0, "backdoor": PLAIN},
    "chameleon": {"name": "chameleon", "backdoor": PLAIN},
    "a3fl": {"name": "a3fl", "size": 2, "corner": 0},
    "constrain_and_scale": {"name": "constrain_and_scale", "backdoor": PLAIN},
    "edge_case": {"name": "edge_case", "source": 7, "target": 1},
    "layer_backdoor": {"name": "layer_backdoor", "backdoor": PLAIN},
    "alie_backdoor": {"name": "alie_backdoor", "alpha": 1.0, "steps": 30, "backdoor": PLAIN},
    "distance_fitted": {"name": "distance_fitted", "backdoor": PLAIN},
    "to_one": {"name": "label_flip", "target": 1},
    "sybil_noise": {"name": "sybil_noise", "backdoor": {"name": "label_flip", "target": 1}},
    "free_rider": {"name": "free_rider", "kind": "delta"},
}


def _rule(name: str) -> dict[str, Any]:
    if name in RULE:
        return RULE[name]
    needed = {key for key, (_, default) in keyword_parameters(RULES[name].function).items() if default is ...}
    return {"name": name, **dict.fromkeys(sorted(needed), "actual")}


def _attack(name: str) -> dict[str, Any]:
    return ATTACK.get(name, {"name": name})


@dataclasses.dataclass(frozen=True)
class Arm:
    """A rule under an attack, and what else differs from configs/claims.toml.

    Attributes:
        rule: a key of `RULE`, or a rule's name.
        attack: a key of `ATTACK`, an attack's name, or "none".
        changed: keys and values, as JSON.
    """

    rule: str
    attack: str
    changed: str = "{}"

    @property
    def overrides(self) -> dict[str, Any]:
        """The keys of the configuration that the arm sets."""
        return {"aggregator": _rule(self.rule), "attack": _attack(self.attack), **json.loads(self.changed)}

    @property
    def setting(self) -> str:
        """What else differs, in words."""
        return ", ".join(_words(key, value) for key, value in json.loads(self.changed).items())

    @property
    def label(self) -> str:
        """The arm in words."""
        return under([TITLES["rule", self.rule]], [TITLES["attack", self.attack]])


def _words(key: str, value: Any) -> str:
    if key == "attack.schedule":
        first, last = value["start"] + 1, value["stop"]
        return f"attack in rounds {first} to {last}" if first < last else f"attack in round {first}"
    if key == "partition":
        return f"Dirichlet α {value['alpha']}"
    if key == "model":
        return f"{len(value['hidden'])} hidden layers"
    return axis_text(key, str(value))


@dataclasses.dataclass(frozen=True)
class Statement:
    """sign · (measure of `arm` − measure of `than`) > `by`.

    Attributes:
        measure: of benchmarks/claims.py.
        arm: whose number.
        than: another arm, or a number.
        sign: 1 for more, −1 for less.
        by: how much.
    """

    measure: str
    arm: Arm
    than: Arm | float
    sign: int
    by: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper says, as statements about runs.

    Attributes:
        name: of the component.
        says: in a sentence.
        statements: which would show it.
        note: what was found out where it is not seen.
    """

    name: str
    says: str
    statements: tuple[Statement, ...]
    note: str = ""

    @property
    def _entry(self) -> Any:
        return next(kind[self.name] for kind in (RULES, PRE_AGGREGATORS, ATTACKS) if self.name in kind)

    @property
    def title(self) -> str:
        """The component's name in the literature."""
        return str(self._entry.title)

    @property
    def source(self) -> str:
        """Authors and year."""
        return str(self._entry.source)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The runs that the statements are about."""
        return tuple(arm for each in self.statements for arm in (each.arm, each.than) if isinstance(arm, Arm))

    @property
    def setting(self) -> str:
        """What differs from the usual runs."""
        return "; ".join(dict.fromkeys(arm.setting for arm in self.arms if arm.setting))


class Runs:
    """The arms and statements of a claim, whose runs share some changes of the configuration."""

    def __init__(self, changed: Mapping[str, Any] | None = None) -> None:
        self.changed = json.dumps(dict(changed or {}), sort_keys=True)

    def arm(self, names: str) -> Arm:
        """From "rule / attack"."""
        rule, attack = (part.strip() for part in names.split("/"))
        return Arm(rule, attack, self.changed)

    def more(self, measure: str, arm: str, than: str | float | Arm, by: float = 0.0) -> Statement:
        """The first has more than the second, by so much."""
        return Statement(measure, self.arm(arm), self.arm(than) if isinstance(than, str) else than, 1, by)

    def less(self, measure: str, arm: str, than: str | float | Arm, by: float = 0.0) -> Statement:
        """The first has less than the second, by so much."""
        return dataclasses.replace(self.more(measure, arm, than, by), sign=-1)

    def near(self, arm: str, than: str = "mean / none", within: float = 0.05) -> Statement:
        """The first has an error that is at most so much above the second's."""
        return self.less("error", arm, than, -within)


IT = Runs()
IID = {"partition.bias": 0.1}
ALIKE = Runs(IID)
SKEWED = Runs({"partition.bias": 0.9})
THIRD = Runs({**IID, "attack.fraction": 0.3})
MANY = Runs({"attack.fraction": 0.4})
SYBILS = Runs({"partition": {"name": "dirichlet", "alpha": 0.3}, "attack.fraction": 0.4})
ONE_STEP = Runs({"local.steps": 1, "rounds": 40, "eval_every": 2})
LONG = Runs({"rounds": 2000, "eval_every": 50})
DEEP = Runs({**IID, "model": {"name": "mlp", "hidden": [64, 64, 64]}})
ONE = Runs({"attack.fraction": 0.05})
ONCE = Runs(
    {
        "attack.fraction": 0.05,
        "attack.schedule": {"name": "between", "start": 149, "stop": 150},
        "local.steps": 10,
    }
)
HALF = Runs({"attack.schedule": {"name": "between", "start": 0, "stop": 100}})

# An error that is larger by so much is harm, and one that is not is kept.
HARM = 0.05
# A backdoor that succeeds less is stopped, one that succeeds more is planted.
LEVEL = 0.2
# Of the attackers, and of the honest clients, for a detector.
MOST, FEW = 0.8, 0.2


def _stops(rule: str, attack: str = "badnets", runs: Runs = IT) -> tuple[Statement, ...]:
    """The backdoor is stopped, it is not without the rule, and the error is that of averaging."""
    return (
        runs.less("success", f"{rule} / {attack}", LEVEL),
        runs.less("success", f"{rule} / {attack}", f"mean / {attack}"),
        runs.near(f"{rule} / {attack}"),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "krum",
        "Gaussian rows ruin averaging; Krum converges.",
        (
            THIRD.less("error", "krum / gaussian", "mean / gaussian", HARM),
            THIRD.near("krum / gaussian"),
        ),
        "Averaging is harmed, not ruined: its error is 0.26 with noise of deviation 1 and 0.28 with 10. "
        "Once noise makes up the weights of a ReLU network, its gradients grow with them, and it goes on "
        "learning.",
    ),
    Claim(
        "median",
        "Flipped labels harm averaging more than median and trimmed mean.",
        (
            THIRD.less("error", "median / label_flip", "mean / label_flip"),
            THIRD.less("error", "trimmed_mean / label_flip", "mean / label_flip"),
        ),
    ),
    Claim(
        "geometric_median",
        "Rows that turn the mean around leave the geometric median alone.",
        (
            IT.less("error", "geometric_median / ipm_large", "mean / ipm_large", HARM),
            IT.near("geometric_median / ipm_large"),
        ),
    ),
    Claim(
        "norm_filter",
        "CGE withstands rows that are longer than honest ones.",
        (IT.near("norm_filter / gaussian"), IT.near("norm_filter / sign_flip")),
    ),
    Claim(
        "faba",
        "FABA comes near averaging without attack, nearer than Krum.",
        (IT.near("faba / sign_flip"), IT.less("error", "faba / sign_flip", "krum / sign_flip")),
    ),
    Claim(
        "aksel",
        "Aksel withstands Gaussian rows, with an error no larger than Krum's.",
        (IT.near("aksel / gaussian"), IT.less("error", "aksel / gaussian", "krum / gaussian")),
    ),
    Claim(
        "clustering",
        "Two clusters by angle tell attackers with flipped signs from honest clients.",
        (ALIKE.more("recall", "clustering / sign_flip", MOST), ALIKE.near("clustering / sign_flip")),
        "Rows are ten times as long and not clipped, so that a round in which it errs is dear. With "
        "label bias 0.5 it leaves out 0.88, and the error is 0.27; average and single linkage are no "
        "better (0.81 and 0.73 left out, with label bias 0.1).",
    ),
    Claim(
        "sign_guard",
        "SignGuard withstands ByzMean, better than averaging.",
        (
            ALIKE.near("sign_guard / byz_mean"),
            ALIKE.less("error", "sign_guard / byz_mean", "mean / byz_mean"),
        ),
    ),
    Claim(
        "divide_and_conquer",
        "DnC withstands Min-Max, better than Multi-Krum.",
        (
            IT.near("divide_and_conquer / min_max"),
            IT.less("error", "divide_and_conquer / min_max", "multi_krum / min_max"),
        ),
    ),
    Claim(
        "foundation",
        "Trimmed mean with synthetic updates withstands the Trim attack better than without.",
        (IT.less("error", "foundation / trim_attack", "trimmed_mean / trim_attack"),),
        "The row that is copied, the one farthest from all extremes, is a hostile one: the Trim attack "
        "goes above the honest values in some coordinates and below them in others, and its rows score "
        "0.88 to 0.96 in the rounds 1 and 10, honest ones at most 0.75. Where clients are alike (label "
        "bias 0.1) honest rows win from round 10 on. The rule is as its source has it.",
    ),
    Claim(
        "fltrust",
        "With 40 % attackers FLTrust's error is near that of averaging without attack, under the Trim "
        "attack and under the adaptive one.",
        (
            MANY.near("fltrust / trim_attack"),
            MANY.near("fltrust / fltrust_attack"),
            MANY.less("error", "fltrust / trim_attack", "trimmed_mean / trim_attack", HARM),
        ),
    ),
    Claim(
        "bucketing",
        "On unlike clients Krum fails without any attack, and bucketing helps.",
        (
            SKEWED.less("error", "bucketing_krum / none", "krum / none"),
            SKEWED.more("error", "krum / none", "mean / none", HARM),
        ),
    ),
    Claim(
        "nnm",
        "On unlike clients nearest-neighbour mixing helps trimmed mean under ALIE and Mimic.",
        (
            SKEWED.less("error", "nnm_trimmed_mean / alie", "trimmed_mean / alie"),
            SKEWED.less("error", "nnm_trimmed_mean / mimic_warmup", "trimmed_mean / mimic_warmup"),
        ),
        "Mixing makes copies of an honest row, which are nearest to each other, no rarer: Mimic's harm "
        "is that of unlike clients, which mixing does not mend at this label bias.",
    ),
    Claim(
        "fldetector",
        "FLDetector finds the attackers of the Trim attack and keeps honest clients.",
        (
            ONE_STEP.more("recall", "fldetector / trim_attack", MOST),
            ONE_STEP.less("false positives", "fldetector / trim_attack", FEW),
        ),
        "The rule goes on testing after the attackers are found, which its authors' scripts do not: over "
        "200 rounds it leaves out 0.41 of the honest clients, for good.",
    ),
    Claim(
        "foolsgold",
        "On unlike clients FoolsGold leaves out sybils that share a goal, and keeps the error of averaging.",
        (SYBILS.more("recall", "foolsgold / to_one", MOST), SYBILS.near("foolsgold / to_one")),
        "It leaves out 0.45 of the honest clients as well, who look alike in turn: two have each class "
        "here, where in the paper every client has one of its own. It does not see attackers that plant "
        "a backdoor in data of their own (BadNets, label bias 0.9: success 1.00).",
    ),
    Claim(
        "robust_learning_rate",
        "RLR stops a pixel backdoor, at a cost in error.",
        (
            IT.less("success", "robust_learning_rate / badnets", LEVEL),
            IT.less("success", "robust_learning_rate / badnets", "mean / badnets"),
            IT.more("error", "robust_learning_rate / badnets", "mean / badnets"),
        ),
    ),
    Claim(
        "flame",
        "FLAME stops constrain and scale, and keeps the error of averaging.",
        _stops("flame", "constrain_and_scale"),
    ),
    Claim(
        "freq_fed",
        "FreqFed stops constrain and scale, and keeps the error of averaging.",
        _stops("freq_fed_models", "constrain_and_scale"),
        'Of models, `on = "models"`: angles of updates, the default, do not see that rows are '
        "enlarged, and 0.94 of the triggers succeed.",
    ),
    Claim(
        "clip",
        "Clipping with a little noise stops model replacement, and keeps the error of averaging.",
        (
            ONCE.less("highest success", "clip_noise / model_replacement", LEVEL),
            ONCE.less("highest success", "clip_noise / model_replacement", "mean / model_replacement"),
            ONCE.near("clip_noise / model_replacement"),
        ),
    ),
    Claim(
        "deepsight",
        "DeepSight leaves out attackers whose data are less diverse than those of others, and stops "
        "their backdoor.",
        (
            THIRD.more("recall", "deepsight / badnets", MOST),
            THIRD.less("success", "deepsight / badnets", LEVEL),
            THIRD.near("deepsight / badnets"),
        ),
        "There are six attackers because four are no cluster to its HDBSCAN, which needs five: everybody "
        "is one cluster then, of which four of twenty are too few to be left out (0.07 of them are). "
        "That they train on few classes is seen (1 or 2 in round 5, honest clients 8 to 10). With label "
        "bias 0.5 honest clients do so, too, and 0.73 of the triggers succeed.",
    ),
    *(
        Claim(name, f"{title} stops a backdoor, and keeps the error of averaging.", _stops(name), note)
        for name, title, note in (
            (
                "alignins",
                "AlignIns",
                "In three of the five seeds it leaves out all attackers, and no more than 0.06 of the "
                "triggers succeed; in two it leaves out half of them, and 0.96 and 0.87 succeed.",
            ),
            (
                "lasa",
                "LASA",
                "Tensors of the attackers are no more unusual than others: it leaves out 0.14 of the "
                "attackers and 0.26 of the honest clients.",
            ),
            (
                "multi_metrics",
                "Multi-metrics",
                "It leaves out 0.87 of the attackers, and averages six rows of twenty: one attacker "
                "among them has a sixth of the weight.",
            ),
        )
    ),
    Claim(
        "alie",
        "Rows within the spread of the honest ones break Krum, trimmed mean and median.",
        (
            MANY.more("error", "krum / alie", "krum / none", HARM),
            MANY.more("error", "trimmed_mean / alie", "trimmed_mean / none", HARM),
            MANY.more("error", "median / alie", "median / none", HARM),
        ),
        "Four attackers of twenty do next to nothing, as the row of Min-Max shows.",
    ),
    Claim(
        "ipm",
        "A short row against the honest mean breaks Krum and median; a long one does less to Krum.",
        (
            MANY.more("error", "krum / ipm_small", "krum / none", HARM),
            MANY.more("error", "median / ipm_small", "median / none", HARM),
            MANY.less("error", "krum / ipm_large", "krum / ipm_small", HARM),
        ),
    ),
    Claim(
        "min_max",
        "Min-Max does more harm than ALIE to Multi-Krum and trimmed mean.",
        (
            IT.more("error", "multi_krum / min_max", "multi_krum / alie"),
            IT.more("error", "trimmed_mean / min_max", "trimmed_mean / alie"),
        ),
    ),
    Claim(
        "dyn_opt",
        "An attack that knows the rule does more harm than one that does not.",
        (IT.more("error", "multi_krum / dyn_opt", "multi_krum / min_max"),),
    ),
    Claim(
        "trim_attack",
        "The Trim attack raises the error of trimmed mean and median more than Gaussian rows.",
        (
            IT.more("error", "trimmed_mean / trim_attack", "trimmed_mean / gaussian"),
            IT.more("error", "median / trim_attack", "median / gaussian"),
        ),
    ),
    Claim(
        "krum_attack",
        "The Krum attack breaks Krum, which flipped labels do not.",
        (IT.more("error", "krum / krum_attack", "krum / label_flip", HARM),),
    ),
    Claim(
        "mimic_warmup",
        "On unlike clients copies of one honest client harm the median.",
        (SKEWED.more("error", "median / mimic_warmup", "median / none", HARM),),
    ),
    Claim(
        "mpaf",
        "Fake clients that pull towards a bad model ruin averaging, and raise the error behind clipping.",
        (
            IT.more("error", "mean / mpaf", "mean / none", HARM),
            IT.more("error", "clip / mpaf", "clip / none"),
        ),
    ),
    Claim(
        "poisoned_fl",
        "Pushing in one direction over all rounds breaks FLTrust and trimmed mean.",
        (
            LONG.more("error", "fltrust / poisoned_fl", "fltrust / none"),
            LONG.more("error", "fltrust / poisoned_fl", "fltrust / none", HARM),
            LONG.more("error", "trimmed_mean / poisoned_fl", "trimmed_mean / none", HARM),
        ),
        "Errors near chance, as published, were not seen, and in 200 rounds nothing (FLTrust 0.050, and "
        "0.051 without attack). The push adds up: the authors make 6,000 rounds and more. In 4,000 (one "
        "seed) the updates became 20 to 40 times as long, and the errors stayed below 0.14: a ReLU "
        "network answers the same at any length of its weights.",
    ),
    Claim(
        "free_rider",
        "Free riders that send the last change hardly harm the model.",
        (IT.near("mean / free_rider"),),
    ),
    Claim(
        "sybil_noise",
        "Sybils that send noise while they look alike get past FoolsGold.",
        (SYBILS.more("error", "foolsgold / sybil_noise", "foolsgold / to_one", HARM),),
    ),
    Claim(
        "badnets",
        "A patch in poisoned data plants a backdoor, and the test error does not tell.",
        (IT.more("success", "mean / badnets", LEVEL), IT.near("mean / badnets")),
    ),
    Claim(
        "model_replacement",
        "An enlarged update plants a backdoor in a single round; one of ordinary length does not.",
        (
            ONCE.more("highest success", "mean / model_replacement", LEVEL),
            ONCE.less("highest success", "mean / badnets", LEVEL),
        ),
    ),
    Claim(
        "distributed_backdoor",
        "A trigger in four parts, one for each attacker, succeeds more than the whole one of a single "
        "attacker.",
        (
            IT.more("success", "mean / distributed_backdoor", ONE.arm("mean / badnets")),
            IT.more(
                "success", "geometric_median / distributed_backdoor", ONE.arm("geometric_median / badnets")
            ),
        ),
        "Four attackers who all have the whole trigger succeed more: 0.86 under averaging, 0.75 under "
        "the geometric median.",
    ),
    Claim(
        "edge_case",
        "Rare inputs with another label succeed behind norm clipping, and the test error does not tell.",
        (IT.more("success", "clip / edge_case", LEVEL), IT.near("clip / edge_case", "clip / none")),
        "The rare inputs are sevens upside down. The default on this data, ones upside down, are ones "
        "still, and 0.03 of them succeed.",
    ),
    Claim(
        "layer_backdoor",
        "A backdoor in critical layers alone is taken by Multi-Krum more often than one in all.",
        (
            DEEP.less("recall", "multi_krum / layer_backdoor", "multi_krum / badnets"),
            DEEP.more("success", "multi_krum / layer_backdoor", "multi_krum / badnets"),
        ),
        "Taken they are, but what is sent in the critical layers alone plants nothing here. In a "
        "perceptron with one hidden layer, which has hardly a choice, they are left out like BadNets "
        "(1.00).",
    ),
    Claim(
        "distance_fitted",
        "Moved within the honest rows' distances a backdoor is taken by Multi-Krum more often.",
        (
            ALIKE.less("recall", "multi_krum / distance_fitted", "multi_krum / badnets"),
            ALIKE.more("success", "multi_krum / distance_fitted", "multi_krum / badnets"),
        ),
    ),
    Claim(
        "alie_backdoor",
        "A backdoor within the spread of the honest rows passes trimmed mean and Krum.",
        (
            MANY.more("success", "krum / alie_backdoor", LEVEL),
            MANY.more("success", "trimmed_mean / alie_backdoor", LEVEL),
        ),
        "By the clip to the spread alone (`alpha = 1.0`). With the default, 0.2, nothing is planted "
        "(0.00 in 30 steps): the distance is a sum over 4,810 coordinates in units of their spread, and "
        "outweighs the loss. The authors' code has a mean in its place.",
    ),
    Claim(
        "neurotoxin",
        "A backdoor in coordinates that honest clients hardly change outlasts the same without a mask.",
        (HALF.more("success afterwards", "mean / neurotoxin", "mean / no_mask"),),
        "Success at the end of the attack and 100 rounds later (three seeds): 0.90 and 0.44 with the "
        'mask of the paper, 0.99 and 0.73 with that of the authors\' code (`source = "own_update"`), '
        "0.99 and 0.76 for the same training without a mask. A perceptron of 4,810 parameters has no "
        "room that honest clients leave alone; the mask itself is the worked one. The authors' networks "
        "have millions.",
    ),
    Claim(
        "chameleon",
        "A backdoor with contrastive features outlasts a plain one and Neurotoxin.",
        (
            HALF.more("success afterwards", "mean / chameleon", "mean / no_mask"),
            HALF.more("success afterwards", "mean / chameleon", "mean / neurotoxin"),
        ),
    ),
    Claim(
        "a3fl",
        "A trigger that is searched against the unlearning model outlasts a fixed one.",
        (HALF.more("success afterwards", "mean / a3fl", "mean / badnets"),),
    ),
)


def _titles(kind: str, config: Any, names: list[str], table: Any) -> dict[tuple[str, str], str]:
    parsed = [config.model_validate(table(name)) for name in names]
    return dict(zip([(kind, name) for name in names], titles(parsed), strict=True))


_ARMS = [arm for claim in CLAIMS for arm in claim.arms]
# In words, with the values in which two of the same name differ.
TITLES = {
    **_titles("rule", AggregatorConfig, list(dict.fromkeys(arm.rule for arm in _ARMS)), _rule),
    **_titles("attack", AttackConfig, list(dict.fromkeys(arm.attack for arm in _ARMS)), _attack),
}
