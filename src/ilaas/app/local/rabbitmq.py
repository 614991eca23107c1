"""A private RabbitMQ of one node."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from ilaas.app.local.child import Child, Program, free_ports, inherited, listens, missing, private_folder
from ilaas.core.errors import ConfigError

# The command on the PATH changes to the user `rabbitmq` and to a folder of that user's.
_BIN = Path("/usr/lib/rabbitmq/bin")
_START_S = 60.0
_END_S = 15.0
_COMMAND_S = 60.0
_PASSWORD_BYTES = 16
_STARTED = b"Server startup complete"

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
default_user = ilaas
default_pass = {password}
loopback_users.guest = true
log.console = false
log.file = {folder}/log/rabbit.log
log.file.level = info
# A ticket stays unacknowledged as long as it waits: half an hour, the usual limit, is not enough.
consumer_timeout = 86400000
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""
_MANAGEMENT = """\
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
"""


class PrivateRabbitMQ:
    """One broker whose state is all in `folder`; started again, it has the same ports, user and durable queues."""

    def __init__(self, folder: Path, *, management: bool = False) -> None:
        """With `management`, its HTTP API and its metrics listen as well."""
        self._folder = private_folder(folder)
        self._management = management
        self._epmd: Child | None = None
        self._server: Child | None = None
        self._amqp, self._dist, self._epmd_port, self._management_port, self._prometheus = free_ports(5)
        self._password = self._kept_password()

    @property
    def url(self) -> str:
        """AMQP URL with user and password."""
        return f"amqp://ilaas:{self._password}@127.0.0.1:{self._amqp}/"

    @property
    def port(self) -> int:
        """Where AMQP is spoken."""
        return self._amqp

    @property
    def management_url(self) -> str:
        """Of the HTTP API, with user and password. Raises ConfigError when it was not asked for."""
        if not self._management:
            raise ConfigError("this RabbitMQ was started without its management plugin")
        return f"http://ilaas:{self._password}@127.0.0.1:{self._management_port}"

    @property
    def metrics_url(self) -> str:
        """Of its Prometheus metrics."""
        return f"http://127.0.0.1:{self._prometheus}/metrics"

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._server is not None and self._server.running

    @property
    def pid(self) -> int | None:
        """Of the broker's process; None when it does not run."""
        return self._server.pid if self._server is not None else None

    def start(self) -> str:
        """Start and wait until clients can connect; returns the AMQP URL. Raises ConfigError."""
        server, epmd = _BIN / "rabbitmq-server", shutil.which("epmd", path=inherited()["PATH"])
        if not server.exists() or epmd is None:
            raise missing("RabbitMQ", "rabbitmq-server")
        self._write()
        # Its own port mapper, in the foreground: the one that Erlang would start is a daemon that stays.
        if self._epmd is None or not self._epmd.running:
            self._epmd = self._run("epmd", epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1")
            self._epmd.wait_until(lambda: listens(self._epmd_port), _START_S)
        told = self._log.stat().st_size if self._log.exists() else 0
        self._server = self._run("RabbitMQ", str(server))
        self._server.wait_until(lambda: listens(self._amqp) and self._has_started(told), _START_S)
        return self.url

    def stop(self) -> None:
        """Stop in good order, its port mapper too. Harmless when it does not run."""
        self._end(signal.SIGTERM)
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.end(signal.SIGTERM, _END_S)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start again, with the same URL."""
        self._end(signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        if self._server is not None:
            self._server.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: go on after `pause`."""
        if self._server is not None:
            self._server.send(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`, which takes seconds; returns what it prints. Raises ConfigError when it fails."""
        done = subprocess.run(  # noqa: S603 - RabbitMQ's own program
            [str(_BIN / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S,
        )
        if done.returncode:
            raise ConfigError(f"rabbitmqctl {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @property
    def _log(self) -> Path:
        return self._folder / "log" / "rabbit.log"

    def _has_started(self, told: int) -> bool:
        """Whether it says so after the first `told` bytes of its log: it listens a moment earlier."""
        with self._log.open("rb") as log:
            log.seek(told)
            return _STARTED in log.read()

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.end(number, _END_S)

    def _run(self, name: str, *command: str) -> Child:
        return Child(
            Program(
                name=name,
                command=command,
                env=self._environment(),
                cwd=self._folder,
                log=self._folder / "log" / f"{Path(command[0]).name}.txt",
            )
        )

    def _kept_password(self) -> str:
        """The user is made at the first start only, so the password must stay the same."""
        kept = self._folder / "password"
        if not kept.exists():
            kept.touch(mode=0o600)
            kept.write_text(secrets.token_hex(_PASSWORD_BYTES))
        return kept.read_text()

    def _write(self) -> None:
        (self._folder / "log").mkdir(exist_ok=True)
        plugins = "rabbitmq_management,rabbitmq_prometheus" if self._management else ""
        (self._folder / "plugins").write_text(f"[{plugins}].\n")
        text = _CONFIGURATION.format(amqp=self._amqp, password=self._password, folder=self._folder)
        if self._management:
            text += _MANAGEMENT.format(management=self._management_port, prometheus=self._prometheus)
        configuration = self._folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(text)

    def _environment(self) -> dict[str, str]:
        return inherited(
            HOME=str(self._folder),  # where Erlang keeps the cookie
            RABBITMQ_NODENAME="ilaas@localhost",  # unique by the port mapper, and kept: the state's folder has its name
            RABBITMQ_MNESIA_BASE=str(self._folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self._folder / "log"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self._folder / "plugins"),
            RABBITMQ_CONFIG_FILE=str(self._folder / "rabbitmq.conf"),
            RABBITMQ_ADVANCED_CONFIG_FILE=str(self._folder / "advanced.config"),
            RABBITMQ_CONF_ENV_FILE=str(self._folder / "rabbitmq-env.conf"),  # not the one in /etc
            RABBITMQ_PID_FILE=str(self._folder / "pid"),
            RABBITMQ_DIST_PORT=str(self._dist),
            # Two settings that make the script become the server, in the place of waiting for it as its parent.
            RABBITMQ_ALLOW_INPUT="1",
            RABBITMQ_SERVER_START_ARGS="-noinput",
            # Other nodes never connect; and threads that wait shall sleep, not spin.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            ERL_EPMD_PORT=str(self._epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
        )
