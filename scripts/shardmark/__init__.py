"""Shardmark: reproducible benchmarks of language models, as a Snakemake workflow.

Data flows one way, and a module imports only from those before it:
config -> tasks -> plan -> engine -> metrics -> report (docs/architecture.md).
"""

__version__ = "0.2.0"
