"""The static HTML report of a run: leaderboard, charts, run facts and every scored sample."""

from .build import build_report

__all__ = ["build_report"]
