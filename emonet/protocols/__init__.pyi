from .emobox_cross import CrossRun, balanced, common_class, cross_corpus, cross_corpus_table, shared_classes
from .emobox_figures import cross_corpus_figure, epochs_figure, rank_figure
from .emobox_leaderboard import corpora_table, cross_corpus_leaderboard, leaderboard, leaderboard_corpora, ranked
from .emobox_tables import emobox_rank, emobox_table, selected
from .emobox_training import SETTINGS, EmoBoxConfig, HeardStates, TrainedFold, train_folds
from .tables import Cell, Column, ProtocolTable, Row

__all__ = [
    "SETTINGS",
    "Cell",
    "Column",
    "CrossRun",
    "EmoBoxConfig",
    "HeardStates",
    "ProtocolTable",
    "Row",
    "TrainedFold",
    "balanced",
    "common_class",
    "corpora_table",
    "cross_corpus",
    "cross_corpus_figure",
    "cross_corpus_leaderboard",
    "cross_corpus_table",
    "emobox_rank",
    "emobox_table",
    "epochs_figure",
    "leaderboard",
    "leaderboard_corpora",
    "rank_figure",
    "ranked",
    "selected",
    "shared_classes",
    "train_folds",
]
