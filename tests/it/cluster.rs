//! A cluster of three `RabbitMQ` nodes that loses one after the other.

use lapidary_tests::{Broker, Redis};
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::place::{Followed, Place, requests};

const NODES: usize = 3;
const DOCUMENTS: usize = 1_500;
/// Results after which a node is killed, and after which it is back.
const LOSSES: [(usize, usize); 2] = [(200, 500), (700, 1_000)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_takes_nothing_along() {
    let folder = TempDir::new().unwrap();
    let (mut nodes, redis) = (Broker::cluster(NODES), Redis::start());
    let hosts: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    let url = format!("amqp://guest:guest@{}/%2f?heartbeat=4", hosts.join(","));
    let place = Place::on_servers(url, redis.url(), folder.path());
    let batch = place.submit(&requests(folder.path(), DOCUMENTS));
    let mut worker = place.worker(&[]);
    let results = place.results().await;
    let mut followed = Followed::new(&results, batch);
    // Whoever is connected to a node goes on at the next one, which therefore is the next to be lost.
    for (node, (lost, back)) in LOSSES.into_iter().enumerate() {
        followed.until(lost).await;
        block_in_place(|| nodes[node].kill());
        followed.until(back).await;
        // It starts for longer than the rest would take.
        place.ask(&["pause", &batch.to_string()]);
        block_in_place(|| nodes[node].run());
        place.ask(&["resume", &batch.to_string()]);
    }
    followed.texts(DOCUMENTS).await;
    place.ends(&mut worker);
    place.holds(&[batch]).await;
}
