"""The commands that govern a federation, for `main` to add."""

from __future__ import annotations

from ilaas.cli import audit, organisations, people, projects

TENANCY_APPS = (organisations.app, projects.app, people.app, people.roles_app, audit.app)
