from .bench.answers import Answers
from .bench.figures import against_figure, figure1_figure, table6_figure
from .bench.findings import against_agreement, against_arousal, agreement_of, arousal_of, discrimination, emotion_points
from .bench.format import BENCH, Bench, read_bench
from .bench.published import PublishedName, published_table, reconciliation
from .bench.raters import figure1, table9, table10
from .bench.sample import BenchSample, write_bench_sample
from .bench.tables import Judged, judge_models, table5, table6
from .consensus import RULES, Consensus, Rule, agree, consensus_table
from .ratings import Ratings, on_ten, read_ratings
from .tables import Cell, Column, ProtocolTable, Row

__all__ = [
    "BENCH",
    "RULES",
    "Answers",
    "Bench",
    "BenchSample",
    "Cell",
    "Column",
    "Consensus",
    "Judged",
    "ProtocolTable",
    "PublishedName",
    "Ratings",
    "Row",
    "Rule",
    "against_agreement",
    "against_arousal",
    "against_figure",
    "agree",
    "agreement_of",
    "arousal_of",
    "consensus_table",
    "discrimination",
    "emotion_points",
    "figure1",
    "figure1_figure",
    "judge_models",
    "on_ten",
    "published_table",
    "read_bench",
    "read_ratings",
    "reconciliation",
    "table5",
    "table6",
    "table6_figure",
    "table9",
    "table10",
    "write_bench_sample",
]
