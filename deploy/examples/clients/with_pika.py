"""Kicks off a crew by plain AMQP: pip install pika; AMQP_URL says where RabbitMQ is. Prints the reply."""

import json
import os
import sys
import uuid

import pika

INPUTS = {"BUSINESS_DETAILS": "a bakery in Lisbon", "PRODUCT_DESCRIPTION": "a sourdough subscription"}

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()

# The queue first: the reply may be faster than the confirm.
me = str(uuid.uuid4())
queue, key = f"kickoff.clients.{me}", f"client.{me}"
channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-expires": 3_600_000})
channel.queue_bind(queue, "kickoff.replies", routing_key=key)

kickoff_id = str(uuid.uuid4())
properties = pika.BasicProperties(correlation_id=kickoff_id, reply_to=key, delivery_mode=2)
# Mandatory: a crew that no worker ever served comes back at once, as an exception.
channel.basic_publish("kickoff.requests", sys.argv[1], json.dumps({"inputs": INPUTS}), properties, mandatory=True)

for method, _, body in channel.consume(queue, inactivity_timeout=300):
    if method is None or body is None:
        sys.exit(f"no reply within 300 s; it can be read later: crewfleet wait {kickoff_id}")
    channel.basic_ack(method.delivery_tag)
    print(body.decode())
    break
channel.queue_delete(queue)
connection.close()
