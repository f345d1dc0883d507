//! Active markup: what would run, or show something foreign, where a text is displayed as HTML.
//!
//! A real tokenizer reads the text as a browser would, so that letter case, odd spaces, character
//! references and stray quotes hide nothing. Elements with content are found from their start tag to
//! their end tag; one that is never closed is found as its start tag, and what follows is looked at
//! as markup again, since taking the tag away would bring it to life.
//!
//! What is harmless however it is read, as most of a text is, is passed over in one go ([`HARMLESS`]).

use std::convert::Infallible;
use std::ops::Range;
use std::sync::LazyLock;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Emitter as _, ForwardingEmitter, Span, State, Token, Tokenizer};
use regex::bytes::Regex;

use super::find::{Finding, Findings};

/// The names of its rules.
pub(super) const RULES: &[&str] = &[
    "script",
    "iframe",
    "object",
    "embed",
    "script_url",
    "event_handler",
];

/// Elements that are found with what they contain.
const CONTAINERS: [&str; 3] = ["script", "iframe", "object"];
const SCRIPT: Name = Name::Container(0);
/// Characters of an address that its scheme is looked for in.
const SCHEME_CHARS_MAX: usize = 64;
/// Schemes of addresses that run something.
const SCHEMES: [&str; 3] = ["javascript:", "vbscript:", "data:text/html"];

/// Finds active markup.
pub(super) fn look(text: &str, findings: &mut Findings) {
    look_links(text, findings);
    let Some(first) = text.find('<') else {
        return;
    };
    let Some(unclosed) = scan(text, first, true, findings) else {
        return;
    };
    // Everything behind an unclosed script was taken for its content.
    scan(text, unclosed, false, findings);
}

/// Links of Markdown, `](address)`, and what they refer to, `]: address`. What is found is the beginning of an
/// address, without what stands around it: a tag may end there, and another link begin.
fn look_links(text: &str, findings: &mut Findings) {
    for (at, _) in text.match_indices(']') {
        let behind = text.get(at + 1..).unwrap_or_default();
        let Some(address) = behind.strip_prefix(['(', ':']) else {
            continue;
        };
        let blank = |char: char| matches!(char, '<' | ' ') || char.is_ascii_control();
        let address = address.trim_start_matches(blank);
        if is_active_link(address) {
            let ends = |char| blank(char) || matches!(char, '>' | ')' | ']' | '"' | '\'');
            let start = text.len() - address.len();
            let length = address.find(ends).unwrap_or(address.len());
            findings.push(Finding::new("script_url", start..start + length, 1.0));
        }
    }
}

/// Whether an address in Markdown runs something: character references stand for characters there, too, and
/// backslashes for nothing.
fn is_active_link(address: &str) -> bool {
    /// Bytes that hold as many characters as a scheme is looked for in, though each be a reference.
    const REFERENCES_BYTES_MAX: usize = 8 * SCHEME_CHARS_MAX;
    let plain = address.bytes().filter(|byte| *byte != b'\\');
    if is_active(plain) {
        return true;
    }
    let head = &address[..address.floor_char_boundary(REFERENCES_BYTES_MAX)];
    let head = head.split('<').next().unwrap_or_default();
    if !head.contains('&') {
        return false;
    }
    let decoded = Tokenizer::new(head)
        .flatten()
        .filter_map(|token| match token {
            Token::String(text) => Some(text.value),
            _ => None,
        });
    let decoded = decoded.flat_map(|text| text.0);
    is_active(decoded.filter(|byte| *byte != b'\\'))
}

/// Looks at the text from `from` on. Returns where an unclosed script's start tag ends.
fn scan(text: &str, from: usize, scripts: bool, findings: &mut Findings) -> Option<usize> {
    let mut reader = Reader::new(scripts, findings);
    let mut next = Some(from);
    while let Some(at) = next {
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        let at = at + HARMLESS.find(rest).map_or(0, |harmless| harmless.end());
        next = tokens(text, at, &mut reader).next().map(|Ok(end)| end);
    }
    reader.end()
}

/// The ends of the tags and comments from `from` on, which is inside of none and of no script; the reader is
/// told of all that they are made of.
fn tokens(
    text: &str,
    from: usize,
    reader: &mut Reader<'_>,
) -> impl Iterator<Item = Result<usize, Infallible>> {
    let scripts = reader.scripts;
    let emitter = CallbackEmitter::new(move |event: CallbackEvent<'_>, span: Span<usize>| {
        reader.read(&event, span.start + from..span.end + from)
    });
    let rest = text.get(from..).unwrap_or_default();
    Tokenizer::new_with_emitter(rest, Scripts { emitter, scripts })
}

/// Text, and tags that are none of those that are looked for, with no attribute that could be: no name
/// begins with `on`, and where a name begins as that of an address does, no value begins as one that
/// runs something could.
static HARMLESS: LazyLock<Regex> = LazyLock::new(|| {
    /// Names whose first two letters are none of these pairs.
    fn other_than(pairs: &[&str], more: &str) -> String {
        let firsts: String = pairs.iter().map(|pair| &pair[..1]).collect();
        let others = pairs.iter().map(|pair| {
            let (first, second) = pair.split_at(1);
            format!("|{first}(?:[{more}&&[^{second}]][{more}]*)?")
        });
        let others: String = others.collect();
        format!("(?:[a-z&&[^{firsts}]][{more}]*{others})")
    }
    const BLANK: &str = r"[\t\n\x0C\r ]";
    // That begins like a scheme, or a reference to a character of one, or with what counts for nothing.
    const FIRST: &str = r"\x00-\x20\x7Fdjv&";
    let tag = other_than(&["sc", "if", "ob", "em"], r"0-9a-z\-");
    let tag = format!("(?:{tag}|em)");
    let more = r"0-9a-z_:.\-";
    let free = other_than(&["on", "hr", "xl", "sr", "ac", "fo", "da", "po"], more);
    let address = format!("(?:hr|xl|sr|ac|fo|da|po)[{more}]*");
    let any = r#"(?:"[^"]*"|'[^']*'|[^\x00-\x20"'<=>`]+)"#;
    let inactive = format!(
        r#"(?:"(?:[^{FIRST}"][^"]*)?"|'(?:[^{FIRST}'][^']*)?'|[^{FIRST}"'<=>`][^\x00-\x20"'<=>`]*)"#
    );
    let is = format!("{BLANK}*={BLANK}*");
    let attribute = format!("{BLANK}+(?:{free}(?:{is}{any})?|{address}(?:{is}{inactive})?)");
    let form =
        format!("(?i-u)^(?:[^<]|<+[^<a-z/!?]|</{tag}{BLANK}*>|<{tag}(?:{attribute})*{BLANK}*/?>)*");
    Regex::new(&form).expect("it is written here, and compiled by every test")
});

/// Reads the content of scripts as such, and all other content as markup: whether a browser would
/// depends on its settings and on what stands around.
struct Scripts<E> {
    emitter: E,
    scripts: bool,
}

impl<F> ForwardingEmitter for Scripts<CallbackEmitter<F, usize, usize>>
where
    F: FnMut(CallbackEvent<'_>, Span<usize>) -> Option<usize>,
{
    type Token = usize;

    fn inner(&mut self) -> &mut impl html5gum::Emitter<Token = usize> {
        &mut self.emitter
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        self.emitter.naively_switch_states(self.scripts);
        let next = self.emitter.emit_current_tag();
        next.filter(|next| *next == State::ScriptData)
    }
}

/// What was read so far.
struct Reader<'a> {
    /// Whether the content of scripts is that, and no markup.
    scripts: bool,
    findings: &'a mut Findings,
    /// The start tag that is being read.
    tag: Option<Tag>,
    /// Whether its attribute that is being read is an address.
    attribute: bool,
    /// Start tags of [`CONTAINERS`] without their end tags, by name.
    open: [Vec<Range<usize>>; 3],
}

struct Tag {
    name: Name,
    start: usize,
    rule: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// One of [`CONTAINERS`].
    Container(usize),
    Embed,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        let container = CONTAINERS.iter().position(|known| known.as_bytes() == name);
        match (container, name) {
            (Some(container), _) => Self::Container(container),
            (None, b"embed") => Self::Embed,
            (None, _) => Self::Other,
        }
    }
}

impl<'a> Reader<'a> {
    fn new(scripts: bool, findings: &'a mut Findings) -> Self {
        Self {
            scripts,
            findings,
            tag: None,
            attribute: false,
            open: [const { Vec::new() }; 3],
        }
    }

    /// Reads on. Returns where a tag or comment ends that text follows, which is no script.
    fn read(&mut self, event: &CallbackEvent<'_>, span: Range<usize>) -> Option<usize> {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                // `<javascript:…>` is a link in Markdown.
                let rule = is_active(name.iter().copied()).then_some("script_url");
                self.tag = Some(Tag {
                    name: Name::of(name),
                    start: span.start,
                    rule,
                });
            }
            CallbackEvent::AttributeName { name } => {
                self.attribute = is_address(name);
                let handler = name.len() > 2 && name.starts_with(b"on");
                self.found(handler.then_some("event_handler"));
            }
            CallbackEvent::AttributeValue { value } => {
                let active = self.attribute && is_active(value.iter().copied());
                self.found(active.then_some("script_url"));
            }
            CallbackEvent::CloseStartTag { .. } => {
                let name = self.close(span.end);
                return (!self.scripts || name != Some(SCRIPT)).then_some(span.end);
            }
            CallbackEvent::EndTag { name } => {
                if let Name::Container(container) = Name::of(name)
                    && let Some(start) = self.open[container].pop()
                {
                    self.push(CONTAINERS[container], start.start..span.end);
                }
                return Some(span.end);
            }
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } => return Some(span.end),
            CallbackEvent::String { .. } | CallbackEvent::Error(_) => {}
        }
        None
    }

    fn found(&mut self, rule: Option<&'static str>) {
        if let Some(tag) = &mut self.tag {
            tag.rule = tag.rule.or(rule);
        }
    }

    fn close(&mut self, end: usize) -> Option<Name> {
        let Tag { name, start, rule } = self.tag.take()?;
        match (name, rule) {
            (Name::Container(container), _) => self.open[container].push(start..end),
            (Name::Embed, _) => self.push("embed", start..end),
            (Name::Other, Some(rule)) => self.push(rule, start..end),
            (Name::Other, None) => {}
        }
        Some(name)
    }

    /// Elements that were never closed are found as their start tags. Returns where an unclosed script's
    /// start tag ends, whose content was taken for that.
    fn end(mut self) -> Option<usize> {
        let open = std::mem::take(&mut self.open);
        let [scripts, ..] = &open;
        let unclosed = scripts.first().map(|tag| tag.end);
        for (name, tags) in CONTAINERS.into_iter().zip(open) {
            for tag in tags {
                self.push(name, tag);
            }
        }
        unclosed.filter(|_| self.scripts)
    }

    fn push(&mut self, rule: &'static str, span: Range<usize>) {
        self.findings.push(Finding::new(rule, span, 1.0));
    }
}

/// Attributes that hold an address that is followed, or loaded.
fn is_address(name: &[u8]) -> bool {
    matches!(
        name,
        b"href" | b"xlink:href" | b"src" | b"action" | b"formaction" | b"data" | b"poster"
    )
}

/// Whether an address runs something. As for browsers, its case does not count, nor what is blank.
fn is_active(address: impl Iterator<Item = u8>) -> bool {
    let scheme = address
        .take(SCHEME_CHARS_MAX)
        .filter(|byte| !byte.is_ascii_control() && *byte != b' ')
        .map(|byte| byte.to_ascii_lowercase());
    let scheme: Vec<u8> = scheme.collect();
    SCHEMES
        .iter()
        .any(|active| scheme.starts_with(active.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a tokenizer finds that passes over nothing.
    fn scan_slowly(text: &str, scripts: bool) -> (Vec<Finding>, Option<usize>) {
        let mut findings = Findings::default();
        let mut reader = Reader::new(scripts, &mut findings);
        for Ok(_) in tokens(text, 0, &mut reader) {}
        let unclosed = reader.end();
        (findings.into_sure(0.0), unclosed)
    }

    fn pieces() -> impl Strategy<Value = String> {
        let parts = prop_oneof![
            "[<>/=\"' a-z!-]{0,12}",
            "</?[a-zA-Z]{1,3}[ /]?>?",
            "</?(script|SCRIPT|iframe|object|embed|em|section|input|a|p)[ \n>/]",
            " (on|ON|o|href|src|data|class|style|Action|poster|xlink:href)[a-z]{0,5} ?=? ?",
            "[\"']?[ \t\n]?(java|JAVA|j&#97;va)?(script|vb|data):?[a-z/]{0,6}[\"']?",
            "(<!--|-->|--!>|<!|<\\?|]]>|<!DOCTYPE|&#106;|&lt;|<<|\r\n|\r|`)",
            "[\u{7F}\u{1}é文]{1,2}",
        ];
        proptest::collection::vec(parts, 0..16).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]
        #[test]
        fn what_is_passed_over_is_harmless(text in pieces()) {
            for scripts in [true, false] {
                let mut findings = Findings::default();
                let unclosed = scan(&text, 0, scripts, &mut findings);
                let scanned = (findings.into_sure(0.0), unclosed);
                prop_assert_eq!(scanned, scan_slowly(&text, scripts), "{:?}", text);
            }
        }
    }

    #[test]
    fn most_of_a_page_is_passed_over() {
        let page = "<p class=\"x\">5 < 6, a <b>word</b>\n<img src='a.png' alt=\"\" width=10 data-a=\"b\"/>\
                    <a href=\"/x?a=1&amp;b=2\" title='it&#39;s'>é</a ></p><em>x</em>";
        assert_eq!(HARMLESS.find(page.as_bytes()).unwrap().end(), page.len());
    }
}
