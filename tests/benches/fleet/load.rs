//! Requests, published as fast as the broker takes them.

use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use uuid::Uuid;

use crate::site::Site;

/// How many may wait for their confirms.
const WINDOW: usize = 1000;

/// A request whose body has `bytes` bytes.
pub(crate) fn request(bytes: usize) -> Vec<u8> {
    let frame = br#"{"inputs":}"#;
    let inputs = inputs(bytes - frame.len());
    [br#"{"inputs":"#, inputs.as_slice(), b"}"].concat()
}

/// Inputs that have `bytes` bytes.
pub(crate) fn inputs(bytes: usize) -> Vec<u8> {
    let frame = br#"{"text":""}"#;
    format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - frame.len())).into_bytes()
}

/// A request's properties, as any client writes them; persistent.
pub(crate) fn properties() -> BasicProperties {
    let id = Uuid::now_v7().to_string();
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_type("kickoff.request.v1".into())
        .with_message_id(id.as_str().into())
        .with_correlation_id(id.into())
}

/// Puts `count` requests into the queue of a crew.
pub(crate) async fn fill(site: &Site, crew: &str, count: usize, body: &[u8]) -> anyhow::Result<()> {
    let channel = site.connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let exchange = site.namespace.exchange("requests");
    let mut confirms = FuturesUnordered::new();
    for _ in 0..count {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange.as_str().into(), crew.into(), options, body, properties());
        confirms.push(sent.await?);
        if confirms.len() >= WINDOW
            && let Some(confirm) = confirms.next().await
        {
            confirm?;
        }
    }
    while let Some(confirm) = confirms.next().await {
        confirm?;
    }
    Ok(())
}
