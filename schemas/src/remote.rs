//! Addresses of the web: at which hosts images may be, and webhooks.
//!
//! A worker fetches from the hosts that its operator lists, and says so in its announcement, so that
//! a submitter refuses what no worker would fetch. A host is written `HOST`, for the ports of http
//! and https, or `HOST:PORT`; `*` is every public host on those two ports. Addresses that are not
//! public are fetched from only where they are listed as such, by number.

mod address;

use core::net::{IpAddr, SocketAddr};

use url::{Host, Url};

/// Every public host.
pub const ANY_HOST: &str = "*";
/// Bytes of an address.
pub const URL_BYTES_MAX: usize = 8_192;

/// Whether a reference is to the web.
pub fn is_remote(written: &str) -> bool {
    written.starts_with("http://") || written.starts_with("https://")
}

/// A host as it is listed, in its one form; the error says what is wrong with it.
pub fn parse_host(written: &str) -> Result<String, String> {
    if written == ANY_HOST {
        return Ok(written.to_owned());
    }
    let url = Url::parse(&format!("http://{written}"))
        .map_err(|error| format!("`{written}` is no host: {error}"))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    // However it is written: in a host's name `%2A` is the same.
    let one = !url.host_str().unwrap_or_default().contains('*');
    if !one
        || !bare
        || !url.username().is_empty()
        || url.password().is_some()
        || written.ends_with('/')
    {
        return Err(format!(
            "`{written}` is no host, it must be `HOST`, `HOST:PORT` or `*`"
        ));
    }
    Ok(origin(&url))
}

/// The host of an address, and its port unless it is the scheme's own: as hosts are listed.
pub fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A name that leads nowhere but inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is at {address}, which is not a public address")]
pub struct NotPublic {
    /// The name.
    pub name: String,
    /// An address that it leads to.
    pub address: IpAddr,
}

/// The public ones among the addresses that a name leads to: a name never leads inside.
pub fn public_only(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, NotPublic> {
    let (public, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.partition(|address| address::is_public(address.ip()));
    match other.first() {
        Some(address) if public.is_empty() => Err(NotPublic {
            name: name.to_owned(),
            address: address.ip(),
        }),
        _ => Ok(public),
    }
}

/// Whether the address's host is listed by itself.
fn is_named(url: &Url, hosts: &[String]) -> bool {
    hosts.contains(&origin(url))
}

/// An address at one of these hosts; the error says why it is not fetched.
pub fn check(written: &str, hosts: &[String]) -> Result<Url, String> {
    if written.len() > URL_BYTES_MAX {
        return Err(format!(
            "its address is {} bytes, the limit is {URL_BYTES_MAX}",
            written.len()
        ));
    }
    let url = Url::parse(written).map_err(|error| format!("its address is none: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "its address has the scheme `{}`, it must be `http` or `https`",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address holds a user or a password, which are not sent".to_owned());
    }
    if is_named(&url, hosts) {
        return Ok(url);
    }
    if url.port().is_none() && hosts.iter().any(|host| host == ANY_HOST) {
        let literal = match url.host() {
            Some(Host::Ipv4(literal)) => Some(IpAddr::V4(literal)),
            Some(Host::Ipv6(literal)) => Some(IpAddr::V6(literal)),
            Some(Host::Domain(_)) | None => None,
        };
        return match literal {
            Some(literal) if !address::is_public(literal) => {
                Err(format!("{literal} is not a public address"))
            }
            _ => Ok(url),
        };
    }
    let listed: Vec<_> = hosts.iter().map(|host| format!("`{host}`")).collect();
    Err(format!(
        "it is at `{}`, fetched is from {} only",
        origin(&url),
        listed.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(listed: &[&str]) -> Vec<String> {
        let parsed = listed.iter().map(|host| parse_host(host).unwrap());
        parsed.collect()
    }

    #[test]
    fn hosts_have_one_form() {
        for (written, form) in [
            ("*", "*"),
            ("Example.ORG", "example.org"),
            ("example.org:80", "example.org"),
            ("example.org:8080", "example.org:8080"),
            ("0x7f.1", "127.0.0.1"),
            ("[0:0::1]:9", "[::1]:9"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(parse_host(written).as_deref(), Ok(form));
        }
        for wrong in [
            "", "a b", "a/b", "a/", "user@a", "a?b", "a#b", "http://a", "a:x", "a:99999", "*.a",
            "%2A", "%2a.a", "~a%2A",
        ] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_listed_hosts_are_fetched_from() {
        let listed = hosts(&["a.example", "b.example:8080", "127.0.0.1:9"]);
        for address in [
            "http://a.example/x.png?y#z",
            "https://A.example:443/",
            "http://b.example:8080/",
            "http://127.1:9/",
        ] {
            assert!(check(address, &listed).is_ok(), "{address}");
        }
        for (address, said) in [
            (
                "https://c.example/",
                "it is at `c.example`, fetched is from `a.example`, `b.example:8080`, `127.0.0.1:9` only",
            ),
            ("http://a.example:81/", "it is at `a.example:81`"),
            ("http://b.example/", "it is at `b.example`"),
            ("http://a.example.evil/", "it is at `a.example.evil`"),
            ("http://u:p@a.example/", "holds a user"),
            ("http://a.example@c.example/", "holds a user"),
            ("ftp://a.example/", "the scheme `ftp`"),
            ("file:///etc/passwd", "the scheme `file`"),
            ("http://", "its address is none"),
        ] {
            let refused = check(address, &listed).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        let long = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX));
        assert!(
            check(&long, &listed)
                .unwrap_err()
                .contains("the limit is 8192")
        );
    }

    #[test]
    fn any_host_is_on_the_two_known_ports() {
        let any = hosts(&["*"]);
        assert!(check("https://c.example/", &any).is_ok());
        assert!(check("http://c.example:8080/", &any).is_err());
        assert!(check("http://8.8.8.8/", &any).is_ok());
        for inside in ["http://127.0.0.1/", "http://[::1]/", "http://0x7f.1/"] {
            let refused = check(inside, &any).unwrap_err();
            assert!(refused.ends_with("is not a public address"), "{refused}");
        }
        let listed = hosts(&["*", "127.0.0.1"]);
        assert!(check("http://127.0.0.1/", &listed).is_ok());
    }
    #[test]
    fn a_name_leads_to_public_addresses_only() {
        let addresses = |written: &[&str]| -> Vec<SocketAddr> {
            written.iter().map(|one| one.parse().unwrap()).collect()
        };
        let both = addresses(&["127.0.0.1:0", "8.8.8.8:0"]);
        let public = public_only("a", both.into_iter()).unwrap();
        assert_eq!(public, addresses(&["8.8.8.8:0"]));
        let inside = public_only("a", addresses(&["10.0.0.1:0"]).into_iter());
        let said = inside.unwrap_err().to_string();
        assert_eq!(said, "`a` is at 10.0.0.1, which is not a public address");
        assert_eq!(public_only("a", std::iter::empty()), Ok(Vec::new()));
    }
}
