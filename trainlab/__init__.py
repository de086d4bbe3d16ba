"""trainlab: which recipe, and why? Composed recipes, trained, compared with honest statistics.

Read in this order: `cli`, `run`, `fit`, `stack`, `store`, `table`; everything else is the
catalogue.
"""

__version__ = "0.1.0"
