from .bank import QUERY_KEY, HeadBank, layer_keys
from .inputs import Features, InputSpec
from .quantized import CompactBank, ExpertsPrecision, Rounded
from .scaling import Scaling, ScalingMeter
from .stacked import SLICE_WEIGHTS, Multiplication, slice_experts

__all__ = [
    "QUERY_KEY",
    "SLICE_WEIGHTS",
    "CompactBank",
    "ExpertsPrecision",
    "Features",
    "HeadBank",
    "InputSpec",
    "Multiplication",
    "Rounded",
    "Scaling",
    "ScalingMeter",
    "layer_keys",
    "slice_experts",
]
