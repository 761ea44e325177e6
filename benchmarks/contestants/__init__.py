"""The contestants: ours, a naive Faust agent, the bare floor, and Kafka Streams."""
