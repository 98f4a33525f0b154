from .band_captions import bands, said_bands
from .freezing import freeze, parameter_groups
from .model import SIZES, open_captioner, save_captioner, window_of
from .templates import named_emotions, rated_in_words, strongest, write_caption
from .timestamps import add_timestamps
from .token_counts import MOST, count_tokens, special_tokens
from .tokenizer import IGNORED, CaptionTokens, check_lengths, encode, prompt_ids
from .writing import caption_writer, generated

__all__ = [
    "IGNORED",
    "MOST",
    "SIZES",
    "CaptionTokens",
    "add_timestamps",
    "bands",
    "caption_writer",
    "check_lengths",
    "count_tokens",
    "encode",
    "freeze",
    "generated",
    "named_emotions",
    "open_captioner",
    "parameter_groups",
    "prompt_ids",
    "rated_in_words",
    "said_bands",
    "save_captioner",
    "special_tokens",
    "strongest",
    "window_of",
    "write_caption",
]
