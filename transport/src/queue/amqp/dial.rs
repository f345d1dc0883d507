//! Opening a connection, in the clear or by TLS.
//!
//! The client library's own TLS brings some fifty crates for key files that nobody has here. Its runtime
//! makes its streams, so a runtime whose streams are TLS is all that is needed.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::Stream;
use futures::io::{AsyncRead, AsyncWrite};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::tls;

/// Connects as the address says.
pub(super) async fn dial(
    mut uri: AMQPUri,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    if uri.scheme == AMQPScheme::AMQP {
        return Connection::connect_uri(uri, properties).await;
    }
    let host = ServerName::try_from(uri.authority.host.clone()).map_err(io::Error::other)?;
    let (config, tokio) = (tls::config()?, Tokio::current());
    let encrypted = Encrypted {
        config,
        host,
        tokio: tokio.clone(),
    };
    // What is in the clear for the library is not on the wire.
    uri.scheme = AMQPScheme::AMQP;
    let runtime = Runtime::new(RuntimeParts::new(tokio, encrypted));
    Connection::connect_uri_with_runtime(uri, properties, runtime).await
}

/// Makes streams that are TLS to one host, and is tokio otherwise.
#[derive(Debug, Clone)]
struct Encrypted {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
    tokio: Tokio,
}

impl Reactor for Encrypted {
    type TcpStream = Compat<TlsStream<TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let host = self.host.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(connector.connect(host, stream).await?.compat())
        }
    }
}
