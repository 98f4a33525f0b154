from .exporting import ExportReport, export
from .info import StoreInfo, describe
from .repairing import RepairReport, Sources, repair
from .verification import LEFTOVER, StoreReport, verify

__all__ = [
    "LEFTOVER",
    "ExportReport",
    "RepairReport",
    "Sources",
    "StoreInfo",
    "StoreReport",
    "describe",
    "export",
    "repair",
    "verify",
]
