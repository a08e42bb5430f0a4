"""The location of Shardmark itself: its workflow, its commands, and the models and data sets that it ships.

In a clone, the folders lie side by side; pip puts the library where Python looks for it, and everything else into a
folder of it. This module imports nothing that Python has not imported anyway, since the client of each job uses it
(processes/forked.py).
"""

import os

LIBRARY = os.path.dirname(os.path.abspath(__file__))
_PACKED = os.path.join(LIBRARY, "_workflow")
PACKED = os.path.isdir(_PACKED)
"Whether pip has installed it."
INSTALLATION = _PACKED if PACKED else os.path.dirname(os.path.dirname(LIBRARY))
"The folder with Snakefile, rules/, scripts/, config/, envs/, profiles/ and demo/."
SCRIPTS = os.path.join(_PACKED, "scripts") if PACKED else os.path.dirname(LIBRARY)
"The folder of the commands."
