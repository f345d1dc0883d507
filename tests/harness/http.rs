//! A request to a server on this machine, over a connection of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest time without a byte of the answer.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// What `port` answers to `GET path`: status and body.
///
/// # Errors
/// If nobody answers.
pub fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    ask(port, ("GET", path), &[], b"")
}

/// What `port` answers to a body of JSON that is posted to `path`: status and body.
///
/// # Errors
/// If nobody answers.
pub fn post(port: u16, path: &str, json: &str) -> std::io::Result<(u16, String)> {
    post_with(port, path, &[], json)
}

/// As [`post`], with more headers.
///
/// # Errors
/// If nobody answers.
pub fn post_with(
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    json: &str,
) -> std::io::Result<(u16, String)> {
    let kind = ("Content-Type", "application/json");
    let headers = [&[kind], headers].concat();
    ask(port, ("POST", path), &headers, json.as_bytes())
}

/// What `port` answers to bytes that are put at `path`: status and body.
///
/// # Errors
/// If nobody answers.
pub fn put(port: u16, path: &str, bytes: &[u8]) -> std::io::Result<(u16, String)> {
    let kind = ("Content-Type", "application/octet-stream");
    ask(port, ("PUT", path), &[kind], bytes)
}

/// A text as a value in a query.
pub fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn ask(
    port: u16,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let headers = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let headers = headers.collect::<Vec<_>>().concat();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let broken = || std::io::Error::other(format!("no HTTP: {answer:.200}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(broken)?, body.to_owned()))
}
