"""Private servers of third parties for the demonstration and for tests: a broker, a database and a load balancer.

Each is Debian's own program on a free port of 127.0.0.1, keeps all it writes in one folder, needs neither a service
manager nor any particular user, and ends with the process that started it, however that ends. Their methods block for
seconds: call them through `asyncio.to_thread` from an event loop.
"""

from ilaas.app.local.haproxy import PrivateHAProxy
from ilaas.app.local.postgresql import PrivatePostgres
from ilaas.app.local.rabbitmq import PrivateRabbitMQ

__all__ = ["PrivateHAProxy", "PrivatePostgres", "PrivateRabbitMQ"]
