from .folders import assemble, assemble_published, experts_of, voice_folder
from .hops import StreamScore
from .mteb_model import MtebEncoder, mteb_encoder
from .onnx_files import (
    ENCODER_FILE,
    EXPERTS_FILE,
    MANIFEST,
    METADATA,
    OnnxDescription,
    OnnxFile,
    OnnxManifest,
)
from .onnx_pipeline import OnnxPipeline, padded
from .pipeline import EmotionPipeline
from .predictions import Prediction, SampleScores, strongest_first
from .streaming import EmotionStream

__all__ = [
    "ENCODER_FILE",
    "EXPERTS_FILE",
    "MANIFEST",
    "METADATA",
    "EmotionPipeline",
    "EmotionStream",
    "MtebEncoder",
    "OnnxDescription",
    "OnnxFile",
    "OnnxManifest",
    "OnnxPipeline",
    "Prediction",
    "SampleScores",
    "StreamScore",
    "assemble",
    "assemble_published",
    "experts_of",
    "mteb_encoder",
    "padded",
    "strongest_first",
    "voice_folder",
]
