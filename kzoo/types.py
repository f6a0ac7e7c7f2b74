"""Names for what type hints cannot say more exactly."""

from typing import Any, TypeAlias

# A NumPy array, a tensor of whichever backend Keras has, or a symbolic one while a graph is built: no class covers all.
Tensor: TypeAlias = Any
