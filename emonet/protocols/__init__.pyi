from .diarisation import Interval, diarisation_error, diarisation_table, intervals_of_frames
from .label_variance.distributions import Distributions, class_distributions, grade_distributions, rules_table
from .label_variance.heads import label_heads_table
from .label_variance.metrics import distribution_table, predicted_distributions
from .sim_to_real.hearing import hear, measure, random_scores
from .sim_to_real.mappings import SHIPPED, ClassMapping, open_mapping
from .sim_to_real.tables import (
    published_rows,
    sensitivity_figure,
    sensitivity_table,
    sim_to_real_classes_table,
    sim_to_real_table,
    weighted_total,
)
from .tables import Cell, Column, ProtocolTable, Row

__all__ = [
    "SHIPPED",
    "Cell",
    "ClassMapping",
    "Column",
    "Distributions",
    "Interval",
    "ProtocolTable",
    "Row",
    "class_distributions",
    "diarisation_error",
    "diarisation_table",
    "distribution_table",
    "grade_distributions",
    "hear",
    "intervals_of_frames",
    "label_heads_table",
    "measure",
    "open_mapping",
    "predicted_distributions",
    "published_rows",
    "random_scores",
    "rules_table",
    "sensitivity_figure",
    "sensitivity_table",
    "sim_to_real_classes_table",
    "sim_to_real_table",
    "weighted_total",
]
