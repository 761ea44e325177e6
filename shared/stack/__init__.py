"""The local stack: real Kafka, real PostgreSQL and the three services as supervised processes."""
