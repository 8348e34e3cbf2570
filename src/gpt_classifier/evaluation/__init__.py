"""Predictions with known labels: metrics with intervals, calibration, comparison, and a page about them."""
