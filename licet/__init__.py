"""The contract between the jobs that build training data and the trainer that reads it.

Nothing here imports pyspark or torch, nor `jobs` or `lightning_modules`.
"""

__version__ = "0.1.0"
