"""One SQLite file, several stores in one process, and other processes that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql import SqlStore
from ilaas.core.tenancy import Organisation
from ilaas.ports.tenancy import AuditLine

WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE organisations SET weight = weight + 1")
connection.commit()
connection.close()
"""


async def test_what_another_process_writes_is_seen_by_all_stores_of_this_one(tmp_path: Path) -> None:
    """A second store that opens must not take the first one's locks away: the other process would drop the log."""
    path = tmp_path / "ilaas.db"
    url, secret = f"sqlite+aiosqlite:///{path}", Secret("s" * 40)
    first, second = SqlStore(url, secret), SqlStore(url, secret)
    await first.open()
    line = AuditLine(at_s=0.0, actor="test", action="organisation.created", subject="organisation:uni-a")
    await first.add_organisation(Organisation(name="uni-a", weight=1.0), line)
    await second.open()
    try:
        for times in (1, 2):
            subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True, timeout=30)
            for store in (first, second):
                async with store._database.read() as connection:
                    weight = (await connection.execute(text("SELECT weight FROM organisations"))).scalar_one()
                assert weight == 1.0 + times
        assert path.with_name("ilaas.db-wal").exists()
    finally:
        await first.close()
        await second.close()
