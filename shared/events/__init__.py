"""The stream runner: batches of Kafka records in, one transaction each, events out through an outbox."""
