"""examples/settings: a service that follows its settings."""

from __future__ import annotations

import pytest

from microcosmos import Service

from ..e2e.live import Live, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(Service, "config"), reason="Service.config is being built"),
]


def test_it_sees_its_settings_change(live: Live) -> None:
    live.micro("run", "settings", "--name", "key")
    try:
        assert live.call("key", "read") == {"subkey": "nothing yet", "subkey1": -1, "changes": 0}
        live.micro("config", "set", "key.subkey", "hello")
        live.micro("config", "set", "--secret", "key.subkey1", "42")
        until(lambda: live.call("key", "read")["subkey1"] == 42)
        assert live.call("key", "read") == {"subkey": "hello", "subkey1": 42, "changes": 2}
        until(lambda: "Value of key.subkey:  hello" in live.micro("logs", "key").out)
        # Its own writes are read at once; what was a secret stays one.
        assert live.call("key", "write", "--subkey=val1", "--subkey1=2") == {
            "subkey": "val1",
            "subkey1": 2,
        }
        assert live.micro("config", "get", "key").out == '{"subkey":"val1","subkey1":"[secret]"}\n'
        assert live.micro("config", "history", "key", "--output", "json").json[0]["account"] == (
            "key"
        )
        # While the core is away the last known values stand; then it follows again.
        pid = live.kill_child("core")
        live.back("core", pid)
        until(lambda: live.type("config", "set", "key.subkey", "again").code == 0)
        # The new core has to hear of the service again, too.
        until(lambda: '"again"' in live.type("key", "read").out)
    finally:
        live.type("kill", "key")
        live.type("config", "del", "key")
