"""Files of the adapted network: its spec with what is known of it, its weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import optuna

from nas.arch.complexity import complexity
from nas.arch.files import dump_spec
from nas.core.files import write_bytes_atomically, write_text_atomically
from nas.methods.netadapt.context import NetAdaptContext
from nas.methods.netadapt.report_data import ADAPTED_FILE
from nas.methods.netadapt.results.comparison import accuracy_change
from nas.study.trial_record import TrialRecord


def write_adapted(context: NetAdaptContext, study: optuna.Study, kept: list[TrialRecord]) -> None:
    """Write spec and weights of the network of the last step.

    They are ``adapted.yaml`` and ``adapted.safetensors``. ``kept``: the records of the steps, the seed network's first.
    Weights first: a spec without its weights would be taken for a network that is yet to be trained. Raises: NasError
    if the step's files are lost.
    """
    last, folder = len(kept) - 1, context.plan.folder
    arch = replace(context.files.arch(last), name=ADAPTED_FILE)
    write_bytes_atomically(folder / f"{ADAPTED_FILE}.safetensors", context.files.weights(last))
    write_text_atomically(folder / f"{ADAPTED_FILE}.yaml", dump_spec(arch, _provenance(context, study, kept)))


def _provenance(context: NetAdaptContext, study: optuna.Study, kept: list[TrialRecord]) -> dict[str, Any]:
    plan, seed, adapted = context.plan, kept[0], kept[-1]
    arch = context.files.arch(len(kept) - 1)
    shared = context.provenance(study.study_name)
    return {
        "study": shared.pop("study"),
        "data": shared.pop("data"),
        "seed": plan.study.seed,
        **shared,
        "trial": adapted.number,
        "arch_id": arch.arch_id,
        "adapted_from": {
            "name": context.seed.name,
            "arch_id": context.seed.arch_id,
            "weights": plan.weights,
            **_accuracy(seed),
            "latency": context.latency_facts(seed),
        },
        "target": {plan.target.measure: round(context.target, 6), "requested": str(plan.target)},
        "steps": len(kept) - 1,
        **_accuracy(adapted),
        **_change(study, seed, adapted),
        **asdict(complexity(arch)),
        "latency": {"device": str(context.predictor.device), **context.latency_facts(adapted)},
    }


def _accuracy(row: TrialRecord) -> dict[str, Any]:
    facts = {
        "accuracy": row.accuracy,
        "standard_error": row.standard_error,
        "val_loss": row.val_loss,
        "majority_accuracy": row.majority_accuracy,
    }
    return {name: round(value, 6) for name, value in facts.items() if value is not None}


def _change(study: optuna.Study, seed: TrialRecord, adapted: TrialRecord) -> dict[str, Any]:
    """Change of accuracy since the seed network, with its standard error."""
    change = accuracy_change(study, seed, adapted) if seed.number != adapted.number else None
    if change is None:
        return {}
    error = None if change.error is None else round(change.error, 6)
    return {"accuracy_change": {"value": round(change.change, 6), "standard_error": error, "paired": change.is_paired}}
