"""Where the commands of an installed Shardmark find its library, whichever Python runs them.

pip puts this file beside them, as `scripts/shardmark/__init__.py`. Workers of vLLM and clients of fork servers do not
look where pip has put the library.
"""

from pathlib import Path

_LIBRARY = Path(__file__).resolve().parents[3]
__path__ = [str(_LIBRARY)]
exec(compile((_LIBRARY / "__init__.py").read_bytes(), str(_LIBRARY / "__init__.py"), "exec"))
