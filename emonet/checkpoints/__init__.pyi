from .calibration import Calibration, check_targets, fit_calibration, read_calibration
from .familiarity import Familiarity, fit_familiarity, read_familiarity
from .files import (
    INFO,
    ExpertsInfo,
    LoadedBank,
    bank_folders,
    check_alike,
    check_banks,
    expert_shapes,
    load_banks,
    read_info,
    write_experts,
)
from .intervals import Intervals, fit_intervals
from .population import Population, fit_population
from .published import (
    LICENCE,
    PublishedFolder,
    export_published,
    holds_published,
    import_published,
    load_published,
    nothing_but_published,
    open_published,
)

__all__ = [
    "INFO",
    "LICENCE",
    "Calibration",
    "ExpertsInfo",
    "Familiarity",
    "Intervals",
    "LoadedBank",
    "Population",
    "PublishedFolder",
    "bank_folders",
    "check_alike",
    "check_banks",
    "check_targets",
    "expert_shapes",
    "export_published",
    "fit_calibration",
    "fit_familiarity",
    "fit_intervals",
    "fit_population",
    "holds_published",
    "import_published",
    "load_banks",
    "load_published",
    "nothing_but_published",
    "open_published",
    "read_calibration",
    "read_familiarity",
    "read_info",
    "write_experts",
]
