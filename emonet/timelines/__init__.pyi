from .documents import read_timeline, timeline_from_json, timeline_to_json
from .exports import FORMATS, strongest_of, suffix_of, timeline_table, write_timeline
from .identity import timeline_key
from .journal import Journal, journal_of
from .options import Format, Mode, TimelineOptions
from .scoring import timeline_of
from .smoothing import curves
from .speech import SpeechModel, SpeechSpans
from .timeline import ScoredSegment, Timeline
from .views import VIEW, timeline_figure, view_facts, write_page
from .voices import VoiceModel, cluster_voices

__all__ = [
    "FORMATS",
    "VIEW",
    "Format",
    "Journal",
    "Mode",
    "ScoredSegment",
    "SpeechModel",
    "SpeechSpans",
    "Timeline",
    "TimelineOptions",
    "VoiceModel",
    "cluster_voices",
    "curves",
    "journal_of",
    "read_timeline",
    "strongest_of",
    "suffix_of",
    "timeline_figure",
    "timeline_from_json",
    "timeline_key",
    "timeline_of",
    "timeline_table",
    "timeline_to_json",
    "view_facts",
    "write_page",
    "write_timeline",
]
