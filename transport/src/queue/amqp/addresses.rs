//! Where a broker is: one address, or those of a cluster's nodes, which are tried in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::uri::{AMQPScheme, AMQPUri};

/// Nodes that an address may name.
const NODES_MAX: usize = 16;
/// Seconds without a sign of life after which either side gives the other up.
const HEARTBEAT_S: u16 = 20;

/// The nodes of a broker.
#[derive(Debug)]
pub(super) struct Addresses {
    nodes: Vec<AMQPUri>,
    /// The one that was reached last.
    last: AtomicUsize,
}

impl Addresses {
    /// Reads `amqp://[user:password@]host[:port][,host[:port]…]/vhost`.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("there is no `://` in it")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.len() > NODES_MAX {
            let count = hosts.len();
            return Err(format!("it names {count} nodes, the limit is {NODES_MAX}"));
        }
        if hosts.len() > 1 && hosts.contains(&"") {
            return Err("one of its nodes has no name".to_owned());
        }
        let node = |host: &str| {
            let mut node: AMQPUri = format!("{scheme}://{user}{host}{tail}").parse()?;
            // The library takes an address of IPv6 for none, and none for localhost.
            if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']'))
            {
                address.clone_into(&mut node.authority.host);
            }
            node.query.heartbeat.get_or_insert(HEARTBEAT_S);
            Ok(node)
        };
        Ok(Self {
            nodes: hosts.into_iter().map(node).collect::<Result<_, String>>()?,
            last: AtomicUsize::new(0),
        })
    }

    /// All of them without credentials, as messages show them.
    pub(super) fn shown(&self) -> String {
        let place = |node: &AMQPUri| match (&*node.authority.host, node.authority.port) {
            (host, port) if host.contains(':') => format!("[{host}]:{port}"),
            (host, port) => format!("{host}:{port}"),
        };
        let places: Vec<String> = self.nodes.iter().map(place).collect();
        let scheme = match self.nodes.first().map(|node| &node.scheme) {
            Some(AMQPScheme::AMQPS) => "amqps",
            _ => "amqp",
        };
        format!("{scheme}://{}", places.join(","))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All of them with their numbers, the one that was reached last first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &AMQPUri)> {
        let (first, later) = (self.last.load(Ordering::Relaxed), self.len());
        let numbered = self.nodes.iter().enumerate().cycle();
        numbered.skip(first).take(later)
    }

    /// Notes that this one was reached.
    pub(super) fn reached(&self, number: usize) {
        self.last.store(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(addresses: &Addresses) -> Vec<u16> {
        let nodes = addresses.in_turn();
        nodes.map(|(_, node)| node.authority.port).collect()
    }

    #[test]
    fn nodes_share_all_but_their_place() {
        let url = "amqps://me:a%2Cb@one,two:5673,[::1]:5674/v?heartbeat=7";
        let addresses = Addresses::parse(url).unwrap();
        assert_eq!(addresses.shown(), "amqps://one:5671,two:5673,[::1]:5674");
        for (_, node) in addresses.in_turn() {
            assert_eq!(node.authority.userinfo.password, "a,b");
            assert_eq!((node.vhost.as_str(), node.query.heartbeat), ("v", Some(7)));
        }
    }

    #[test]
    fn the_one_that_was_reached_last_comes_first() {
        let addresses = Addresses::parse("amqp://a:1,b:2,c:3/%2f").unwrap();
        assert_eq!(ports(&addresses), [1, 2, 3]);
        addresses.reached(1);
        assert_eq!(ports(&addresses), [2, 3, 1]);
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (url, said) in [
            ("amqp:host", "there is no `://` in it"),
            ("amqp://a,,b/%2f", "one of its nodes has no name"),
            (
                "amqp://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17/%2f",
                "it names 17 nodes, the limit is 16",
            ),
        ] {
            assert_eq!(Addresses::parse(url).unwrap_err(), said);
        }
    }
}
