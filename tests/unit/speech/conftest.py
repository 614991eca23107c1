"""Media that the tests of this folder share."""

from __future__ import annotations

import pytest

from tests.support.media import MediaBox


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> MediaBox:
    return MediaBox(tmp_path_factory.mktemp("media"))
