//! Servers that can be cut off.

use lapidary_tests::{Broker, Proxy, Redis};
use tempfile::TempDir;

use crate::place::Place;

/// Servers behind wires that can be cut.
pub(crate) struct Wired {
    pub(crate) broker: Broker,
    pub(crate) redis: Redis,
    pub(crate) to_broker: Proxy,
    pub(crate) to_redis: Proxy,
    pub(crate) folder: TempDir,
}

impl Wired {
    pub(crate) async fn start() -> Self {
        let (broker, redis) = (Broker::start(), Redis::start());
        Self {
            to_broker: Proxy::start(broker.port()).await,
            to_redis: Proxy::start(redis.port()).await,
            broker,
            redis,
            folder: TempDir::new().unwrap(),
        }
    }

    /// The place as workers see it.
    pub(crate) fn behind(&self) -> Place {
        Place::on_servers(
            format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.to_broker.port()),
            format!("redis://127.0.0.1:{}", self.to_redis.port()),
            self.folder.path(),
        )
    }

    /// The place as those see it who are not cut off.
    pub(crate) fn direct(&self) -> Place {
        let (broker, redis) = (self.broker.url(), self.redis.url());
        Place::on_servers(broker, redis, self.folder.path())
    }
}
