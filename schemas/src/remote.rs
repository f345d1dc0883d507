//! Images at addresses of the web: which hosts they may be at.
//!
//! A worker fetches from the hosts that its operator lists, and says so in its announcement, so that
//! a submitter refuses what no worker would fetch. A host is written `HOST`, for the ports of http
//! and https, or `HOST:PORT`; `*` is every public host on those two ports. Addresses that are not
//! public are fetched from only where they are listed as such, by number.

use url::Url;

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
    let one = !written.contains('*');
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

/// Whether the address's host is listed by itself.
pub fn is_named(url: &Url, hosts: &[String]) -> bool {
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
    let any = url.port().is_none() && hosts.iter().any(|host| host == ANY_HOST);
    if any || is_named(&url, hosts) {
        return Ok(url);
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
        let url = check("http://127.0.0.1/", &any).unwrap();
        assert!(!is_named(&url, &any));
    }
}
