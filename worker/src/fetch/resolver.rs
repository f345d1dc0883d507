//! Names of hosts to addresses that may be connected to.

use lapidary_schemas::remote;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver, less everything that is not public: a name never leads inside.
#[derive(Debug)]
pub(super) struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let public = remote::public_only(name, found)?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}
