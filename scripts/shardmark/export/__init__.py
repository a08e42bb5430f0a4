"""Export a finished report to other programs' formats, and publish it elsewhere."""
