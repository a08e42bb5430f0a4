"""Run the command `shardmark` as `python -m shardmark`."""

from shardmark.cli import main

main()
