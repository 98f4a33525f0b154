from .copying import CopyReport, copy_store
from .exporting import ExportReport, export
from .info import StoreInfo, describe
from .repairing import RepairReport, Sources, repair
from .verification import LEFTOVER, StoreReport, verify

__all__ = [
    "LEFTOVER",
    "CopyReport",
    "ExportReport",
    "RepairReport",
    "Sources",
    "StoreInfo",
    "StoreReport",
    "copy_store",
    "describe",
    "export",
    "repair",
    "verify",
]
