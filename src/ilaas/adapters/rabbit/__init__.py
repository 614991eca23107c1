"""RabbitMQ between gateways and dispatchers: connections, queues and exchanges. What goes over them is core's."""
