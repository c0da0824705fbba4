//! The cluster that other tests break: its nodes, and the network between them.

use crewfleet_tests::cluster::Cluster;
use std::time::Instant;

#[tokio::test]
async fn it_starts() {
    let began = Instant::now();
    let cluster = Cluster::start(3).await;
    println!("up after {:?}", began.elapsed());
    println!("{}", cluster.node(1).ctl(&["cluster_status"]).await.unwrap());
}
