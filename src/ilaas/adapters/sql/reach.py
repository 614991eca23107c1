"""`core.rights.Reach`, in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_, tuple_

from ilaas.core.rights import Reach


def within(reach: Reach, organisation: ColumnElement[Any], project: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the row's place is one of those named; not for a reach that is everywhere."""
    return or_(organisation.in_(reach.organisations), tuple_(organisation, project).in_(list(reach.projects)))
