"""Key, headers and proxies for an endpoint: the plan's checks and the jobs must use the same."""

import json
import os
import re
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from shardmark.config.backends.openai import REFERENCE, OpenaiConfig
from shardmark.config.secrets import texts_in
from shardmark.errors import Problem, UserError

SECRET_LENGTH = 6
"The fewest characters of a value that is hidden wherever it appears; hiding shorter ones would hide words."
HIDDEN = "***"
PLACEHOLDER = re.compile(r"(?!sk-)(?=.{0,11}$)[A-Za-z]+([-_ ][A-Za-z]+)*")
"Placeholders for servers that want any key, such as ollama or not-needed: hiding them would change answers."


ESCAPE = re.compile(rb"\\(/|u00)")
"Escapes of characters that keys may have, in JSON."


def _escaped(character: str) -> bytes:
    """A pattern for an ASCII character in a text of JSON, in all ways to write it."""
    plain = re.escape(character.encode())
    return rb"(?:\\?%b|\\u00(?i:%02x))" % (plain, ord(character))


class Secrets(NamedTuple):
    """Secrets, which are written nowhere."""

    key: str
    headers: dict[str, str]
    fields: dict[str, Any]
    "`extra_body`, with the variables' values."
    values: tuple[str, ...]
    "All values to hide."

    def hidden(self, text: str) -> str:
        """The text without secrets."""
        for value in self.values:
            if value in text:
                text = text.replace(value, HIDDEN)
        return text

    def hidden_in(self, content: bytes) -> bytes:
        """A JSON body without secrets, so that no part cut out of it later can have a part of one."""
        for value in self.values:
            for form in {value, json.dumps(value)[1:-1]}:
                if form.encode() in content:
                    content = content.replace(form.encode(), HIDDEN.encode())
            if ESCAPE.search(content):  # JSON may write any character otherwise
                content = re.sub(b"".join(map(_escaped, value)), HIDDEN.encode(), content)
        return content

    def address(self, location: str) -> str:
        """Where a redirect leads, without secrets and without its query, which may encode them in other ways."""
        return self.hidden(unquote(location.partition("?")[0]))


def read_secrets(settings: OpenaiConfig, where: str) -> Secrets:
    """A model's key, headers and fields, from the environment. Raises UserError listing all that are missing."""
    problems: list[Problem] = []

    def value(name: str, key: str) -> str:
        found = os.environ.get(name, "")
        if not found:
            problems.append(Problem(where, key, f"the environment variable {name} is not set", f"set {name}"))
        elif not found.isascii() or not found.isprintable() or found != found.strip():
            what = f"{name} has blanks at an end, line breaks or other characters that no header may have"
            problems.append(Problem(where, key, what, f"set {name} again, without them"))
        return found

    key = value(settings.api_key_env, "api_key_env") if settings.api_key_env else ""
    headers, values = {}, [key]
    for path, _, text in texts_in(settings.extra_body):
        if found := REFERENCE.fullmatch(text):
            values.append(value(found[1], f"extra_body.{path}"))
    for place, name, text in settings.all_headers:
        for variable in REFERENCE.findall(text):
            values.append(value(variable, place))
        headers[name] = REFERENCE.sub(lambda match: os.environ.get(match[1], ""), text)
    if problems:
        raise UserError(dict.fromkeys(problems))
    long = {value for value in values if len(value) >= SECRET_LENGTH and not PLACEHOLDER.fullmatch(value)}
    return Secrets(key, headers, _filled(settings.extra_body), tuple(sorted(long, key=len, reverse=True)))


def _filled(value: Any) -> Any:
    """A value of `extra_body` with the values of the variables in it."""
    if isinstance(value, dict):
        return {key: _filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner) for inner in value]
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return os.environ.get(found[1], "") if found else value


def client_options(settings: OpenaiConfig, secrets: Secrets) -> dict[str, Any]:
    """Arguments for a client of the package openai, synchronous or not. What the environment adds is not for all."""
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    added = [name for name in (line.partition(":")[0].strip() for line in lines) if name.lower() != "authorization"]
    headers = {name: Omit() for name in (*added, "OpenAI-Organization", "OpenAI-Project")} | secrets.headers
    if secrets.key:
        headers["Authorization"] = f"Bearer {secrets.key}"  # one in the variable would replace what api_key sets
    parts = urlsplit(settings.base_url)
    return {
        "api_key": secrets.key or "none",
        "admin_api_key": "",
        "base_url": parts._replace(query="").geturl(),
        "default_query": dict(parse_qsl(parts.query, keep_blank_values=True)),
        "max_retries": 0,
        "default_headers": headers,
    }


def request_headers(secrets: Secrets) -> dict[str, Any]:
    """Headers that each request leaves out: the key, if none is set."""
    from openai import Omit

    given = secrets.key or "authorization" in map(str.lower, secrets.headers)
    return {} if given else {"Authorization": Omit()}


def trusts_proxies(settings: OpenaiConfig) -> bool:
    """Whether the environment's proxies are used: none of them can reach this machine itself."""
    host = urlsplit(settings.base_url).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
