//! A wire that can be cut: stands between a client and a server.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Passes everything on.
    Open,
    /// Keeps connections and passes nothing on, as a broken network does.
    Silent,
    /// Has no connections and accepts none.
    Cut,
}

/// A TCP proxy to one server on this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    leads_to: Arc<AtomicU16>,
    wire: watch::Sender<Wire>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy to `port`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("no free port");
        let own = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let (wire, watched) = watch::channel(Wire::Open);
        let leads_to = Arc::new(AtomicU16::new(port));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&leads_to), watched));
        Self {
            port: own,
            leads_to,
            wire,
            _tasks: tasks,
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another server from now on; every connection there is breaks.
    pub fn lead_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::Relaxed);
        self.cut_once();
    }

    /// Changes what the wire does.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Whether it passes everything on.
    pub fn is_open(&self) -> bool {
        *self.wire.borrow() == Wire::Open
    }

    /// Opens the wire again if it was closed; what was silent breaks then.
    pub fn mend(&self) {
        if !self.is_open() {
            self.set(Wire::Open);
        }
    }

    /// Breaks every connection there is; new ones pass.
    pub fn cut_once(&self) {
        self.set(Wire::Cut);
        self.set(Wire::Open);
    }
}

async fn accept(listener: TcpListener, leads_to: Arc<AtomicU16>, wire: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *wire.borrow() == Wire::Cut {
            continue;
        }
        let port = leads_to.load(Ordering::Relaxed);
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            continue;
        };
        connections.spawn(join(client, server, wire.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes both ways until one side ends or the wire is cut.
async fn join(client: TcpStream, server: TcpStream, mut wire: watch::Receiver<Wire>) {
    wire.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let watched = wire.clone();
    let cut = async {
        loop {
            // A cut may be over before it is seen: any change but silence ends the connection.
            if wire.changed().await.is_err() || *wire.borrow_and_update() != Wire::Silent {
                break;
            }
        }
    };
    tokio::select! {
        () = cut => {}
        () = pass(from_client, to_server, watched.clone()) => {}
        () = pass(from_server, to_client, watched) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
            return;
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
                    return;
                }
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
