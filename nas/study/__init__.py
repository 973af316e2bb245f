"""One resumable study on Optuna, whatever the method.

Settings, session, trial attributes, trial records, the trial loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.core.lazy import lazy_exports

if TYPE_CHECKING:
    from nas.study import catalog, manifest, trial_loop
    from nas.study.candidates import Candidate, Pricer, Survey, space_size_text, survey
    from nas.study.catalog import StudySummary, existing_studies_storage, load_study, studies, summarize_studies
    from nas.study.config import EngineSettings, RecordSettings, SettingsGroups, StudyPlan, dotted_names
    from nas.study.constraints import Constraints
    from nas.study.context import Facts, StudyContext, load_context_parts
    from nas.study.kind import SpaceFactory, StudyKind
    from nas.study.manifest import PREDICTOR_FILE, REPORT_FILE, StudyManifest, read_manifest
    from nas.study.measurement import Measurer, PredictorRefinement, make_measurer, measure_rows
    from nas.study.objective import OBJECTIVES, Accuracy, ObjectiveSettings, choose_winners
    from nas.study.predictor import find_or_calibrate, load_with_progress
    from nas.study.progress import TrialProgress
    from nas.study.recovery import OUT_OF_MEMORY, fail_trial, recover_killed_trial, recover_trials, requeue_trial
    from nas.study.session import Pause, StudySession, TrialTimer, is_study_finished, load_session_parts
    from nas.study.trial_attributes import (
        LATENCY_SCALE,
        PUBLISHED,
        WORKER,
        MeasuredLatency,
        at_usual_speed,
        copied_accuracy,
        count_finished,
        distributions,
        earlier_measurement,
        is_abandoned,
        is_counted,
        latency_scale,
        record_candidate,
        record_measured,
        told_latency_ms,
        trial_records,
    )
    from nas.study.trial_loop import (
        AskTell,
        Idle,
        OnTrial,
        TrainingStopped,
        TrialTask,
        failure_reason,
        finish_without_result,
        release_trial,
        run_trial_loop,
    )
    from nas.study.trial_record import (
        Outcome,
        TrialRecord,
        count_outcomes,
        outcome_counts_text,
        pareto_front,
        trained_networks,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "candidates": ["Candidate", "Pricer", "Survey", "space_size_text", "survey"],
            "catalog": ["StudySummary", "existing_studies_storage", "load_study", "studies", "summarize_studies"],
            "config": [
                "EngineSettings",
                "RecordSettings",
                "SettingsGroups",
                "StudyPlan",
                "dotted_names",
            ],
            "constraints": ["Constraints"],
            "context": ["Facts", "StudyContext", "load_context_parts"],
            "kind": ["SpaceFactory", "StudyKind"],
            "manifest": ["PREDICTOR_FILE", "REPORT_FILE", "StudyManifest", "read_manifest"],
            "measurement": ["Measurer", "PredictorRefinement", "make_measurer", "measure_rows"],
            "objective": ["OBJECTIVES", "Accuracy", "ObjectiveSettings", "choose_winners"],
            "predictor": ["find_or_calibrate", "load_with_progress"],
            "progress": ["TrialProgress"],
            "recovery": ["OUT_OF_MEMORY", "fail_trial", "recover_killed_trial", "recover_trials", "requeue_trial"],
            "session": ["Pause", "StudySession", "TrialTimer", "is_study_finished", "load_session_parts"],
            "trial_attributes": [
                "copied_accuracy",
                "LATENCY_SCALE",
                "PUBLISHED",
                "WORKER",
                "MeasuredLatency",
                "at_usual_speed",
                "count_finished",
                "distributions",
                "earlier_measurement",
                "is_abandoned",
                "is_counted",
                "latency_scale",
                "record_candidate",
                "record_measured",
                "told_latency_ms",
                "trial_records",
            ],
            "trial_loop": [
                "AskTell",
                "Idle",
                "OnTrial",
                "TrainingStopped",
                "TrialTask",
                "failure_reason",
                "finish_without_result",
                "release_trial",
                "run_trial_loop",
            ],
            "trial_record": [
                "Outcome",
                "TrialRecord",
                "count_outcomes",
                "outcome_counts_text",
                "pareto_front",
                "trained_networks",
            ],
        },
        submodules=["catalog", "manifest", "trial_loop"],
    )

__all__ = [
    "OBJECTIVES",
    "OUT_OF_MEMORY",
    "PREDICTOR_FILE",
    "PUBLISHED",
    "REPORT_FILE",
    "WORKER",
    "Accuracy",
    "AskTell",
    "Candidate",
    "Constraints",
    "EngineSettings",
    "Facts",
    "Idle",
    "MeasuredLatency",
    "Measurer",
    "ObjectiveSettings",
    "OnTrial",
    "Outcome",
    "PredictorRefinement",
    "Pricer",
    "RecordSettings",
    "SettingsGroups",
    "SpaceFactory",
    "StudyContext",
    "StudyKind",
    "StudyManifest",
    "StudyPlan",
    "StudySession",
    "StudySummary",
    "Survey",
    "TrainingStopped",
    "TrialProgress",
    "TrialRecord",
    "TrialTask",
    "TrialTimer",
    "at_usual_speed",
    "catalog",
    "choose_winners",
    "copied_accuracy",
    "count_finished",
    "count_outcomes",
    "distributions",
    "dotted_names",
    "earlier_measurement",
    "existing_studies_storage",
    "fail_trial",
    "failure_reason",
    "find_or_calibrate",
    "finish_without_result",
    "is_abandoned",
    "is_counted",
    "is_study_finished",
    "load_context_parts",
    "load_session_parts",
    "load_study",
    "make_measurer",
    "manifest",
    "measure_rows",
    "outcome_counts_text",
    "pareto_front",
    "read_manifest",
    "record_candidate",
    "record_measured",
    "recover_killed_trial",
    "recover_trials",
    "release_trial",
    "requeue_trial",
    "run_trial_loop",
    "space_size_text",
    "studies",
    "summarize_studies",
    "survey",
    "trained_networks",
    "trial_loop",
    "trial_records",
    "LATENCY_SCALE",
    "Pause",
    "latency_scale",
    "told_latency_ms",
    "load_with_progress",
]
