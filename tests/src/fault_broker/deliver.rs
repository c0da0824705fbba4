//! Messages on their way out, and their acks.

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::AMQPValue,
};

use super::{
    connection::{Channel, Unacked},
    record::Record,
    script::{At, Fault},
    state::State,
    store::Message,
    wire::content_bytes,
};

/// A delivery on its way.
struct Next {
    connection: u64,
    channel: u16,
    unacked: Unacked,
    offset: usize,
}

impl State {
    /// Puts a message into the queues that it belongs to; `false` when there is none.
    pub(super) fn route(&mut self, message: Message) -> bool {
        let targets = self.store.targets(&message);
        for name in &targets {
            if let Some(queue) = self.store.queues.get_mut(name) {
                queue.ready.push_back(message.clone());
            }
            self.pump(name);
        }
        !targets.is_empty()
    }

    /// Delivers what there is to consumers with room.
    pub(super) fn pump(&mut self, queue: &str) {
        while let Some(next) = self.next(queue) {
            self.deliver(next);
        }
    }

    fn next(&mut self, name: &str) -> Option<Next> {
        let queue = self.store.queues.get_mut(name)?;
        let (stream, ready) = (queue.stream, &mut queue.ready);
        let place = queue
            .consumers
            .iter()
            .position(|consumer| consumer.has_room() && (!stream || consumer.offset < ready.len()))?;
        let consumer = &mut queue.consumers[place];
        let offset = consumer.offset;
        let message = if stream {
            consumer.offset += 1;
            ready.get(offset).cloned()?
        } else {
            ready.pop_front()?
        };
        consumer.unacked += 1;
        let next = Next {
            connection: consumer.connection,
            channel: consumer.channel,
            offset,
            unacked: Unacked {
                queue: name.to_owned(),
                consumer: consumer.tag.clone(),
                message,
                stream,
            },
        };
        // In turns.
        queue.consumers[place..].rotate_left(1);
        Some(next)
    }

    fn deliver(&mut self, next: Next) {
        let (message, queue) = (next.unacked.message.clone(), next.unacked.queue.clone());
        let redelivered = message.deliveries > 0;
        let mut headers = message.properties.headers().clone().unwrap_or_default();
        if next.unacked.stream {
            let offset = i64::try_from(next.offset).unwrap_or(i64::MAX);
            headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset));
        } else if redelivered {
            let count = AMQPValue::LongLongInt(message.deliveries.into());
            headers.insert("x-delivery-count".into(), count);
        }
        let Some(channel) = self.channel(next.connection, next.channel) else {
            return;
        };
        channel.tag += 1;
        let deliver = basic::Deliver {
            consumer_tag: next.unacked.consumer.as_str().into(),
            delivery_tag: channel.tag,
            redelivered,
            exchange: message.exchange.as_str().into(),
            routing_key: message.key.as_str().into(),
        };
        channel.unacked.insert(channel.tag, next.unacked);
        self.log.push(Record::Delivered {
            message: message.number,
            queue: queue.clone(),
            redelivered,
        });
        let method = AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver));
        let properties = message.properties.with_headers(headers);
        let bytes = content_bytes(next.channel, method, &properties, &message.body);
        match self.due(&At::Deliver(queue)) {
            Some(Fault::CutInFrame) => self.cut_within(next.connection, bytes),
            fault => {
                self.send_bytes(next.connection, bytes);
                match fault {
                    Some(Fault::Cut) => self.end(next.connection),
                    Some(Fault::Silence) => self.silence(next.connection),
                    Some(Fault::Forced) => self.force_close(next.connection),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn ack(&mut self, connection: u64, number: u16, tag: u64, multiple: bool) {
        let Some(channel) = self.channel(connection, number) else {
            return;
        };
        let first = if multiple { 0 } else { tag };
        let last = if tag == 0 { u64::MAX } else { tag };
        let tags: Vec<u64> = channel.unacked.range(first..=last).map(|(tag, _)| *tag).collect();
        for tag in tags {
            let Some(queue) = self.held_from(connection, number, tag) else {
                continue;
            };
            if let Some(busy) = self.busy.as_mut().filter(|busy| busy.queue == queue) {
                busy.acks.push((connection, number, tag));
                continue;
            }
            match self.due(&At::Ack(queue)) {
                Some(Fault::Silence) => return self.silence(connection),
                Some(_) => return self.end(connection),
                None => {}
            }
            if let Some(acked) = self.settle(connection, number, tag) {
                self.log.push(Record::Acked {
                    message: acked.message.number,
                    queue: acked.queue.clone(),
                });
                self.pump(&acked.queue);
            }
        }
    }

    pub(super) fn requeue(&mut self, connection: u64, number: u16, tag: u64) {
        if let Some(unacked) = self.settle(connection, number, tag) {
            let queue = unacked.queue.clone();
            self.put_back(unacked);
            self.pump(&queue);
        }
    }

    /// Takes back all that a channel held, in its old order, and its consumers with it.
    pub(super) fn give_back(&mut self, connection: u64, number: u16, channel: Channel) {
        for queue in self.store.queues.values_mut() {
            queue
                .consumers
                .retain(|consumer| (consumer.connection, consumer.channel) != (connection, number));
        }
        let mut queues: Vec<String> = Vec::new();
        for (_, unacked) in channel.unacked.into_iter().rev() {
            queues.push(unacked.queue.clone());
            self.put_back(unacked);
        }
        for queue in queues {
            self.pump(&queue);
        }
    }

    fn put_back(&mut self, mut unacked: Unacked) {
        if unacked.stream {
            return;
        }
        unacked.message.deliveries += 1;
        if let Some(queue) = self.store.queues.get_mut(&unacked.queue) {
            queue.ready.push_front(unacked.message);
        }
    }

    fn held_from(&mut self, connection: u64, number: u16, tag: u64) -> Option<String> {
        let unacked = self.channel(connection, number)?.unacked.get(&tag)?;
        Some(unacked.queue.clone())
    }

    fn settle(&mut self, connection: u64, number: u16, tag: u64) -> Option<Unacked> {
        let unacked = self.channel(connection, number)?.unacked.remove(&tag)?;
        if let Some(consumer) = self.store.consumer(&unacked.queue, connection, &unacked.consumer) {
            consumer.unacked -= 1;
        }
        Some(unacked)
    }
}
