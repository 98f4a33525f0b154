from .input_cache import KeptInputs
from .module import unreported
from .training import TrainedExperts, Wanted, Watch, train_experts

__all__ = [
    "KeptInputs",
    "TrainedExperts",
    "Wanted",
    "Watch",
    "train_experts",
    "unreported",
]
