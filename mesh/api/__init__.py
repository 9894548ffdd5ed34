"""Istio's API kinds as typed models."""
