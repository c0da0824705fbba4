//! The handshake, and what a client may ask for on a channel.

use std::time::Duration;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue},
    types::{AMQPValue, FieldTable},
};

use super::{
    connection::{Channel, NOT_FOUND},
    record::Record,
    script::{At, Fault},
    state::State,
    store::{Consumer, Queue},
};

/// AMQP's code for what nobody here does.
const NOT_IMPLEMENTED: u16 = 540;

/// For so long RabbitMQ waits for a queue to tell its state.
const UNANSWERED: Duration = Duration::from_millis(250);

impl State {
    /// Answers the protocol header.
    pub(super) fn start(&mut self, connection: u64) {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut capabilities = FieldTable::default();
        for name in [
            "publisher_confirms",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
        ] {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
        let mut properties = FieldTable::default();
        properties.insert("product".into(), text("fault broker"));
        properties.insert("version".into(), text("3.10.0"));
        properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        };
        self.reply(connection, connection::AMQPMethod::Start(start));
    }

    /// Does what a frame asks for.
    pub(super) fn heed(&mut self, connection: u64, frame: AMQPFrame) {
        if self.connections.get(&connection).is_none_or(|known| known.silent) {
            return;
        }
        match frame {
            AMQPFrame::Method(0, AMQPClass::Connection(method)) => self.connection_method(connection, method),
            AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                self.open_channel(connection, number);
            }
            AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))) => {
                self.close(connection, number);
            }
            // What a client sent before it knew that its channel is closed is dropped, as the protocol has it.
            frame if !self.is_open(connection, frame.channel_id()) => {}
            AMQPFrame::Method(number, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) => {
                self.publish_begins(connection, number, publish);
            }
            AMQPFrame::Header(number, header) => self.publish_header(connection, number, header),
            AMQPFrame::Body(number, body) => self.publish_body(connection, number, &body),
            AMQPFrame::Method(number, method) => {
                if let Some(answer) = self.channel_method(connection, number, method) {
                    self.send(connection, number, answer);
                }
            }
            _ => {}
        }
    }

    fn connection_method(&mut self, number: u64, method: connection::AMQPMethod) {
        use connection::AMQPMethod::{Close, CloseOk, Open, OpenOk, StartOk, Tune, TuneOk};
        match method {
            StartOk(start) => {
                let name = match start.client_properties.inner().get("connection_name") {
                    Some(AMQPValue::LongString(name)) => name.to_string(),
                    _ => String::new(),
                };
                if let Some(known) = self.connections.get_mut(&number) {
                    known.name = name;
                }
                let tune = connection::Tune {
                    channel_max: 2047,
                    frame_max: self.tune.frame_max,
                    heartbeat: self.tune.heartbeat,
                };
                self.reply(number, Tune(tune));
            }
            TuneOk(tune) => self.connections[&number].beat_every(tune.heartbeat),
            Open(_) => {
                self.reply_unless_faulty(
                    &At::Open,
                    number,
                    0,
                    AMQPClass::Connection(OpenOk(connection::OpenOk {})),
                );
                if let Some(known) = self.connections.get(&number).filter(|known| !known.silent) {
                    let name = known.name.clone();
                    self.log.push(Record::Opened {
                        connection: number,
                        name,
                    });
                }
            }
            Close(_) => {
                if let Some(closing) = self.connections.get(&number) {
                    let name = closing.name.clone();
                    self.log.push(Record::Closed { name });
                }
                self.reply(number, CloseOk(connection::CloseOk {}));
                self.end(number);
            }
            _ => self.end(number),
        }
    }

    fn open_channel(&mut self, connection: u64, number: u16) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        known.channels.insert(number, Channel::default());
        let at = At::ChannelOpen(known.name.clone());
        let opened = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
        self.reply_unless_faulty(&at, connection, number, opened);
    }

    fn reply_unless_faulty(&mut self, at: &At, connection: u64, channel: u16, answer: AMQPClass) {
        match self.due(at) {
            None => self.send(connection, channel, answer),
            Some(Fault::Silence) => self.silence(connection),
            Some(Fault::Cut) => self.end(connection),
            Some(Fault::CutInFrame) => {
                self.cut_within(connection, super::wire::method_bytes(channel, answer));
            }
            Some(fault) => panic!("{fault:?} is no fault of {at:?}"),
        }
    }

    fn channel_method(&mut self, connection: u64, number: u16, method: AMQPClass) -> Option<AMQPClass> {
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                self.close(connection, number);
                Some(AMQPClass::Channel(channel::AMQPMethod::CloseOk(
                    channel::CloseOk {},
                )))
            }
            AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
                self.channel(connection, number)?.confirms = Some(0);
                Some(AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(
                    confirm::SelectOk {},
                )))
            }
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)) => {
                let (name, kind) = (declare.exchange.to_string(), declare.kind.to_string());
                self.store.exchanges.entry(name).or_insert(kind);
                Some(AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(
                    exchange::DeclareOk {},
                )))
            }
            AMQPClass::Queue(method) => self.queue_method(connection, number, method),
            AMQPClass::Basic(method) => self.basic_method(connection, number, method),
            other => {
                let text = format!("the fault broker does not know {other:?}");
                self.close_channel(connection, number, NOT_IMPLEMENTED, &text);
                None
            }
        }
    }

    fn queue_method(&mut self, connection: u64, number: u16, method: queue::AMQPMethod) -> Option<AMQPClass> {
        use queue::AMQPMethod::{Bind, BindOk, Declare, DeclareOk, Delete, DeleteOk, Unbind, UnbindOk};
        Some(AMQPClass::Queue(match method {
            Declare(declare) => {
                let name = declare.queue.to_string();
                if declare.passive && !self.store.queues.contains_key(&name) {
                    self.close_channel(
                        connection,
                        number,
                        NOT_FOUND,
                        &format!("NOT_FOUND - no queue '{name}'"),
                    );
                    return None;
                }
                if declare.passive {
                    self.log.push(Record::Looked { queue: name.clone() });
                }
                let busy = self.busy.as_ref().filter(|busy| busy.queue == name);
                if declare.passive && busy.is_some_and(|busy| !busy.answers) {
                    self.pause(connection, UNANSWERED);
                    return Some(AMQPClass::Queue(DeclareOk(queue::DeclareOk {
                        queue: declare.queue,
                        message_count: 0,
                        consumer_count: 0,
                    })));
                }
                let cancelled = busy.map_or(0, |busy| busy.cancelled);
                let kind = declare.arguments.inner().get("x-queue-type");
                let queue = self.store.queues.entry(name).or_insert_with(|| Queue {
                    stream: matches!(kind, Some(AMQPValue::LongString(kind)) if kind.as_bytes() == b"stream"),
                    ..Queue::default()
                });
                DeclareOk(queue::DeclareOk {
                    queue: declare.queue,
                    message_count: u32::try_from(queue.ready.len()).unwrap_or(u32::MAX),
                    consumer_count: cancelled + u32::try_from(queue.consumers.len()).unwrap_or(u32::MAX),
                })
            }
            Bind(bind) => {
                let exchange = bind.exchange.as_str();
                if !self.store.exchanges.contains_key(exchange) {
                    let text = format!("NOT_FOUND - no exchange '{exchange}'");
                    self.close_channel(connection, number, NOT_FOUND, &text);
                    return None;
                }
                self.store
                    .bind(exchange, bind.queue.as_str(), bind.routing_key.as_str());
                BindOk(queue::BindOk {})
            }
            Unbind(unbind) => {
                let (exchange, key) = (unbind.exchange.as_str(), unbind.routing_key.as_str());
                self.store.unbind(exchange, unbind.queue.as_str(), key);
                UnbindOk(queue::UnbindOk {})
            }
            Delete(delete) => {
                self.store.delete(delete.queue.as_str());
                DeleteOk(queue::DeleteOk { message_count: 0 })
            }
            _ => return None,
        }))
    }

    fn basic_method(&mut self, connection: u64, number: u16, method: basic::AMQPMethod) -> Option<AMQPClass> {
        use basic::AMQPMethod::{Ack, Cancel, CancelOk, Consume, Nack, Qos, QosOk, Reject};
        match method {
            Qos(qos) => {
                self.channel(connection, number)?.prefetch = qos.prefetch_count;
                Some(AMQPClass::Basic(QosOk(basic::QosOk {})))
            }
            Consume(consume) => {
                self.consume(connection, number, consume);
                None
            }
            Cancel(cancel) => {
                let tag = cancel.consumer_tag;
                for (name, queue) in &mut self.store.queues {
                    let before = queue.consumers.len();
                    queue
                        .consumers
                        .retain(|consumer| consumer.connection != connection || consumer.tag != tag.as_str());
                    if queue.consumers.len() < before {
                        if let Some(busy) = self.busy.as_mut().filter(|busy| busy.queue == *name) {
                            busy.cancelled += 1;
                        }
                        self.log.push(Record::Cancelled { queue: name.clone() });
                    }
                }
                Some(AMQPClass::Basic(CancelOk(basic::CancelOk { consumer_tag: tag })))
            }
            Ack(ack) => {
                self.ack(connection, number, ack.delivery_tag, ack.multiple);
                None
            }
            Nack(basic::Nack { delivery_tag, .. }) | Reject(basic::Reject { delivery_tag, .. }) => {
                self.requeue(connection, number, delivery_tag);
                None
            }
            other => {
                let text = format!("the fault broker does not know {other:?}");
                self.close_channel(connection, number, NOT_IMPLEMENTED, &text);
                None
            }
        }
    }

    fn consume(&mut self, connection: u64, number: u16, consume: basic::Consume) {
        let (name, tag) = (consume.queue.to_string(), consume.consumer_tag.to_string());
        match self.due(&At::Consume(name.clone())) {
            Some(Fault::Forced) => return self.force_close(connection),
            Some(Fault::Refused(code, text)) => return self.close_channel(connection, number, code, text),
            _ => {}
        }
        let prefetch = self
            .channel(connection, number)
            .map_or(0, |channel| channel.prefetch);
        let Some(queue) = self.store.queues.get_mut(&name) else {
            let text = format!("NOT_FOUND - no queue '{name}'");
            self.close_channel(connection, number, NOT_FOUND, &text);
            return;
        };
        let end = queue.ready.len();
        let offset = match consume.arguments.inner().get("x-stream-offset") {
            // All messages are of this test, and so later than any moment that it asks for.
            Some(AMQPValue::Timestamp(_)) => 0,
            Some(AMQPValue::LongString(place)) if place.as_bytes() == b"first" => 0,
            // Each message is a chunk of its own.
            Some(AMQPValue::LongString(place)) if place.as_bytes() == b"last" => end.saturating_sub(1),
            Some(AMQPValue::LongLongInt(place)) => {
                usize::try_from(*place).map_or(end, |place| place.min(end))
            }
            _ => end,
        };
        queue.consumers.push(Consumer {
            connection,
            channel: number,
            tag,
            prefetch,
            unacked: 0,
            offset,
        });
        let consumer_tag = consume.consumer_tag;
        let answer = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag });
        self.send(connection, number, AMQPClass::Basic(answer));
        self.log.push(Record::Consuming { queue: name.clone() });
        self.pump(&name);
    }

    /// Closes a channel for an error of its client's.
    pub(super) fn close_channel(&mut self, connection: u64, number: u16, code: u16, text: &str) {
        let close = channel::Close {
            reply_code: code,
            reply_text: text.into(),
            class_id: 0,
            method_id: 0,
        };
        self.send(
            connection,
            number,
            AMQPClass::Channel(channel::AMQPMethod::Close(close)),
        );
        self.close(connection, number);
    }

    fn close(&mut self, connection: u64, number: u16) {
        let known = self.connections.get_mut(&connection);
        if let Some(channel) = known.and_then(|known| known.channels.remove(&number)) {
            self.give_back(connection, number, channel);
        }
    }

    pub(super) fn channel(&mut self, connection: u64, number: u16) -> Option<&mut Channel> {
        self.connections.get_mut(&connection)?.channels.get_mut(&number)
    }

    fn is_open(&self, connection: u64, number: u16) -> bool {
        number == 0
            || self
                .connections
                .get(&connection)
                .is_some_and(|known| known.channels.contains_key(&number))
    }

    /// Closes a connection as an operator does.
    pub(super) fn force_close(&mut self, connection: u64) {
        let close = connection::Close {
            reply_code: 320,
            reply_text: "CONNECTION_FORCED - by the script".into(),
            class_id: 0,
            method_id: 0,
        };
        self.reply(connection, connection::AMQPMethod::Close(close));
        self.end(connection);
    }

    fn reply(&self, connection: u64, method: connection::AMQPMethod) {
        self.send(connection, 0, AMQPClass::Connection(method));
    }
}
