"""Counts the words of a text: the body of a POST, or ?text= of a GET.

It runs in Monty, a sandbox for Python: no files, no sockets, no packages to install, but json, re,
math, datetime and their like are there.
"""

import re
from typing import Any

runs = 0


def handler(request: Any, env: Any) -> Any:
    """Answer with the number of words and the most frequent ones."""
    global runs
    runs += 1
    text = request.query.get("text", "") or request.text()
    words = re.findall(r"[a-z']+", text.lower())
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    most = int(env.get("TOP", "3"))
    print(f"{len(words)} words, run {runs} of this sandbox")
    return {"words": len(words), "different": len(counts), "top": dict(top[:most])}
