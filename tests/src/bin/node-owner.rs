//! A process that owns a RabbitMQ node and never lets go of it: tests kill it to see that the node goes too, and
//! tests/as_at_home uses its broker. Prints the folder and the URL of the node when that is ready, then waits for ever.

use crewfleet_node::{Node, NodeOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut node = Node::start(NodeOptions::temporary()?).await?;
    println!("{}\n{}", node.dir().display(), node.url());
    anyhow::bail!("the node ended with {}", node.exited().await)
}
