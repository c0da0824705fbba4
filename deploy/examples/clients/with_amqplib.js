// Kicks off a crew by plain AMQP: npm install amqplib; AMQP_URL says where RabbitMQ is. Prints the reply.
const { randomUUID } = require("crypto");
const amqp = require("amqplib");

const inputs = { BUSINESS_DETAILS: "a bakery in Lisbon", PRODUCT_DESCRIPTION: "a sourdough subscription" };

async function main(crew) {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();

  // The queue first: the reply may be faster than the confirm.
  const me = randomUUID();
  const [queue, key] = [`kickoff.clients.${me}`, `client.${me}`];
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum", "x-expires": 3600000 } });
  await channel.bindQueue(queue, "kickoff.replies", key);

  const kickoffId = randomUUID();
  const replied = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no reply within 300 s: crewfleet wait ${kickoffId}`)), 300000).unref();
    channel.on("return", () => reject(new Error(`no worker ever served the crew ${crew}`)));
    channel.consume(queue, (message) => (message ? resolve(message) : reject(new Error("the queue was deleted"))));
  });
  const options = { correlationId: kickoffId, replyTo: key, deliveryMode: 2, mandatory: true };
  channel.publish("kickoff.requests", crew, Buffer.from(JSON.stringify({ inputs })), options);
  const [message] = await Promise.all([replied, channel.waitForConfirms()]);
  channel.ack(message);
  console.log(message.content.toString());
  await channel.deleteQueue(queue);
  await connection.close();
}

main(process.argv[2]).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
