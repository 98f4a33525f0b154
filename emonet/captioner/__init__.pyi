from .freezing import freeze, parameter_groups
from .model import open_captioner, save_captioner, window_of
from .templates import named_emotions, strongest, write_caption
from .timestamps import add_timestamps
from .token_counts import MOST, count_tokens, special_tokens
from .tokenizer import IGNORED, CaptionTokens, check_lengths, encode, prompt_ids

__all__ = [
    "IGNORED",
    "MOST",
    "CaptionTokens",
    "add_timestamps",
    "check_lengths",
    "count_tokens",
    "encode",
    "freeze",
    "named_emotions",
    "open_captioner",
    "parameter_groups",
    "prompt_ids",
    "save_captioner",
    "special_tokens",
    "strongest",
    "window_of",
    "write_caption",
]
