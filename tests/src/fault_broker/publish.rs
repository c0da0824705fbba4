//! Messages on their way in: confirms, returns, and the faults among them.

use amq_protocol::{
    frame::AMQPContentHeader,
    protocol::{AMQPClass, basic, connection as method},
};

use super::{
    connection::{Connection, Incoming, NOT_FOUND},
    record::{Published, Record},
    script::{At, Fault},
    state::{Answer, State},
    store::Message,
    wire::{content_bytes, method_bytes},
};

/// AMQP's code in a return.
const NO_ROUTE: u16 = 312;

impl State {
    pub(super) fn publish_begins(&mut self, connection: u64, number: u16, publish: basic::Publish) {
        if let Some(channel) = self.channel(connection, number) {
            channel.incoming = Some(Incoming {
                publish,
                header: None,
                body: Vec::new(),
            });
        }
    }

    pub(super) fn publish_header(&mut self, connection: u64, number: u16, header: AMQPContentHeader) {
        if let Some(incoming) = self.incoming(connection, number) {
            incoming.header = Some(header);
        }
        self.publish_body(connection, number, &[]);
    }

    pub(super) fn publish_body(&mut self, connection: u64, number: u16, part: &[u8]) {
        let Some(incoming) = self.incoming(connection, number) else {
            return;
        };
        incoming.body.extend_from_slice(part);
        let whole = |header: &AMQPContentHeader| header.body_size == incoming.body.len() as u64;
        if incoming.header.as_ref().is_some_and(whole) {
            let complete = self
                .channel(connection, number)
                .and_then(|channel| channel.incoming.take());
            if let Some(Incoming {
                publish,
                header: Some(header),
                body,
            }) = complete
            {
                let message = Message::new(
                    self.count(),
                    publish.exchange.as_str(),
                    publish.routing_key.as_str(),
                    header.properties,
                    body,
                );
                self.take(connection, number, publish.mandatory, message);
            }
        }
    }

    fn incoming(&mut self, connection: u64, number: u16) -> Option<&mut Incoming> {
        self.channel(connection, number)?.incoming.as_mut()
    }

    /// A whole message has arrived.
    fn take(&mut self, connection: u64, channel: u16, mandatory: bool, message: Message) {
        let number = message.number;
        let published = Published {
            number,
            connection,
            exchange: message.exchange.clone(),
            key: message.key.clone(),
            properties: message.properties.clone(),
            body: message.body.clone(),
        };
        self.log.push(Record::Published(Box::new(published)));
        self.block_publisher(connection);
        let confirms = self.channel(connection, channel).and_then(|channel| {
            let last = channel.confirms.as_mut()?;
            *last += 1;
            Some(*last)
        });
        if !self.store.exchanges.contains_key(&message.exchange) {
            let text = format!("NOT_FOUND - no exchange '{}'", message.exchange);
            return self.close_channel(connection, channel, NOT_FOUND, &text);
        }
        let fault = self.due(&At::Publish(message.exchange.clone()));
        match &fault {
            Some(Fault::Nack) => return self.nack(connection, channel, confirms, number),
            Some(Fault::Refused(code, text)) => {
                return self.close_channel(connection, channel, *code, text);
            }
            _ => {}
        }
        let back = mandatory.then(|| message.clone());
        let answer = Answer {
            connection,
            channel,
            confirms,
            number,
            returned: back.filter(|message| self.store.targets(message).is_empty()),
        };
        self.route(message);
        match fault {
            Some(Fault::Silence) => self.silence(connection),
            Some(Fault::Cut) => self.end(connection),
            Some(Fault::CutInFrame) => {
                self.cut_within(connection, method_bytes(channel, confirm(confirms.unwrap_or(1))));
            }
            Some(Fault::Held) => self.held.push(answer),
            Some(Fault::ConfirmLost) => {}
            _ => self.answer(answer),
        }
    }

    /// Sends the return, where there is one, and the confirm.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Answer {
            connection,
            channel,
            confirms,
            number,
            returned,
        } = answer;
        if self.channel(connection, channel).is_none() {
            return;
        }
        if let Some(message) = returned {
            let back = basic::AMQPMethod::Return(basic::Return {
                reply_code: NO_ROUTE,
                reply_text: "NO_ROUTE".into(),
                exchange: message.exchange.as_str().into(),
                routing_key: message.key.as_str().into(),
            });
            let method = AMQPClass::Basic(back);
            let bytes = content_bytes(channel, method, &message.properties, &message.body);
            self.log.push(Record::Returned(number));
            self.send_bytes(connection, bytes);
        }
        if let Some(confirms) = confirms {
            self.log.push(Record::Confirmed(number));
            self.send(connection, channel, confirm(confirms));
        }
    }

    fn nack(&mut self, connection: u64, channel: u16, confirms: Option<u64>, number: u64) {
        if let Some(delivery_tag) = confirms {
            self.log.push(Record::Nacked(number));
            let nack = basic::Nack {
                delivery_tag,
                multiple: false,
                requeue: false,
            };
            self.send(
                connection,
                channel,
                AMQPClass::Basic(basic::AMQPMethod::Nack(nack)),
            );
        }
    }

    fn block_publisher(&mut self, connection: u64) {
        let Some(reason) = &self.alarm else { return };
        if self.connections.get(&connection).is_some_and(Connection::block) {
            let blocked = method::Blocked {
                reason: reason.as_str().into(),
            };
            self.send(
                connection,
                0,
                AMQPClass::Connection(method::AMQPMethod::Blocked(blocked)),
            );
            self.log.push(Record::Blocked { connection });
        }
    }
}

fn confirm(delivery_tag: u64) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
        delivery_tag,
        multiple: false,
    }))
}
