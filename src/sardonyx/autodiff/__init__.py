"""Reverse-mode differentiation of graphs, and the Gradient operator."""

from sardonyx.autodiff.expand import expand, has_gradients
from sardonyx.autodiff.gradients import gradients

__all__ = ["expand", "gradients", "has_gradients"]
