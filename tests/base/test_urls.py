"""URLs as people may see them."""

from __future__ import annotations

import pytest

from microcosmos.base.urls import bare, masked


@pytest.mark.parametrize(
    ("url", "shown", "without"),
    [
        ("memory://", "memory://", "memory://"),
        ("sqlite:///home/ann@work/store.db",) * 3,
        ("nats://127.0.0.1:4222",) * 3,
        ("postgres://ann@db/x", "postgres://ann@db/x", "postgres://db/x"),
        ("postgres://ann:pw@db:5432/x", "postgres://ann:[secret]@db:5432/x", "postgres://db:5432/x"),
        ("postgres://ann:p@w/d@db/x", "postgres://ann:[secret]@db/x", "postgres://db/x"),
        ("postgres://db/x?user=a&password=pw", *["postgres://db/x?user=a&password=[secret]"] * 2),
        ("postgres://db/x?sslPassword=pw&a=1", *["postgres://db/x?sslPassword=[secret]&a=1"] * 2),
        ("nats://token@host", "nats://[secret]@host", "nats://host"),
        ("nats://a:p@h,nats://t@h", "nats://a:[secret]@h,nats://[secret]@h", "nats://h,nats://h"),
        ("nats://a:p,q@host", "nats://a:[secret]@host", "nats://host"),
        ("a:pw@h1:4222,b:pw@h2:4223", "a:[secret]@h1:4222,b:[secret]@h2:4223", "h1:4222,h2:4223"),
    ],
)  # fmt: skip
def test_passwords_and_tokens_are_hidden(url: str, shown: str, without: str) -> None:
    assert masked(url) == shown
    assert bare(url) == without
