from .input_cache import KeptInputs
from .parts import join_parts, part_of, write_part
from .training import train_experts
from .wanted import TrainedExperts, TrainingCallbacks, TrainingRequest

__all__ = [
    "KeptInputs",
    "TrainedExperts",
    "TrainingCallbacks",
    "TrainingRequest",
    "join_parts",
    "part_of",
    "train_experts",
    "write_part",
]
