"""Projects: they own keys and quotas inside an organisation."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.errors import Conflict, NotFound
from ilaas.core.rights import Action, Caller, Place, may, reach
from ilaas.core.tenancy import Project
from ilaas.ports.tenancy import AuditLine
from ilaas.services.audit_values import project_json
from ilaas.services.checks import check_names
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match
from ilaas.services.governance.views import project_view


class Projects:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest, organisation: str | None = None) -> Page[Project]:
        """Those the caller may see, of one organisation where given; by organisation and name."""
        within = reach(caller, Action.PROJECT_VIEW)
        everyone = (await self._office.store.directory()).projects.values()
        seen = [
            each
            for each in everyone
            if organisation in {None, each.organisation} and within.covers(Place(each.organisation, each.name))
        ]
        return request.of_all(seen, lambda each: (each.organisation, each.name))

    async def get(self, caller: Caller, organisation: str, name: str) -> Project:
        """Raises NotFound, also when the caller may not see it."""
        missing = NotFound(
            f"There is no project '{name[:100]}' of '{organisation[:100]}' that you may see.", param="project"
        )
        self._office.demand_sight(caller, Action.PROJECT_VIEW, Place(organisation, name), missing)
        project = (await self._office.store.directory()).projects.get((organisation, name))
        if project is None:
            raise missing
        return project

    async def create(self, caller: Caller, project: Project) -> Project:
        """Raises NotFound for an organisation the caller may not see, Forbidden, Conflict, InvalidRequest."""
        if not may(caller, Action.PROJECT_CREATE, Place(project.organisation)):
            missing = NotFound(
                f"There is no organisation '{project.organisation[:100]}' that you may see.", param="organisation"
            )
            self._office.demand_sight(caller, Action.ORGANISATION_VIEW, Place(project.organisation), missing)
            self._office.demand(caller, Action.PROJECT_CREATE, Place(project.organisation))
        check_names(organisation=project.organisation, name=project.name)
        _check(project)
        line = self._line(caller, "project.created", project)
        if not await self._office.store.add_project(project, replace(line, after=project_json(project))):
            raise Conflict(f"'{project.organisation}' has a project '{project.name}' already.", param="name")
        return project

    async def change(self, caller: Caller, changed: Project, if_match: str | None) -> Project:
        """Replace the project of that name. Raises NotFound, Forbidden, Stale, PreconditionRequired, InvalidRequest."""
        old = await self.get(caller, changed.organisation, changed.name)
        self._office.demand(caller, Action.PROJECT_CHANGE, Place(old.organisation, old.name))
        check_match(if_match, project_view(old))
        _check(changed)
        if changed != old:
            line = replace(
                self._line(caller, "project.changed", old), before=project_json(old), after=project_json(changed)
            )
            await self._office.store.change_project(old, changed, line)
        return changed

    def _line(self, caller: Caller, action: str, project: Project) -> AuditLine:
        return self._office.line(caller, action, f"project:{project.organisation}/{project.name}", project.organisation)


def _check(project: Project) -> None:
    for model in project.models or ():
        check_names(models=model)
