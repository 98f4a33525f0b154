from .input_cache import KeptInputs
from .training import TrainedExperts, TrainingCallbacks, TrainingRequest, train_experts

__all__ = [
    "KeptInputs",
    "TrainedExperts",
    "TrainingCallbacks",
    "TrainingRequest",
    "train_experts",
]
