"""`jtc.data`: batches of tensors from arrays, datasets and streams."""
from jtc.frontend.data.collate import collate
from jtc.frontend.data.loader import DataLoader

__all__ = ["DataLoader", "collate"]
