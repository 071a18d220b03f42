"""The document as a page: one file, without scripts, that needs nothing else."""

from __future__ import annotations

import json
import re
from html import escape
from importlib import resources
from typing import Any

from .trees import Trees

Schema = dict[str, Any]

_ACTIONS = {"send": "publishes", "receive": "reads"}
_KINDS = {"events": "Events", "broker": "Broker"}


def style() -> str:
    """The style of the page."""
    return (resources.files(__package__) / "page.css").read_text("utf-8")


def write(document: Schema, *, link: str = "") -> str:
    """The page of a document.

    Args:
        document: made by `document.document`.
        link: where the document is; none is shown if there is no such place.
    """
    return _Page(document).write(link)


SCRIPT = """
const form = document.querySelector("form");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = form.querySelector("input").value.trim();
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(location.pathname, { headers });
  const text = await answer.text();
  if (answer.ok) {
    document.open();
    document.write(text);
    document.close();
  } else {
    const json = (answer.headers.get("content-type") || "").includes("json");
    form.querySelector("output").value = json ? JSON.parse(text).Detail : answer.statusText;
  }
});
"""
"""The script of the page that asks for a token; the document's own page has none."""


def refused(text: str) -> str:
    """The page of somebody who may not see the document: it asks for a token.

    Args:
        text: why.
    """
    body = (
        f'<main><h2>AsyncAPI</h2><p class="text">{_prose(text)}</p>'
        "<form><label>Token, as <code>micro user token</code> prints it "
        '<input type="password" autocomplete="off" spellcheck="false" autofocus></label> '
        "<button>Show</button><p><output></output></p></form></main>"
        f"<script>{SCRIPT}</script>"
    )
    return _html("AsyncAPI", body)


class _Page:
    def __init__(self, document: Schema) -> None:
        self._document = document
        self._trees = Trees(document["components"]["schemas"])
        self._ends: dict[str, list[Schema]] = {}
        for operation in document["operations"].values():
            channel = operation["channel"]["$ref"].rpartition("/")[2]
            self._ends.setdefault(channel, []).append(operation)

    def write(self, link: str) -> str:
        info = self._document["info"]
        place = f'<a href="{escape(link)}">{escape(link.rpartition("/")[2])}</a>' if link else ""
        head = (
            f"<header><h1>{escape(info['title'])} <span class=soft>AsyncAPI</span></h1>"
            f'<span class="soft">Microcosmos {escape(info["version"])}</span>{place}</header>'
        )
        main = "".join([self._about(), *map(self._channel, self._document["channels"])])
        body = f'{head}<div class="layout">{self._nav()}<main>{main}{self._services()}</main></div>'
        return _html(f"{info['title']}: AsyncAPI", body)

    def _about(self) -> str:
        text = f'<p class="text">{_prose(self._document["info"]["description"])}</p>'
        for server in self._document.get("servers", {}).values():
            host = escape(f"{server['protocol']}://{server['host']}")
            about = _prose(server["description"])
            text += f'<p class="text"><code>{host}</code> <span class="soft">{about}</span></p>'
        if not self._document["channels"]:
            text += '<p class="text">No topic has a schema, and no service tells of one yet.</p>'
        return text

    def _nav(self) -> str:
        by_kind: dict[str, list[str]] = {}
        for key, channel in self._document["channels"].items():
            item = f'<li><a href="#{_anchor(key)}">{escape(channel["title"])}</a></li>'
            by_kind.setdefault(channel["tags"][0]["name"], []).append(item)
        parts = [
            f"<section><h2>{title}</h2><ul>{''.join(by_kind[kind])}</ul></section>"
            for kind, title in _KINDS.items()
            if kind in by_kind
        ]
        return f"<nav>{''.join(parts)}</nav>"

    def _channel(self, key: str) -> str:
        channel = self._document["channels"][key]
        kind = channel["tags"][0]["name"]
        return (
            f'<section class="channel" id="{_anchor(key)}"><h2>{escape(channel["title"])}</h2>'
            f'<p><span class="badge">{escape(kind)}</span> '
            f'<span class="soft">{_prose(channel["description"])}</span></p>'
            f"{self._both_ends(key)}{self._messages(channel)}</section>"
        )

    def _both_ends(self, key: str) -> str:
        rows = [_row(operation) for operation in self._ends.get(key, ())]
        if not rows:
            return '<p class="soft">No service tells that it publishes or reads this.</p>'
        head = "<tr><th>Service</th><th></th><th>Group</th><th></th></tr>"
        return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'

    def _messages(self, channel: Schema) -> str:
        messages = self._document["components"]["messages"]
        found = [self._message(messages[key]) for key in channel.get("messages", ())]
        return "".join(found) or '<p class="soft">It has no schema: payloads may be anything.</p>'

    def _message(self, message: Schema) -> str:
        badges = []
        if "x-schema-id" in message:
            version, id = message["x-schema-version"], message["x-schema-id"]
            badges.append(f"version {version}, schema {id}")
        if "x-compatibility" in message:
            badges.append(str(message["x-compatibility"]).replace("_", " ").lower())
        shown = "".join(f'<span class="badge">{escape(one)}</span>' for one in badges)
        about = message.get("description")
        text = f'<p class="text">{_prose(about)}</p>' if about else ""
        example = ""
        if examples := message.get("examples"):
            written = json.dumps(examples[0]["payload"], indent=2, ensure_ascii=False)
            example = _folded("Example", f"<pre>{escape(written)}</pre>")
        return (
            f"<h3>{escape(message['name'])} {shown}</h3>{text}"
            f"{self._trees.draw(message['payload'])}{example}"
            f"{_folded('Headers', self._trees.draw(message['headers']))}"
        )

    def _services(self) -> str:
        """What each service does, in a line for each topic."""
        by_service: dict[str, list[str]] = {}
        for channel, operations in self._ends.items():
            title = self._document["channels"][channel]["title"]
            for one in operations:
                place = f'<a href="#{_anchor(channel)}">{escape(title)}</a>'
                line = f"<li>{_ACTIONS[one['action']]} {place}</li>"
                by_service.setdefault(one["x-service"], []).append(line)
        if not by_service:
            return ""
        rows = [
            f"<tr><td><code>{escape(service)}</code></td><td><ul>{''.join(lines)}</ul></td></tr>"
            for service, lines in sorted(by_service.items())
        ]
        return f'<section class="channel"><h2>Services</h2><table>{"".join(rows)}</table></section>'


def _row(operation: Schema) -> str:
    group = operation.get("bindings", {}).get("nats", {}).get("queue", "")
    notes = ["in order of keys"] if operation.get("x-ordered") else []
    if pattern := operation.get("x-pattern"):
        notes.append(f"by <code>{escape(pattern)}</code>")
    cells = [
        f"<code>{escape(operation['x-service'])}</code>",
        _ACTIONS[operation["action"]],
        f"<code>{escape(group)}</code>" if group else "",
        ", ".join(notes),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _folded(title: str, body: str) -> str:
    return f'<details class="more"><summary>{title}</summary>{body}</details>'


def _prose(text: str) -> str:
    """A text as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(key: str) -> str:
    return escape(f"topic-{key}", quote=True)


def _html(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style()}</style>\n{body}\n</html>\n"
    )
