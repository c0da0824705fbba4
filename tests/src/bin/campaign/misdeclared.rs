//! A queue that somebody declared otherwise than workers do.

use anyhow::{Context, bail};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};

/// A worker declares its queue again when it is gone; who comes later is refused.
const TRIES: u32 = 50;

/// Puts a classic queue in the place of a quorum queue.
pub(crate) async fn replace(url: &str, queue: &str) -> anyhow::Result<()> {
    let connection = connect(url).await?;
    for _ in 0..TRIES {
        let channel = connection.create_channel().await?;
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .with_context(|| format!("deleting {queue}"))?;
        let classic = channel
            .queue_declare(
                queue.into(),
                QueueDeclareOptions::durable(),
                FieldTable::default(),
            )
            .await;
        if classic.is_ok() {
            connection.close(200, "done".into()).await?;
            return Ok(());
        }
    }
    bail!("{queue} cannot be declared otherwise: somebody is faster each time")
}

/// Takes it away.
pub(crate) async fn delete(url: &str, queue: &str) -> anyhow::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .with_context(|| format!("deleting {queue}"))?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("campaign, a fault".into());
    Ok(Connection::connect(url, properties).await?)
}
