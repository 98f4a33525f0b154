from .audits.error_correlates import correlates_figure, correlates_table, sound_properties
from .audits.fairness import fairness_figure, fairness_tables
from .audits.groups import Grouping, read_groupings, usual_groupings
from .audits.judging import JUDGED, Truth
from .audits.perturbed import every_condition, score_conditions
from .audits.robustness import robustness_figure, robustness_table
from .bench.answers import Answers
from .bench.figures import against_figure, figure1_figure, table6_figure
from .bench.findings import against_agreement, against_arousal, agreement_of, arousal_of, discrimination, emotion_points
from .bench.format import BENCH, Bench, read_bench
from .bench.published import PublishedName, published_table, reconciliation
from .bench.raters import figure1, table9, table10
from .bench.sample import BenchSample, write_bench_sample
from .bench.tables import Judged, judge_models, table5, table6
from .changes import JoinedClips, emotion_intervals, joined_clips
from .consensus import RULES, Consensus, Rule, agree, consensus_table
from .diarisation import Interval, diarisation_error, diarisation_table, intervals_of_frames
from .emobox.cross import balanced, common_class, cross_corpus, cross_corpus_table, shared_classes
from .emobox.figures import cross_corpus_figure, epochs_figure, rank_figure
from .emobox.leaderboard import corpora_table, cross_corpus_leaderboard, leaderboard, leaderboard_corpora, ranked
from .emobox.tables import emobox_rank, emobox_table, selected
from .emobox.training import SETTINGS, EmoBoxConfig, HeardStates, TrainedFold, train_folds
from .label_variance.distributions import Distributions, class_distributions, grade_distributions, rules_table
from .label_variance.heads import label_heads_table
from .label_variance.metrics import distribution_table, predicted_distributions
from .ratings import Ratings, on_ten, read_ratings
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
    "BENCH",
    "JUDGED",
    "RULES",
    "SETTINGS",
    "SHIPPED",
    "Answers",
    "Bench",
    "BenchSample",
    "Cell",
    "ClassMapping",
    "Column",
    "Consensus",
    "Distributions",
    "EmoBoxConfig",
    "Grouping",
    "HeardStates",
    "Interval",
    "JoinedClips",
    "Judged",
    "ProtocolTable",
    "PublishedName",
    "Ratings",
    "Row",
    "Rule",
    "TrainedFold",
    "Truth",
    "against_agreement",
    "against_arousal",
    "against_figure",
    "agree",
    "agreement_of",
    "arousal_of",
    "balanced",
    "class_distributions",
    "common_class",
    "consensus_table",
    "corpora_table",
    "correlates_figure",
    "correlates_table",
    "cross_corpus",
    "cross_corpus_figure",
    "cross_corpus_leaderboard",
    "cross_corpus_table",
    "diarisation_error",
    "diarisation_table",
    "discrimination",
    "distribution_table",
    "emobox_rank",
    "emobox_table",
    "emotion_intervals",
    "emotion_points",
    "epochs_figure",
    "every_condition",
    "fairness_figure",
    "fairness_tables",
    "figure1",
    "figure1_figure",
    "grade_distributions",
    "hear",
    "intervals_of_frames",
    "joined_clips",
    "judge_models",
    "label_heads_table",
    "leaderboard",
    "leaderboard_corpora",
    "measure",
    "on_ten",
    "open_mapping",
    "predicted_distributions",
    "published_rows",
    "published_table",
    "random_scores",
    "rank_figure",
    "ranked",
    "read_bench",
    "read_groupings",
    "read_ratings",
    "reconciliation",
    "robustness_figure",
    "robustness_table",
    "rules_table",
    "score_conditions",
    "selected",
    "sensitivity_figure",
    "sensitivity_table",
    "shared_classes",
    "sim_to_real_classes_table",
    "sim_to_real_table",
    "sound_properties",
    "table5",
    "table6",
    "table6_figure",
    "table9",
    "table10",
    "train_folds",
    "usual_groupings",
    "weighted_total",
    "write_bench_sample",
]
