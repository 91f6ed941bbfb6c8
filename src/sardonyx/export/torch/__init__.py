"""The exporter of PyTorch: torch.export's graph, translated operator by operator."""

from __future__ import annotations

from sardonyx.export.torch import activation as activation
from sardonyx.export.torch import aliases as aliases
from sardonyx.export.torch import arithmetic as arithmetic
from sardonyx.export.torch import attention as attention
from sardonyx.export.torch import complex_functions as complex_functions
from sardonyx.export.torch import complex_movement as complex_movement
from sardonyx.export.torch import control as control
from sardonyx.export.torch import convolution as convolution
from sardonyx.export.torch import creation as creation
from sardonyx.export.torch import embedding as embedding
from sardonyx.export.torch import fourier as fourier
from sardonyx.export.torch import indexing as indexing
from sardonyx.export.torch import jacobi as jacobi
from sardonyx.export.torch import linalg as linalg
from sardonyx.export.torch import losses as losses
from sardonyx.export.torch import movement as movement
from sardonyx.export.torch import normalization as normalization
from sardonyx.export.torch import numbers as numbers
from sardonyx.export.torch import padding as padding
from sardonyx.export.torch import pooling as pooling
from sardonyx.export.torch import quantized as quantized
from sardonyx.export.torch import random as random
from sardonyx.export.torch import ranking as ranking
from sardonyx.export.torch import recurrence as recurrence
from sardonyx.export.torch import recurrent as recurrent
from sardonyx.export.torch import reduction as reduction
from sardonyx.export.torch import resize as resize
from sardonyx.export.torch import scatter as scatter
from sardonyx.export.torch import segments as segments
from sardonyx.export.torch import similarity as similarity
from sardonyx.export.torch import sorting as sorting
from sardonyx.export.torch import special as special
from sardonyx.export.torch import vision as vision
from sardonyx.export.torch.exporting import export_model
from sardonyx.export.torch.registry import TRANSLATIONS, TorchBuilder, translation

__all__ = ["TRANSLATIONS", "TorchBuilder", "export_model", "translation"]
