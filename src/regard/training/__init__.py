"""Training: the loop, schedules, budgets and checkpoints. Knows no model and no task."""

from regard.training.budget import Budget, Plan, calibrate, make_plan
from regard.training.checkpoint import (
    Checkpoint,
    Progress,
    last_checkpoint,
    load_checkpoint,
    load_progress,
    load_weights_into,
)
from regard.training.events import (
    Damaged,
    Event,
    Finished,
    Listener,
    Reason,
    Resumed,
    Saved,
    Started,
    StepDone,
    Validated,
)
from regard.training.loop import Metric, Settings, Trainer
from regard.training.optimizer import build_optimizer
from regard.training.processes import Processes, naming_lost_processes, open_processes
from regard.training.random_state import preserved_random, seed_process
from regard.training.recompute import recompute
from regard.training.schedule import Constant, Cosine, InverseSqrt, Linear, Schedule
from regard.training.sharded import whole_state
from regard.training.step import Indices, Problem
from regard.training.store import CheckpointStore, DamagedCheckpointError
from regard.training.weights import average_checkpoints, load_weights, mean_weights, pack_weights, unpack_weights

__all__ = [
    "Budget",
    "Checkpoint",
    "CheckpointStore",
    "Constant",
    "Cosine",
    "Damaged",
    "DamagedCheckpointError",
    "Event",
    "Finished",
    "Indices",
    "InverseSqrt",
    "Linear",
    "Listener",
    "Metric",
    "Plan",
    "Problem",
    "Processes",
    "Progress",
    "Reason",
    "Resumed",
    "Saved",
    "Schedule",
    "Settings",
    "Started",
    "StepDone",
    "Trainer",
    "Validated",
    "average_checkpoints",
    "build_optimizer",
    "calibrate",
    "last_checkpoint",
    "load_checkpoint",
    "load_progress",
    "load_weights",
    "load_weights_into",
    "make_plan",
    "mean_weights",
    "naming_lost_processes",
    "open_processes",
    "pack_weights",
    "preserved_random",
    "recompute",
    "seed_process",
    "unpack_weights",
    "whole_state",
]
