from .error_correlates import PROPERTIES, correlates_figure, correlates_table, sound_properties
from .fairness import fairness_figure, fairness_tables
from .groups import Grouping, read_groupings, usual_groupings
from .judging import JUDGED, Truth
from .perturbed import CLEAN, perturbed, score_conditions
from .robustness import robustness_figure, robustness_table

__all__ = [
    "CLEAN",
    "JUDGED",
    "PROPERTIES",
    "Grouping",
    "Truth",
    "correlates_figure",
    "correlates_table",
    "fairness_figure",
    "fairness_tables",
    "perturbed",
    "read_groupings",
    "robustness_figure",
    "robustness_table",
    "score_conditions",
    "sound_properties",
    "usual_groupings",
]
