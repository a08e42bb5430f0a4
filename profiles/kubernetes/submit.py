#!/usr/bin/env python
"""Submit a job script of Snakemake to Kubernetes, and print the job's id."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from shardmark.command import run_command
from shardmark.tools.kubernetes import submit

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=Path, help="the job script, which Snakemake writes")
    settings = Path(__file__).with_name("kubernetes.yaml")
    parser.add_argument("--settings", type=Path, default=settings, help="image, volume and so on")
    run_command(parser, lambda arguments: print(submit(arguments.script, arguments.settings)))
