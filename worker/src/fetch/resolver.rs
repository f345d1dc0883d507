//! Names of hosts to addresses that may be connected to.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::is_public;

/// The system's resolver, less everything that is not public: a name never leads inside.
#[derive(Debug)]
pub(super) struct PublicAddresses;

/// A name that leads nowhere but inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is at {address}, which is not a public address")]
pub(super) struct NotPublic {
    name: String,
    address: IpAddr,
}

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let (public, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| is_public(address.ip()));
            match other.first() {
                Some(address) if public.is_empty() => Err(NotPublic {
                    name: name.to_owned(),
                    address: address.ip(),
                }
                .into()),
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}
