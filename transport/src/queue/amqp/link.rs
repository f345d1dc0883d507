//! One connection to the broker and the one loop that makes it again when it is lost.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;

use super::addresses::Addresses;
use super::dial::dial;
use super::io::Io;
use super::young::Young;
use crate::queue::QueueError;

/// Longest time one attempt to connect may take, all nodes together.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// First and longest pause between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest time a connection may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// A place to connect to, and the connection while there is one.
#[derive(Debug)]
pub(super) struct Link {
    addresses: Arc<Addresses>,
    place: String,
    purpose: &'static str,
    io: Arc<Io>,
    young: Arc<Young>,
    current: tokio::sync::Mutex<Option<Arc<Live>>>,
}

/// A connection, from its opening to its loss.
#[derive(Debug)]
pub(super) struct Live {
    connection: Connection,
    /// Why the broker takes nothing more for now.
    blocked: watch::Receiver<Option<String>>,
    /// The channel to publish on.
    publisher: tokio::sync::Mutex<Option<Channel>>,
    /// Queues seen on this connection.
    seen: Mutex<HashSet<String>>,
    /// Queues that this process made lately, on any connection.
    young: Arc<Young>,
}

impl Link {
    /// A link to one of these nodes, not connected yet.
    pub(super) fn new(
        addresses: Arc<Addresses>,
        purpose: &'static str,
        io: Arc<Io>,
        young: Arc<Young>,
    ) -> Self {
        Self {
            place: addresses.shown(),
            addresses,
            purpose,
            io,
            young,
            current: tokio::sync::Mutex::new(None),
        }
    }

    /// The connection there is, or a new one, tried for at most `within`.
    pub(super) async fn live(&self, within: Duration) -> Result<Arc<Live>, QueueError> {
        let until = Instant::now() + within;
        let waiting = tokio::time::timeout_at(until.into(), self.current.lock());
        let Ok(mut current) = waiting.await else {
            let message = format!("no connection within {} s", within.as_secs());
            return Err(self.unreachable(message));
        };
        if let Some(live) = current.as_ref().filter(|live| live.connected()) {
            return Ok(Arc::clone(live));
        }
        if current.take().is_some() {
            self.young.lost_the_broker(Instant::now());
        }
        let mut pause = PAUSE_MIN;
        loop {
            match self.connect().await {
                Ok(live) => return Ok(Arc::clone(current.insert(Arc::new(live)))),
                Err(error @ QueueError::Unusable { .. }) => return Err(error),
                Err(error) if Instant::now() + pause >= until => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, purpose = self.purpose, "broker connection failed");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Gives a connection up that no longer answers.
    pub(super) async fn forget(&self, live: &Arc<Live>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, live)) {
            *current = None;
        }
    }

    /// Connects to the first node that answers, that of the last connection before the others.
    async fn connect(&self) -> Result<Live, QueueError> {
        let mut refused = self.unreachable("it has no address".to_owned());
        for (number, node) in self.addresses.in_turn() {
            match self.connect_to(node.clone()).await {
                Ok(live) => {
                    self.addresses.reached(number);
                    return Ok(live);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn connect_to(&self, uri: AMQPUri) -> Result<Live, QueueError> {
        let within = ATTEMPT_MAX / u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        let name = format!("lapidary {}", self.purpose);
        let connecting = self.io.run(async move {
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            tokio::time::timeout(within, dial(uri, properties)).await
        });
        let connection = match connecting.await {
            Some(Ok(Ok(connection))) => connection,
            Some(Ok(Err(error))) => return Err(self.fault(&error)),
            Some(Err(_)) => {
                let message = format!("no answer within {:.1} s", within.as_secs_f32());
                return Err(self.unreachable(message));
            }
            None => {
                let message = "the thread that serves the broker has stopped".to_owned();
                return Err(QueueError::Unusable { message });
            }
        };
        let (sender, blocked) = watch::channel(None);
        let mut events = connection.events_listener();
        let young = Arc::clone(&self.young);
        self.io.detach(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => drop(sender.send(Some(reason))),
                    Event::ConnectionUnblocked => drop(sender.send(None)),
                    Event::Error(_) => {
                        young.lost_the_broker(Instant::now());
                        break;
                    }
                    _ => {}
                }
                if sender.is_closed() {
                    break;
                }
            }
        });
        self.young.found_the_broker(Instant::now());
        let (publisher, seen) = (tokio::sync::Mutex::new(None), Mutex::default());
        Ok(Live {
            connection,
            blocked,
            publisher,
            seen,
            young: Arc::clone(&self.young),
        })
    }

    /// What an error of the client library means to the caller.
    pub(super) fn fault(&self, error: &lapin::Error) -> QueueError {
        if let ErrorKind::ProtocolError(amqp) = error.kind() {
            let refused = matches!(
                amqp.kind(),
                AMQPErrorKind::Soft(
                    AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED
                ) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
            );
            if refused {
                let message = format!("broker at {} refuses: {}", self.place, amqp.get_message());
                return QueueError::Unusable { message };
            }
        }
        self.unreachable(error.to_string())
    }

    /// That the broker cannot be reached, or gives no answer.
    pub(super) fn unreachable(&self, message: String) -> QueueError {
        QueueError::Unreachable {
            url: self.place.clone(),
            message,
        }
    }

    /// The thread that serves it.
    pub(super) fn io(&self) -> &Io {
        &self.io
    }

    /// The node of the last connection.
    pub(super) fn node(&self) -> Option<&AMQPUri> {
        self.addresses.in_turn().next().map(|(_, node)| node)
    }

    /// Where the broker is, without credentials.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Gives the connection up and closes it in the background, so that what it was lent comes back
    /// at once.
    pub(super) fn close(&self) {
        let Some(live) = self
            .current
            .try_lock()
            .ok()
            .and_then(|mut current| current.take())
        else {
            return;
        };
        // Holds the thread that serves the connection until it is closed.
        let io = Arc::clone(&self.io);
        self.io.detach(async move {
            let closing = live.connection.close(REPLY_SUCCESS, "closed".into());
            drop(tokio::time::timeout(CLOSE_MAX, closing).await);
            drop(io);
        });
    }
}

impl Live {
    /// Whether it still works, as far as is known.
    pub(super) fn connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// The channel to publish on, in confirm mode.
    pub(super) async fn publisher(&self) -> lapin::Result<Channel> {
        let mut publisher = self.publisher.lock().await;
        if let Some(channel) = publisher
            .as_ref()
            .filter(|channel| channel.status().connected())
        {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(publisher.insert(channel).clone())
    }

    /// Why the broker takes nothing more for now, if it does not.
    pub(super) fn blocked(&self) -> Option<String> {
        let unnamed = || {
            self.connection
                .status()
                .blocked()
                .then(|| "an alarm is set".to_owned())
        };
        self.blocked.borrow().clone().or_else(unnamed)
    }

    /// Waits until the broker takes messages again, at most `within`; the reason if it does not.
    pub(super) async fn unblocked(&self, within: Duration) -> Result<(), String> {
        let mut blocked = self.blocked.clone();
        let freed = tokio::time::timeout(within, blocked.wait_for(Option::is_none)).await;
        match freed {
            Ok(_) => Ok(()),
            Err(_) => Err(self.blocked().unwrap_or_default()),
        }
    }

    /// Waits until the broker says that it takes no messages, at most `within`; the reason if it does.
    pub(super) async fn blocks(&self, within: Duration) -> Option<String> {
        let mut blocked = self.blocked.clone();
        let told = tokio::time::timeout(within, blocked.wait_for(Option::is_some)).await;
        told.ok()?.ok()?.clone()
    }

    /// Whether a queue was seen on this connection.
    pub(super) fn has_seen(&self, queue: &str) -> bool {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(queue)
    }

    /// Remembers that a queue exists.
    pub(super) fn saw(&self, queue: &str) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(queue.to_owned());
    }

    /// Queues that this process made lately.
    pub(super) fn young(&self) -> &Young {
        &self.young
    }

    /// Forgets that a queue exists.
    pub(super) fn missed(&self, queue: &str) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(queue);
    }
}
