"""The account of a fresh server, for clients that cannot log in."""

from __future__ import annotations

import argon2

from microcosmos.auth.access import Access
from microcosmos.auth.authority import Authority
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.server.first_admin import FirstAdmin
from microcosmos.store import open_store


async def test_it_is_admin_until_somebody_changes_its_password() -> None:
    quick = Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with (
        open_store("memory://") as store,
        Authority(store, TokenKeys(None), passwords=quick) as authority,
    ):
        access = Access()
        authority.listen(access.follow)
        first = FirstAdmin(authority)
        header = await first.header()
        token = access.token(header)
        assert token is not None
        assert token.account.id == "admin"
        assert token.account.administers("micro")
        assert await first.header() == header
        await authority.people.change_secret("micro", "admin", "another one entirely")
        assert await first.header() == ""
