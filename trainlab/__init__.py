"""trainlab: which recipe, and why? Composed recipes, trained, compared with honest statistics.

Read in this order: `cli`, `run`, `fit`, `stack`, `store`, `tables`; everything else is the
catalogue.

    import trainlab
    df = trainlab.table("outputs/first_steps")  # a pandas DataFrame, one row per run
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["table"]


def __getattr__(name: str) -> Any:
    """`trainlab.table`, imported when it is asked for: `import trainlab` stays light."""
    if name != "table":
        raise AttributeError(f"module 'trainlab' has no attribute {name!r}")
    from trainlab.tables.runs import table

    return table
