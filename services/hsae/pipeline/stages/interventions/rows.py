"""Rows of the tables of interventions, from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from hsae.interventions.config import LATENTS, InterveneSettings
from hsae.interventions.contrasts import cost_at, sign_flip_p
from hsae.interventions.effects import distances_from, loss_recovered
from hsae.interventions.figures import Figures, Target, figures
from hsae.interventions.measure import Measured, Outcome
from hsae.pipeline.stages.interventions.arms import REPLACEMENTS, Arm
from hsae.pipeline.stages.interventions.scene import Scene

Row = dict[str, Any]
_NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What a job measured.

    Attributes:
        settings: its settings.
        scene: what was acted on.
        arms: the edits.
        measured: what became of the images; the outcomes of `REPLACEMENTS` come first, then one per arm.
        synset_ids: the catalog's id of every node.
    """

    settings: InterveneSettings
    scene: Scene
    arms: Sequence[Arm]
    measured: Measured
    synset_ids: Int64[np.ndarray, "n_nodes"]

    @property
    def replaced(self) -> dict[str, Outcome]:
        """The images with all edited tokens replaced, by the names of `REPLACEMENTS`."""
        return dict(zip(REPLACEMENTS, self.measured.after, strict=False))

    def of_arm(self, number: int) -> Outcome:
        """The images after an edit."""
        return self.measured.after[len(REPLACEMENTS) + number]


def readout_rows(results: Results) -> list[Row]:
    """Rows of intervention_readout."""
    measured = results.measured
    labels = measured.labels
    chance = float(np.bincount(labels).max() / len(labels))
    replaced = results.replaced
    found = []
    for at, name in enumerate(results.settings.readouts):
        before, through = measured.before.readings[at], replaced["through"].readings[at]
        loss, of_through = before.cross_entropy, through.cross_entropy
        of_mean, of_zero = (replaced[ablation].readings[at].cross_entropy for ablation in ("mean", "zero"))
        found.append(
            {
                "readout": name,
                "accuracy": float((before.predicted == labels).mean()),
                "accuracy_through_sae": float((through.predicted == labels).mean()),
                "chance": chance,
                "log_odds": _mean(before.own_log_odds),
                "log_odds_through_sae": _mean(through.own_log_odds),
                "moved_through_sae": _over(float(replaced["through"].moved.mean()), measured.spread),
                "cross_entropy": loss,
                "cross_entropy_through_sae": of_through,
                "cross_entropy_mean_ablated": of_mean,
                "cross_entropy_zero_ablated": of_zero,
                "loss_recovered_mean": loss_recovered(loss, of_through, of_mean),
                "loss_recovered_zero": loss_recovered(loss, of_through, of_zero),
            }
        )
    return found


@dataclass(slots=True)
class EditRows:
    """Rows of the tables of single edits, and the figures from which contrasts are made."""

    interventions: list[Row]
    effects: list[pa.Table]
    distances: list[Row]
    figures: dict[tuple[int, str], Figures]


def edit_rows(results: Results) -> EditRows:
    """Rows of intervention, intervention_effect and intervention_distance."""
    scene, measured, settings = results.scene, results.measured, results.settings
    found = EditRows([], [], [], {})
    distances = {node: distances_from(scene.taxonomy, node) for node in scene.nodes}
    n_under = np.bincount(measured.labels, minlength=len(scene.tree.inside)) @ scene.tree.inside
    for number, arm in enumerate(results.arms):
        distance = distances[arm.node]
        target = Target(arm.node, distance[scene.taxonomy.classes], measured.labels)
        outcome = results.of_arm(number)
        for at, readout in enumerate(settings.readouts):
            before, after = measured.before.readings[at], outcome.readings[at]
            one = figures(before, after, target, scene.tree, n_shuffles=settings.n_shuffles, seed=settings.seed)
            found.figures[number, readout] = one
            place = {"number": number, "readout": readout}
            found.interventions.append(place | _intervention(arm, one, outcome, results))
            there = np.flatnonzero(n_under)
            columns = {
                "synset_id": results.synset_ids[there],
                "distance": distance[there].astype(np.int32),
                "n_images": n_under[there].astype(np.int32),
                "log_odds_before": before.node_log_odds[there],
                "log_odds_after": after.node_log_odds[there],
                "accuracy_before": before.node_accuracy[there],
                "accuracy_after": after.node_accuracy[there],
            }
            table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
            for name, value in (*place.items(), ("split", "score")):
                table = table.append_column(name, pa.repeat(value, len(table)))
            found.effects.append(table)
            found.distances += [place | row for row in _curve(one)]
    return found


def contrast_rows(results: Results, of_edits: EditRows) -> list[Row]:
    """Rows of intervention_contrast: each node and control, and each control over all nodes."""
    settings, scene = results.settings, results.scene
    found: list[Row] = []
    for readout in settings.readouts if scene.nodes else ():
        for control in settings.controls:
            of_nodes = [_contrast(results, of_edits, readout, control, node) for node in scene.nodes]
            found += [
                {"readout": readout, "control": control, "synset_id": int(results.synset_ids[node]), "n_nodes": 1} | row
                for node, row in zip(scene.nodes, of_nodes, strict=True)
            ]
            differences = [row["specificity_difference"] for row in of_nodes]
            costs = [row["cost"] - row["cost_control"] for row in of_nodes]
            means = {
                name: _mean(np.array([row[name] for row in of_nodes]))
                for name in ("specificity_difference", "equal_forgetting", "cost", "cost_control")
            }
            found.append(
                {"readout": readout, "control": control, "synset_id": None, "n_nodes": len(scene.nodes)}
                | means
                | {
                    "specificity_p": sign_flip_p(differences, settings.n_shuffles, settings.seed),
                    "cost_p": sign_flip_p(costs, settings.n_shuffles, settings.seed),
                }
            )
    return found


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table for COPY; NaN is NULL, and so is what a row lacks."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    clean = [
        {name: None if isinstance(row.get(name), float) and np.isnan(row[name]) else row.get(name) for name in names}
        for row in rows
    ]
    table = pa.Table.from_pylist(clean)
    for at, column in enumerate(table.schema):
        if pa.types.is_null(column.type):  # undefined in every row
            table = table.set_column(at, column.name, table[column.name].cast(pa.float64()))
    return table


def _contrast(results: Results, of_edits: EditRows, readout: str, control: str, node: int) -> Row:
    """The latents of a node beside one control; of random latents the mean of the draws."""
    own = _by_draw(results, of_edits, readout, LATENTS, node)[0]
    others = _by_draw(results, of_edits, readout, control, node)
    greatest = [max((one.forgetting for one in draw if not np.isnan(one.forgetting)), default=_NAN) for draw in others]
    reached = max((one.forgetting for one in own if not np.isnan(one.forgetting)), default=_NAN)
    equal = min(reached, _mean(np.array(greatest)))
    costs = [_cost(draw, equal) for draw in others]
    return {
        "specificity_difference": own[0].specificity.value - _mean(np.array([d[0].specificity.value for d in others])),
        "equal_forgetting": equal,
        "cost": _cost(own, equal),
        "cost_control": _mean(np.array([cost for cost in costs if not np.isnan(cost)])),
    }


def _by_draw(results: Results, of_edits: EditRows, readout: str, arm: str, node: int) -> list[list[Figures]]:
    """The figures of an arm at a node: by draw, in the order of the doses."""
    draws: dict[int, list[Figures]] = {}
    for number, each in enumerate(results.arms):
        if each.arm == arm and each.node == node:
            draws.setdefault(each.draw, []).append(of_edits.figures[number, readout])
    return list(draws.values())


def _cost(doses: Sequence[Figures], equal: float) -> float:
    forgetting = np.array([one.forgetting for one in doses])
    return cost_at(forgetting, np.array([one.outside[0] - one.outside[1] for one in doses]), equal)


def _intervention(arm: Arm, one: Figures, outcome: Outcome, results: Results) -> Row:
    inside = results.scene.is_inside(arm.node)[results.measured.labels]
    spread = results.measured.spread
    return {
        "synset_id": int(results.synset_ids[arm.node]),
        "arm": arm.arm,
        "draw": arm.draw,
        "dose": arm.dose,
        "latents": None if arm.latents is None else arm.latents.tolist(),
        "further_latents": {str(layer): latents.tolist() for layer, latents in arm.further.items()} or None,
        "n_inside": one.n_inside,
        "n_outside": one.n_outside,
        "accuracy_inside_before": one.inside[0],
        "accuracy_inside_after": one.inside[1],
        "accuracy_outside_before": one.outside[0],
        "accuracy_outside_after": one.outside[1],
        "specificity": one.specificity.value,
        "specificity_low": one.specificity.low,
        "specificity_high": one.specificity.high,
        "specificity_log_odds": one.specificity_log_odds.value,
        "specificity_log_odds_low": one.specificity_log_odds.low,
        "specificity_log_odds_high": one.specificity_log_odds.high,
        "forgetting": one.forgetting,
        "retention": one.retention,
        "distance_correlation": one.distance_correlation,
        "distance_p": one.distance_p,
        "moved_inside": _over(_mean(outcome.moved[inside]), spread),
        "moved_outside": _over(_mean(outcome.moved[~inside]), spread),
    }


def _curve(one: Figures) -> list[Row]:
    return [
        {
            "distance": point.distance,
            "n_classes": point.n_classes,
            "accuracy_drop": point.accuracy.value,
            "accuracy_low": point.accuracy.low,
            "accuracy_high": point.accuracy.high,
            "accuracy_null_low": point.accuracy_null[0],
            "accuracy_null_high": point.accuracy_null[1],
            "log_odds_drop": point.log_odds.value,
            "log_odds_low": point.log_odds.low,
            "log_odds_high": point.log_odds.high,
            "log_odds_null_low": point.log_odds_null[0],
            "log_odds_null_high": point.log_odds_null[1],
        }
        for point in one.curve
    ]


def _mean(values: Float64[np.ndarray, "n"] | None) -> float:
    """The mean of what is not NaN; NaN without any."""
    if values is None:
        return _NAN
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else _NAN


def _over(value: float, unit: float) -> float:
    return value / unit if unit > 0 else _NAN
