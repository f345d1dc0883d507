//! Short words with a form: addresses of the web, references to media, places in traces.
#![no_main]

use std::net::IpAddr;

use lapidary_schemas::remote::{ANY_HOST, check, parse_host};
use lapidary_schemas::{MediaRef, TraceContext};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(media) = text.parse::<MediaRef>() {
        assert_eq!(media.to_string(), text);
    }
    if let Some(context) = TraceContext::parse(text) {
        assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
    }
    if let Ok(host) = parse_host(text) {
        assert_eq!(parse_host(&host).as_ref(), Ok(&host));
    }
    let Ok(url) = check(text, &[ANY_HOST.to_owned()]) else {
        return;
    };
    assert!(matches!(url.scheme(), "http" | "https") && url.port().is_none());
    assert!(url.username().is_empty() && url.password().is_none());
    let host = url.host_str().unwrap_or_default();
    let inside = match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => {
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.to_ipv4().is_some()
                || ip.is_unique_local()
        }
        Err(_) => false,
    };
    assert!(!inside, "{url} leads inside");
    // It stays the same address.
    assert_eq!(check(url.as_str(), &[ANY_HOST.to_owned()]), Ok(url.clone()));
});
