//! Active markup: what would run, or show something foreign, where a text is displayed as HTML.
//!
//! A real tokenizer reads the text as a browser would, so that letter case, odd spaces, character
//! references and stray quotes hide nothing. Elements with content are found from their start tag to
//! their end tag; one that is never closed is found as its start tag, and what follows is looked at
//! as markup again, since taking the tag away would bring it to life.

use std::convert::Infallible;
use std::ops::Range;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Emitter as _, ForwardingEmitter, Span, State, Tokenizer};

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

/// Links of Markdown: `](address)`.
fn look_links(text: &str, findings: &mut Findings) {
    for (at, opening) in text.match_indices("](") {
        let start = at + opening.len();
        let address = text.get(start..).unwrap_or_default();
        if is_active(address.trim_start_matches(['<', ' ']).bytes()) {
            let ends = |char: char| matches!(char, ')' | '\n');
            let length = address.find(ends).unwrap_or(address.len());
            findings.push(Finding::new("script_url", start..start + length, 1.0));
        }
    }
}

/// Looks at the text from `from` on. Returns where an unclosed script's start tag ends.
fn scan(text: &str, from: usize, scripts: bool, findings: &mut Findings) -> Option<usize> {
    let mut reader = Reader {
        from,
        findings,
        tag: None,
        attribute: false,
        open: [const { Vec::new() }; 3],
    };
    let emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| {
        reader.read(&event, span.start + from..span.end + from);
        None::<Infallible>
    });
    let rest = text.get(from..).unwrap_or_default();
    let Ok(()) = Tokenizer::new_with_emitter(rest, Scripts { emitter, scripts }).finish();
    let [script, ..] = &reader.open;
    let unclosed = script.first().map(|tag| tag.end).filter(|_| scripts);
    reader.end();
    unclosed
}

/// Reads the content of scripts as such, and all other content as markup: whether a browser would
/// depends on its settings and on what stands around.
struct Scripts<E> {
    emitter: E,
    scripts: bool,
}

impl<F> ForwardingEmitter for Scripts<CallbackEmitter<F, Infallible, usize>>
where
    F: FnMut(CallbackEvent<'_>, Span<usize>) -> Option<Infallible>,
{
    type Token = Infallible;

    fn inner(&mut self) -> &mut impl html5gum::Emitter<Token = Infallible> {
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
    from: usize,
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

#[derive(Clone, Copy, PartialEq, Eq)]
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

impl Reader<'_> {
    fn read(&mut self, event: &CallbackEvent<'_>, span: Range<usize>) {
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
            CallbackEvent::CloseStartTag { .. } => self.close(span.end),
            CallbackEvent::EndTag { name } => {
                if let Name::Container(container) = Name::of(name)
                    && let Some(start) = self.open[container].pop()
                {
                    self.push(CONTAINERS[container], start.start..span.end);
                }
            }
            _ => {}
        }
    }

    fn found(&mut self, rule: Option<&'static str>) {
        if let Some(tag) = &mut self.tag {
            tag.rule = tag.rule.or(rule);
        }
    }

    fn close(&mut self, end: usize) {
        let Some(Tag { name, start, rule }) = self.tag.take() else {
            return;
        };
        match (name, rule) {
            (Name::Container(container), _) => self.open[container].push(start..end),
            (Name::Embed, _) => self.push("embed", start..end),
            (Name::Other, Some(rule)) => self.push(rule, start..end),
            (Name::Other, None) => {}
        }
    }

    fn end(mut self) {
        let open = std::mem::take(&mut self.open);
        for (name, tags) in CONTAINERS.into_iter().zip(open) {
            for tag in tags {
                self.push(name, tag);
            }
        }
    }

    fn push(&mut self, rule: &'static str, span: Range<usize>) {
        debug_assert!(span.start >= self.from);
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
