//! The queues and exchanges, made when first needed.
//!
//! A queue that exists is taken as it is: only a missing one is declared, so a broker whose queues
//! were made by another version, or are governed by an operator's policy, is never refused.

use std::time::{Duration, Instant};

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::link::Live;
use super::names::{DEAD, DEAD_LETTERS_MAX, DROPPED, RUNGS, Rung};

/// Deliveries after which a broker gives a message up: never, as attempts are counted elsewhere. From
/// 4.0 on a queue without a limit has one of 20, and the value for none, -1, means "at the first
/// return" before 4.0; a number that is never reached means the same everywhere. An operator's policy
/// can still set a lower one.
const DELIVERIES_MAX: i32 = 1_000_000_000;

/// How long a queue that was deleted stays gone before it is made again. While a broker of 3.10 takes
/// a quorum queue down (20 to 50 ms on an idle machine), its channels try to subscribe their consumers
/// once more and then forget the queue. If a new one has the name by then, they succeed without a word
/// and every delivery to them goes nowhere; if not, they cancel the consumers, which notice. No
/// argument that a quorum queue's consumer may have turns this off.
pub(super) const GONE_PAUSE: Duration = Duration::from_secs(1);

/// Longest time the broker may take to answer about a queue.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The same for a queue that may be lost. It is almost empty, and answers within a second.
const DOUBTED_ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long to wait for what a queue must answer itself.
pub(super) fn answer_max(live: &Live, queue: &str) -> Duration {
    if live.young().is_doubted(queue, Instant::now()) {
        DOUBTED_ANSWER_MAX
    } else {
        ANSWER_MAX
    }
}

/// Takes note that a queue did not answer. One that the broker has lost (see [`super::young`]) is
/// deleted; whoever needs it next makes it again.
pub(super) async fn unanswered(live: &Live, queue: &str) {
    let _making = live.young().making.lock().await;
    if !live.young().is_doubted(queue, Instant::now()) {
        return;
    }
    let deleting = async {
        let channel = live.channel().await?;
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await
    };
    if !matches!(tokio::time::timeout(ANSWER_MAX, deleting).await, Ok(Ok(_))) {
        tracing::warn!(
            queue,
            "the broker lost it while it was new, and does not delete it"
        );
        return;
    }
    tracing::warn!(
        queue,
        "the broker lost it while it was new; it is made again"
    );
    live.young().answered(queue);
    live.missed(queue);
    tokio::time::sleep(GONE_PAUSE).await;
}

/// Makes sure that a queue exists, with what it needs around it.
pub(super) async fn ensure(live: &Live, queue: &str) -> lapin::Result<()> {
    if live.has_seen(queue) {
        return Ok(());
    }
    let _making = live.young().making.lock().await;
    if ![DEAD, DROPPED].contains(&queue) && rung(queue).is_none() {
        create(live, DROPPED, quorum()).await?;
    }
    create(live, queue, arguments_of(queue)).await?;
    if let Some(rung) = rung(queue) {
        bind_rung(live, rung).await?;
    }
    live.saw(queue);
    Ok(())
}

fn rung(queue: &str) -> Option<&'static Rung> {
    RUNGS.iter().find(|rung| rung.name == queue)
}

/// What a queue of this name is made with.
pub(super) fn arguments_of(queue: &str) -> FieldTable {
    if let Some(rung) = rung(queue) {
        return rung_arguments(rung);
    }
    match queue {
        DROPPED => quorum(),
        DEAD => {
            let mut arguments = quorum();
            arguments.insert("x-max-length".into(), AMQPValue::LongInt(DEAD_LETTERS_MAX));
            arguments
        }
        _ => jobs_arguments(),
    }
}

/// Messages ready on a queue; `None` if there is no such queue.
pub(super) async fn count(
    live: &Live,
    channel: &mut Option<Channel>,
    queue: &str,
) -> lapin::Result<Option<u64>> {
    let open = match channel.take() {
        Some(open) => open,
        None => live.channel().await?,
    };
    match open
        .queue_declare(queue.into(), passive(), FieldTable::default())
        .await
    {
        Ok(found) => {
            *channel = Some(open);
            Ok(Some(found.message_count().into()))
        }
        Err(error) if is(&error, AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Declares a queue unless it exists.
async fn create(live: &Live, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    let mut channel = None;
    if count(live, &mut channel, queue).await?.is_some() {
        return Ok(());
    }
    // Noted before the answer: a broker that goes away before it gives one may have begun to make it.
    live.young().made(queue, Instant::now());
    match declare(live, queue, arguments).await {
        Ok(()) => Ok(()),
        // Somebody else was faster, with other arguments.
        Err(error) if is(&error, AMQPSoftError::PRECONDITIONFAILED) => {
            match count(live, &mut channel, queue).await? {
                Some(_) => Ok(()),
                None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn declare(live: &Live, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    let channel = live.channel().await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, arguments)
        .await?;
    Ok(())
}

async fn bind_rung(live: &Live, rung: &Rung) -> lapin::Result<()> {
    let channel = live.channel().await?;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default();
    channel
        .exchange_declare(
            rung.name.into(),
            ExchangeKind::Fanout,
            options,
            none.clone(),
        )
        .await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(rung.name.into(), rung.name.into(), "".into(), bind, none)
        .await
}

fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    }
}

pub(super) fn is(error: &lapin::Error, kind: AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(amqp)
        if *amqp.kind() == AMQPErrorKind::Soft(kind))
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(DELIVERIES_MAX),
    );
    arguments
}

/// What leaves a queue against our will is not lost on the way: `at-least-once` needs
/// `reject-publish`, without which the broker silently falls back to at-most-once.
fn dead_lettering() -> FieldTable {
    let mut arguments = quorum();
    for (key, value) in [
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}

fn jobs_arguments() -> FieldTable {
    let mut arguments = dead_lettering();
    let key = AMQPValue::LongString(DROPPED.into());
    arguments.insert("x-dead-letter-routing-key".into(), key);
    arguments
}

/// A time-out of the queue, not of its messages: a quorum queue expires messages at its head only.
fn rung_arguments(rung: &Rung) -> FieldTable {
    let mut arguments = dead_lettering();
    let ttl_ms = i64::try_from(rung.delay.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl_ms));
    arguments
}
