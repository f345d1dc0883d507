//! What a doctor looks at: the broker's version and alarms, our queues, and the way of a retry.

use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{BasicProperties, Confirmation, ExchangeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::link::Live;
use super::names::{DEAD, DROPPED, RUNGS};
use super::{AmqpOptions, AmqpQueue, topology};
use crate::queue::QueueError;

/// Longest time the broker may take to greet.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// How long the broker may take to say that it takes no messages.
const ALARM_TOLD: Duration = Duration::from_secs(1);
/// Bytes of a greeting that are read; that of `RabbitMQ` has some 500.
const GREETING_BYTES_MAX: usize = 4_096;
/// What a client says first, AMQP 0-9-1, section 4.2.2.
const HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// A look at a broker.
#[derive(Debug)]
pub(crate) struct Examiner {
    queue: AmqpQueue,
    version: Option<String>,
}

/// A queue of ours, looked at.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) queue: &'static str,
    pub(crate) state: QueueState,
}

/// How a queue is.
#[derive(Debug)]
pub(crate) enum QueueState {
    /// There is none.
    Missing,
    /// As this version makes it.
    Ours {
        /// Messages that wait.
        messages: u32,
    },
    /// Made otherwise.
    Other {
        /// What the broker says about that.
        why: String,
    },
    /// Nothing that is sent to its exchange reaches it.
    Unrouted,
    /// It does not answer.
    Silent,
}

impl Examiner {
    pub(crate) async fn connect(url: &str) -> Result<Self, QueueError> {
        let options = AmqpOptions {
            reconnect_within: GREETING_MAX,
            ..AmqpOptions::default()
        };
        let queue = AmqpQueue::open_with(url, options).await?;
        let version = match queue.consuming.node() {
            Some(node) => tokio::time::timeout(GREETING_MAX, greeting(node)).await,
            None => Ok(Err(std::io::ErrorKind::NotFound.into())),
        };
        let version = version.ok().and_then(Result::ok);
        Ok(Self {
            queue,
            version: version.and_then(|greeting| version_of(&greeting)),
        })
    }

    /// What the broker says it is; `None` if it does not say.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    async fn live(&self) -> Result<std::sync::Arc<Live>, QueueError> {
        self.queue
            .consuming
            .live(self.queue.patience.reconnect)
            .await
    }

    /// Why it takes no messages, if it does not. It says so to whoever publishes, here to no queue, and
    /// reads nothing more from that connection, which is therefore another than the one that asks.
    pub(crate) async fn alarm(&self) -> Result<Option<String>, QueueError> {
        let link = &self.queue.publishing;
        let live = link.live(self.queue.patience.reconnect).await?;
        let publishing = async {
            let channel = live.channel().await?;
            let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
            let nowhere = "lapidary.doctor".into();
            channel
                .basic_publish("".into(), nowhere, options, b"", none)
                .await
        };
        publishing.await.map_err(|error| link.fault(&error))?;
        Ok(live.blocks(ALARM_TOLD).await)
    }

    /// The queues whose names are fixed.
    pub(crate) async fn queues(&self) -> Result<Vec<Examined>, QueueError> {
        let live = self.live().await?;
        let rungs = RUNGS.iter().map(|rung| rung.name);
        let mut examined = Vec::new();
        for queue in [DEAD, DROPPED].into_iter().chain(rungs) {
            let looking = state(&live, queue);
            let state = match tokio::time::timeout(topology::ANSWER_MAX, looking).await {
                Ok(state) => state.map_err(|error| self.queue.consuming.fault(&error))?,
                Err(_) => QueueState::Silent,
            };
            examined.push(Examined { queue, state });
        }
        Ok(examined)
    }

    /// Sends a message the way of a retry that waits shortest, to a queue that is gone afterwards;
    /// whether it is back within `back_max`. The rung is made if there is none.
    pub(crate) async fn retry(&self, back_max: Duration) -> Result<bool, QueueError> {
        let live = self.live().await?;
        let walking = walk(&live, back_max);
        let limit = topology::ANSWER_MAX + back_max;
        let link = &self.queue.consuming;
        let silent = |_| link.unreachable(format!("no answer within {} s", limit.as_secs()));
        let back = tokio::time::timeout(limit, walking).await.map_err(silent)?;
        back.map_err(|error| link.fault(&error))
    }
}

async fn state(live: &Live, queue: &'static str) -> lapin::Result<QueueState> {
    let Some(messages) = topology::count(live, &mut None, queue).await? else {
        return Ok(QueueState::Missing);
    };
    if let Err(error) = topology::declare(live, queue, topology::arguments_of(queue)).await {
        return if topology::is(&error, AMQPSoftError::PRECONDITIONFAILED) {
            Ok(QueueState::Other {
                why: error.to_string(),
            })
        } else {
            Err(error)
        };
    }
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    if RUNGS.iter().all(|rung| rung.name != queue) {
        return Ok(QueueState::Ours { messages });
    }
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let channel = live.channel().await?;
    let (kind, none) = (ExchangeKind::Fanout, FieldTable::default());
    match channel
        .exchange_declare(queue.into(), kind, options, none)
        .await
    {
        Ok(()) => Ok(QueueState::Ours { messages }),
        Err(error) if topology::is(&error, AMQPSoftError::NOTFOUND) => Ok(QueueState::Unrouted),
        Err(error) => Err(error),
    }
}

async fn walk(live: &Live, back_max: Duration) -> lapin::Result<bool> {
    let rung = &RUNGS[0];
    topology::ensure(live, rung.name).await?;
    let channel = live.channel().await?;
    let home = format!("lapidary.doctor.{}", Uuid::now_v7());
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let none = FieldTable::default();
    channel
        .queue_declare(home.as_str().into(), options, none.clone())
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut arrivals = channel
        .basic_consume(home.as_str().into(), "".into(), options, none)
        .await?;
    let publisher = live.publisher().await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = publisher
        .basic_publish(
            rung.name.into(),
            home.as_str().into(),
            options,
            b"",
            properties,
        )
        .await?
        .await?;
    if !matches!(sent, Confirmation::Ack(None)) {
        return Ok(false);
    }
    let back = tokio::time::timeout(back_max, arrivals.next()).await;
    Ok(matches!(back, Ok(Some(Ok(_)))))
}

/// The first frame that a broker sends.
async fn greeting(uri: &AMQPUri) -> std::io::Result<Vec<u8>> {
    if uri.scheme == AMQPScheme::AMQPS {
        return Err(std::io::Error::other("it is not readable from here"));
    }
    let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.write_all(HEADER).await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let [_, _, _, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    let mut frame = vec![0; length.min(GREETING_BYTES_MAX)];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// The field `version` of the table in a greeting: a short name, `S`, and a long string.
fn version_of(greeting: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = greeting
        .windows(FIELD.len())
        .position(|some| some == FIELD)?;
    let rest = greeting.get(at + FIELD.len()..)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn a_greeting_names_the_version() {
        let greeting =
            b"\x00\x0a\x00\x0a\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8!";
        assert_eq!(version_of(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_of(b"\x07versionS\0\0\0\x063.1"), None);
        assert_eq!(version_of(b""), None);
    }
}
