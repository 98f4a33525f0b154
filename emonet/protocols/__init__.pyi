from .tables import Cell, Column, ProtocolTable, Row

__all__ = ["Cell", "Column", "ProtocolTable", "Row"]
