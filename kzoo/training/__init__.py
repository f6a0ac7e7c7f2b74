"""One fit for all: a run folder, resume, schedules, moving averages and guards around Keras' `compile` and `fit`."""

from kzoo.training.balance import class_weights
from kzoo.training.config import TrainConfig
from kzoo.training.folder import Run
from kzoo.training.outputs import output_name
from kzoo.training.run import train
from kzoo.training.schedule import WarmupSchedule, caffe_sgd
from kzoo.training.settling import settled
from kzoo.training.transfer import TransferReport, load_matching_weights
from kzoo.training.watch import TrainingDiverged

__all__ = [
    "Run",
    "TrainConfig",
    "TrainingDiverged",
    "TransferReport",
    "WarmupSchedule",
    "caffe_sgd",
    "class_weights",
    "load_matching_weights",
    "output_name",
    "settled",
    "train",
]
