"""Recordings of any length as blocks."""
