"""The Snakemake side: functions that the Snakefile and its rules call, and replacements for parts of Snakemake."""
