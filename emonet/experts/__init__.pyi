from .bank import QUERY_KEY, ExpertBank, layer_keys
from .ensembles import member_ids
from .inputs import POOLED_FORMS, VARIANCE_FLOOR, Features, InputSpec, LayerPick, statistics
from .quantized import ExpertsPrecision, QuantizedBank, Rounded
from .scaling import Scaling, ScalingMeter, standardised_within
from .stacked import SLICE_WEIGHTS, Multiplication, slice_experts

__all__ = [
    "POOLED_FORMS",
    "QUERY_KEY",
    "SLICE_WEIGHTS",
    "VARIANCE_FLOOR",
    "ExpertBank",
    "ExpertsPrecision",
    "Features",
    "InputSpec",
    "LayerPick",
    "Multiplication",
    "QuantizedBank",
    "Rounded",
    "Scaling",
    "ScalingMeter",
    "layer_keys",
    "member_ids",
    "slice_experts",
    "standardised_within",
    "statistics",
]
