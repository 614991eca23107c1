"""Which part of the platform a process runs."""

from __future__ import annotations

from ilaas.app.dispatcher_process import serve_dispatcher
from ilaas.app.process import Run
from ilaas.app.runtime import serve
from ilaas.app.settings import Role, Settings
from ilaas.app.speech_worker import serve_worker
from ilaas.core.errors import ConfigError


async def serve_part(settings: Settings, run: Run) -> None:
    """Run the part that `settings.role` names until it is told to stop. Raises ConfigError when it can't start."""
    if settings.role is Role.DISPATCHER:
        await serve_dispatcher(settings, run)
    elif settings.role is Role.WORKER:
        await serve_worker(settings, run)
    elif settings.role is Role.GATEWAY and settings.broker_url is None:
        raise ConfigError("a gateway alone needs RabbitMQ: set 'broker: amqp://…' in the configuration file")
    else:
        await serve(settings, run)
