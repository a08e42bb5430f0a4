"""The static HTML report of a run: leaderboard, charts, run facts and every scored sample."""
