"""Whether the Hub may be contacted, in this process and in those that inherit its environment."""

import os
import sys
from collections.abc import Mapping
from typing import Any

SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE")
"The environment variables that keep Hugging Face's libraries from attempting connections."
HUB = "https://huggingface.co"
PATIENCE = 3.0
"Seconds after which a silent Hub counts as unreachable."
FOUND = "SHARDMARK_HUB_IS_REACHED"
"The environment variable by which a process passes its finding to those that it starts: yes or no."
REFUSED = {407, 502, 503, 504}
"Statuses of a proxy that cannot or may not reach the Hub."


def use_offline(config: Mapping[str, Any], is_main: bool = True) -> None:
    """Apply a run's `offline`. If it is `auto`, only the planning process finds out.

    Invalid values are reported when the configuration is validated.
    """
    wanted = str(config.get("offline", "false")).lower()
    if wanted == "auto" and not is_offline():
        if FOUND not in os.environ and is_main:
            os.environ[FOUND] = "yes" if hub_answers() else "no"
            if os.environ[FOUND] == "no":
                place = endpoint().rpartition("@")[2]
                print(f"offline: {place} does not answer, so everything must be on this machine", file=sys.stderr)
        wanted = "true" if os.environ.get(FOUND) == "no" else "false"
    if wanted == "true":
        os.environ.update(dict.fromkeys(SWITCHES, "1"))
        for module in ("huggingface_hub.constants", "datasets.config"):  # read the environment when imported
            if module in sys.modules:
                sys.modules[module].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def is_offline() -> bool:
    """Whether the Hub may not be contacted, as its client reads the environment."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in SWITCHES[:3])


def endpoint() -> str:
    """The address of the Hub, or of the mirror in its place."""
    return os.environ.get("HF_ENDPOINT") or HUB


def hub_answers(patience: float = PATIENCE) -> bool:
    """Whether the Hub answers within this many seconds, through a proxy if one is set."""
    import threading

    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(_answers(patience)), daemon=True)
    asking.start()
    asking.join(patience)  # looking up a name has no time limit of its own
    return bool(answers and answers[0])


def _answers(patience: float) -> bool:
    import ssl  # these take as long as the rest of a thin command, and few runs ask
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(endpoint(), method="HEAD")  # http and https are what is set
        with urllib.request.urlopen(request, timeout=patience):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in REFUSED
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # somebody answers: the error shows when the Hub is really asked
    except (OSError, ValueError):
        return False
