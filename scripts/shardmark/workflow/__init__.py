"""All that knows Snakemake: what the Snakefile and its rules call, and what of Snakemake is replaced."""
