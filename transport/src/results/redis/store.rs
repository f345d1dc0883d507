//! The connection: opening it, calling scripts, and what its errors mean.

use std::time::{Duration, Instant};

use futures::stream::{Stream, StreamExt as _};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script};
use tokio::sync::Mutex;

use super::keys::VERSION;
use crate::open::without_credentials;
use crate::results::ResultsError;
use crate::tls;

/// Longest wait for an answer; a disk that syncs every write may be slow.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Calls of one request until a lost connection is reported.
const CALLS_MAX: usize = 3;
/// Longest wait for a replica to have what was written.
const REPLICA_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether there are replicas.
const REPLICAS_LOOK: Duration = Duration::from_secs(30);
/// The layout this build reads and writes.
const LAYOUT: u32 = 1;
/// Connections kept for blocking reads.
const READERS_MAX: usize = 8;

/// A Redis server, with a connection that is made again when it is lost.
#[derive(Debug)]
pub(super) struct Store {
    client: Client,
    place: String,
    manager: ConnectionManager,
    readers: std::sync::Mutex<Vec<MultiplexedConnection>>,
    replicas: Mutex<Option<(Instant, u32)>>,
}

impl Store {
    /// Connects, and refuses a server that would lose what it confirmed.
    pub(super) async fn open(url: &str, lossy_allowed: bool) -> Result<Self, ResultsError> {
        tls::provide();
        let client = Client::open(url).map_err(|error| ResultsError::Unusable {
            message: format!(
                "address cannot be read: {}",
                error.detail().unwrap_or("no redis URL")
            ),
        })?;
        let place = without_credentials(url);
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_number_of_retries(4)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_secs(1));
        let manager = client
            .get_connection_manager_with_config(config)
            .await
            .map_err(|error| fault(&place, &error))?;
        let (readers, replicas) = (std::sync::Mutex::default(), Mutex::default());
        let store = Self {
            client,
            place,
            manager,
            readers,
            replicas,
        };
        if !lossy_allowed {
            store.refuse_lossy().await?;
        }
        store.refuse_other_layout().await?;
        Ok(store)
    }

    async fn refuse_lossy(&self) -> Result<(), ResultsError> {
        let needed = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
        ];
        for (name, value) in needed {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let found: Vec<String> = command
                .query_async(&mut self.manager.clone())
                .await
                .map_err(|error| match fault(&self.place, &error) {
                    ResultsError::Unreachable { url, message } => {
                        ResultsError::Unreachable { url, message }
                    }
                    _ => ResultsError::Unusable {
                        message: format!(
                            "Redis does not tell its `{name}`, so it may lose results"
                        ),
                    },
                })?;
            let is = found.get(1).map_or("", String::as_str);
            if is != value {
                let message = format!(
                    "Redis has `{name} {is}` and may lose results that it confirmed: set \
                     `{name} {value}`, or allow a lossy store"
                );
                return Err(ResultsError::Unusable { message });
            }
        }
        Ok(())
    }

    async fn refuse_other_layout(&self) -> Result<(), ResultsError> {
        let mut command = redis::pipe();
        command
            .cmd("SETNX")
            .arg(VERSION)
            .arg(LAYOUT)
            .ignore()
            .cmd("GET")
            .arg(VERSION);
        let (found,): (u32,) = self.query_pipe(&command).await?;
        if found == LAYOUT {
            return Ok(());
        }
        let message = format!("its layout has version {found}, this build reads version {LAYOUT}");
        Err(ResultsError::Unusable { message })
    }

    /// Runs a script; one that may safely run twice is repeated after a lost connection.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, ResultsError> {
        for _ in 1..CALLS_MAX {
            match self.run_once(script, keys, args).await {
                Err(ResultsError::Unreachable { .. }) => {}
                answer => return answer,
            }
        }
        self.run_once(script, keys, args).await
    }

    /// Runs a script that must not run twice.
    pub(super) async fn run_once<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, ResultsError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for arg in args {
            call.arg(arg);
        }
        // Loads the script where the server does not know it (any more).
        call.invoke_async(&mut self.manager.clone())
            .await
            .map_err(|error| fault(&self.place, &error))
    }

    /// Runs a command that may safely run twice.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Result<T, ResultsError> {
        for _ in 1..CALLS_MAX {
            match command.query_async(&mut self.manager.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match fault(&self.place, &error) {
                    ResultsError::Unreachable { .. } => {}
                    other => return Err(other),
                },
            }
        }
        let last = command.query_async(&mut self.manager.clone()).await;
        last.map_err(|error| fault(&self.place, &error))
    }

    /// Runs commands that may safely run twice.
    pub(super) async fn query_pipe<T: FromRedisValue>(
        &self,
        commands: &redis::Pipeline,
    ) -> Result<T, ResultsError> {
        for _ in 1..CALLS_MAX {
            match commands.query_async(&mut self.manager.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match fault(&self.place, &error) {
                    ResultsError::Unreachable { .. } => {}
                    other => return Err(other),
                },
            }
        }
        let last = commands.query_async(&mut self.manager.clone()).await;
        last.map_err(|error| fault(&self.place, &error))
    }

    /// Returns once a replica has what was written before, where there are replicas.
    pub(super) async fn replicated(&self) -> Result<(), ResultsError> {
        if self.replicas().await? == 0 {
            return Ok(());
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(1).arg(REPLICA_MAX.as_millis().to_string());
        let replicas: u32 = self.query(&wait).await?;
        if replicas > 0 {
            return Ok(());
        }
        *self.replicas.lock().await = None;
        let message = format!(
            "no replica has confirmed within {} s",
            REPLICA_MAX.as_secs()
        );
        Err(ResultsError::Unreachable {
            url: self.place.clone(),
            message,
        })
    }

    async fn replicas(&self) -> Result<u32, ResultsError> {
        let mut known = self.replicas.lock().await;
        if let Some((when, replicas)) = *known
            && when.elapsed() < REPLICAS_LOOK
        {
            return Ok(replicas);
        }
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let text: String = self.query(&info).await?;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("connected_slaves:"));
        let replicas = count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
        *known = Some((Instant::now(), replicas));
        Ok(replicas)
    }

    /// Waits for a stream to grow behind `cursor`, at most `timeout`, on a connection of its own.
    pub(super) async fn wait_for(
        &self,
        stream: &str,
        cursor: &str,
        timeout: Duration,
    ) -> Result<(), ResultsError> {
        let mut reader = self.reader(timeout).await?;
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(timeout.as_millis().max(1).to_string());
        read.arg("STREAMS").arg(stream).arg(cursor);
        let waiting = read.query_async::<redis::Value>(&mut reader);
        match tokio::time::timeout(timeout + ANSWER_MAX, waiting).await {
            Ok(Ok(_)) => {
                let mut idle = self
                    .readers
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if idle.len() < READERS_MAX {
                    idle.push(reader);
                }
                Ok(())
            }
            Ok(Err(error)) => Err(fault(&self.place, &error)),
            Err(_) => {
                let message = format!("no answer within {} s", ANSWER_MAX.as_secs());
                Err(ResultsError::Unreachable {
                    url: self.place.clone(),
                    message,
                })
            }
        }
    }

    /// What is told on a channel from now on, on a connection of its own.
    pub(super) async fn notices(
        &self,
        channel: &str,
    ) -> Result<impl Stream<Item = ()> + Send + use<>, ResultsError> {
        let subscribing = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok(subscription.into_on_message().map(|_| ()))
        };
        match tokio::time::timeout(CONNECT_MAX, subscribing).await {
            Ok(subscribed) => subscribed.map_err(|error| fault(&self.place, &error)),
            Err(_) => Err(ResultsError::Unreachable {
                url: self.place.clone(),
                message: format!("no connection within {} s", CONNECT_MAX.as_secs()),
            }),
        }
    }

    /// A connection nobody else uses: a blocking read holds up all that shares its connection.
    async fn reader(&self, timeout: Duration) -> Result<MultiplexedConnection, ResultsError> {
        let idle = self
            .readers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        if let Some(mut reader) = idle {
            reader.set_response_timeout(timeout + ANSWER_MAX);
            return Ok(reader);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(timeout + ANSWER_MAX));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| fault(&self.place, &error))
    }
}

/// What an error of the server or the connection means to the caller.
fn fault(place: &str, error: &RedisError) -> ResultsError {
    use redis::{ErrorKind, ServerErrorKind as Server};
    let message = error.to_string();
    // Memory is at its limit, or the append-only file cannot be written.
    if matches!(error.code(), Some("OOM" | "MISCONF")) {
        return ResultsError::StorageFull { message };
    }
    let away = error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                Server::BusyLoading | Server::MasterDown | Server::ReadOnly | Server::TryAgain
            )
        )
        || error.code() == Some("BUSY");
    if away {
        ResultsError::Unreachable {
            url: place.to_owned(),
            message,
        }
    } else {
        ResultsError::Unusable {
            message: format!("server at {place} refuses: {message}"),
        }
    }
}
