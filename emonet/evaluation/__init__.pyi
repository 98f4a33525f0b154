from .baselines import Ridge, baseline_predictions, median_scores
from .bootstrap import difference, evaluate, independent, resample
from .class_comparison import Classified
from .classification import CLASS_METRICS, UA, ClassScores, class_metrics, confusion, sample_classes
from .comparison import (
    Comparison,
    Contender,
    ContenderFacts,
    PairwiseDifference,
    TargetDifference,
    compare,
    excludes_zero,
)
from .comparison_plots import calibration_figure, differences_figure, embedded
from .fold_figures import FoldEstimate, fold_classes, fold_scores
from .metrics import weighted_metrics
from .permutation import SwapTest, describe, holm, swapped
from .plots import (
    ACCENT,
    COLOURS,
    DPI,
    FAINT,
    INK,
    SCATTERED,
    class_confusion_figure,
    confusion_figure,
    folds_figure,
    metric_figure,
    scatter_figure,
    scores_figure,
)
from .promotion import MARGIN, Verdict, judge
from .results import METRIC_NAMES, METRICS, Estimate, Metric, MetricName, Scores
from .scoring import PluggedScorer, Scored, Scorer, open_scorer

__all__ = [
    "ACCENT",
    "CLASS_METRICS",
    "COLOURS",
    "DPI",
    "FAINT",
    "INK",
    "MARGIN",
    "METRICS",
    "METRIC_NAMES",
    "SCATTERED",
    "UA",
    "ClassScores",
    "Classified",
    "Comparison",
    "Contender",
    "ContenderFacts",
    "Estimate",
    "FoldEstimate",
    "Metric",
    "MetricName",
    "PairwiseDifference",
    "PluggedScorer",
    "Ridge",
    "Scored",
    "Scorer",
    "Scores",
    "SwapTest",
    "TargetDifference",
    "Verdict",
    "baseline_predictions",
    "calibration_figure",
    "class_confusion_figure",
    "class_metrics",
    "compare",
    "confusion",
    "confusion_figure",
    "describe",
    "difference",
    "differences_figure",
    "embedded",
    "evaluate",
    "excludes_zero",
    "fold_classes",
    "fold_scores",
    "folds_figure",
    "holm",
    "independent",
    "judge",
    "median_scores",
    "metric_figure",
    "open_scorer",
    "resample",
    "sample_classes",
    "scatter_figure",
    "scores_figure",
    "swapped",
    "weighted_metrics",
]
