"""The work of a run: identities, shards, costs, and the files that pass between the steps."""
