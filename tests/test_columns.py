"""Every rule, pre-aggregator, chain and attack on a stack that 4 and 8 devices hold by columns."""

import json
from math import prod

import pytest

from fljax.aggregators import PRE_AGGREGATORS, RULES
from tests.attacks.table import UPDATE_CASES
from tests.support.columns import TABLE, D, N
from tests.support.processes import QUICKLY, lines_of

# What divides by columns without a word between the devices: sorting networks and votes.
SILENT = {"median", "trimmed_mean", "mean_around_median", "phocas", "sign_majority", "root_only"}
# One sum of (n, n), besides smaller ones.
GRAM = {
    "krum",
    "multi_krum",
    "bulyan",
    "nnm",
    "covariance_filter",
    "minimum_diameter",
    "smallest_spectrum",
    "foolsgold",
    "flame",
    "clustering",
    "clipped_clustering",
}
# The coordinates that DnC draws of every row are summed over the devices, those that GAS permutes, and the
# tensors that FreqFed transforms; a model is called with a whole row.
EXCHANGED = {
    "divide_and_conquer": N * 10_000,
    **dict.fromkeys(("freq_fed", "gas"), N * D),
    **dict.fromkeys(("deepsight", "flare", "zeno"), D + 8),
}
# Entries that every device holds besides its share: these, the covariances of a chunk of subsets.
HELD = {
    "divide_and_conquer": 3 * N * 10_000,
    "freq_fed": 2 * N * D,
    "gas": 3 * N * D,
    "smallest_spectrum": 2**20,
    "fedseca": 5 * D,
}


def test_the_table_of_results_has_every_component():
    text = TABLE.read_text(encoding="utf-8")
    for kind, names in (
        ("rule", RULES),
        ("pre-aggregator", PRE_AGGREGATORS),
        ("attack", {case.name for case in UPDATE_CASES}),
    ):
        assert [name for name in names if f"| {kind} `{name}" not in text] == []


@pytest.mark.slow
def test_columns_on_devices_give_the_one_device_result_and_nothing_puts_them_together():
    lines = [json.loads(line) for line in lines_of("-m", "tests.support.columns", XLA_FLAGS=QUICKLY)]
    assert {(line["devices"], line["runs"]) for line in lines} == {(8, 1), (4, 2)}
    wrong = []
    for line in lines:
        name, devices, stack = line["name"], line["devices"], 4 * N * D
        exact = name in SILENT
        usual = [each for each in line["collectives"] if not each["rare"]]
        shapes = [tuple(shape) for each in usual for shape in each["shapes"]]
        entries = [max(prod(shape) for shape in each["shapes"]) for each in line["collectives"]]
        # One masked copy of its share, since the devices do not divide d, and what every device has whole:
        # vectors (d,), matrices (n, n), and `HELD`.
        copies = 2 if "foolsgold" in name else 1
        allowed = 1.3 * (line["one_device"] + copies * stack) / devices
        allowed += 4 * (3 * D + 100 * N * N + HELD.get(name, 0)) + 2**16
        checks = {
            "result": line["usual"] <= (0 if exact else line["tolerance"]),
            "result with hostile rows": line["extreme"] <= (0 if exact else line["tolerance"]),
            "memory": line["each_device"] <= allowed,
            "sizes": max(entries, default=0) <= EXCHANGED.get(name, N * N),
            "no word": not (exact and line["runs"] == 1 and line["collectives"]),
            "one Gram matrix": name not in GRAM or shapes.count((N, N)) == 1,
            "two vectors": name != "fltrust" or sorted(shapes)[-3:] == [(), (N,), (N,)],
        }
        wrong += [(line["id"], devices, line["runs"], check) for check, fine in checks.items() if not fine]
    assert wrong == []
