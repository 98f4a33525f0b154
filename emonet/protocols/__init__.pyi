from .audits.error_correlates import correlates_figure, correlates_table, sound_properties
from .audits.fairness import fairness_figure, fairness_tables
from .audits.groups import Grouping, read_groupings, usual_groupings
from .audits.judging import JUDGED, Truth
from .audits.perturbed import score_conditions
from .audits.robustness import robustness_figure, robustness_table
from .tables import Cell, Column, ProtocolTable, Row

__all__ = [
    "JUDGED",
    "Cell",
    "Column",
    "Grouping",
    "ProtocolTable",
    "Row",
    "Truth",
    "correlates_figure",
    "correlates_table",
    "fairness_figure",
    "fairness_tables",
    "read_groupings",
    "robustness_figure",
    "robustness_table",
    "score_conditions",
    "sound_properties",
    "usual_groupings",
]
