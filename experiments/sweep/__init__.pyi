from .records import plan_of
from .studies import Study
from .tracking import log_trial, study_run
from .trials import Trials
from .verb import run, show

__all__ = [
    "Study",
    "Trials",
    "log_trial",
    "plan_of",
    "run",
    "show",
    "study_run",
]
