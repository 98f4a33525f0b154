from .export import OnnxExport, compare, export_onnx, nothing_but_onnx, require_onnx

__all__ = ["OnnxExport", "compare", "export_onnx", "nothing_but_onnx", "require_onnx"]
