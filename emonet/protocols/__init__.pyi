from .class_mappings import SHIPPED, ClassMapping, open_mapping
from .diarisation import Eder, Interval, diarisation_error, diarisation_table, intervals_of_frames
from .sim_to_real import Heard, SimToReal, hear, measure
from .sim_to_real_tables import (
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
    "Eder",
    "Heard",
    "Interval",
    "ProtocolTable",
    "Row",
    "SimToReal",
    "diarisation_error",
    "diarisation_table",
    "hear",
    "intervals_of_frames",
    "measure",
    "open_mapping",
    "published_rows",
    "sensitivity_figure",
    "sensitivity_table",
    "sim_to_real_classes_table",
    "sim_to_real_table",
    "weighted_total",
]
