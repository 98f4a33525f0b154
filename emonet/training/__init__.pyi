from .adamw import BankOptimiser, Precision
from .early_stopping import ExpertStopping, active_experts, fetched
from .gram_products import Standardised, add_combinations, arithmetic_for, gram, inner_products
from .losses import absolute_errors, expert_losses
from .memory_plan import GIB, TrainingPlan, free_bytes, plan_training
from .principal_basis import PrincipalBasis, Rank, decompose, projected, rotate
from .validation_metrics import SCORE_METRICS, ScoreMetricName, ScoreMetrics, UnweightedAccuracy

__all__ = [
    "GIB",
    "SCORE_METRICS",
    "BankOptimiser",
    "ExpertStopping",
    "Precision",
    "PrincipalBasis",
    "Rank",
    "ScoreMetricName",
    "ScoreMetrics",
    "Standardised",
    "TrainingPlan",
    "UnweightedAccuracy",
    "absolute_errors",
    "active_experts",
    "add_combinations",
    "arithmetic_for",
    "decompose",
    "expert_losses",
    "fetched",
    "free_bytes",
    "gram",
    "inner_products",
    "plan_training",
    "projected",
    "rotate",
]
