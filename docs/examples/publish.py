"""Publish one purchase from Python: `python docs/examples/publish.py BOOTSTRAP`."""

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer


async def main(bootstrap: str) -> None:
    """Send a purchase of customer 4711 and wait until the broker has it."""
    order = f"order-{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC).isoformat()
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),  # the same id again is the same event: it changes nothing
        "source": "/shops/online-retail",
        "type": "treue.purchase.completed.v1",
        "subject": order,
        "time": now,
        "datacontenttype": "application/json",
        "data": {
            "order_id": order,
            "customer_id": "4711",
            "currency": "GBP",
            "occurred_at": now,
            "lines": [
                {"line_id": "1", "sku": "85123A", "quantity": "6", "unit_price": "102.55"},
            ],
        },
    }
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        # The customer is the key: all of a customer's events stay in one partition, in order.
        await producer.send_and_wait("treue.purchases", json.dumps(event).encode(), key=b"4711")
    finally:
        await producer.stop()
    print(f"{order} published")  # noqa: T201


asyncio.run(main(sys.argv[1]))
