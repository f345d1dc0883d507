//! The templates that come with the program.

use std::borrow::Cow;

use super::{ANSWER_TOKENS_DEFAULT, Form, Named};

/// Tokens of an answer that is a paragraph or a list.
const LONG_TOKENS: u32 = 512;
/// Tokens of an answer that is a page.
const PAGE_TOKENS: u32 = 1_024;

/// The texts of a template, by what they are asked about.
macro_rules! prompts {
    ($name:literal: $($form:ident $file:literal),+) => {
        ($name, &[$((
            Form::$form,
            include_str!(concat!("../../templates/", $name, ".", $file, ".txt")),
        )),+])
    };
}

/// A name and its prompts.
type Entry = (&'static str, &'static [(Form, &'static str)]);

const CAPTION: Entry =
    prompts!("caption": Document "document", Combine "combine", Picture "picture");

/// Every template, with the tokens its answers may have.
const ALL: [(Entry, u32); 8] = [
    (CAPTION, ANSWER_TOKENS_DEFAULT),
    (
        prompts!("alt-text": Picture "picture"),
        ANSWER_TOKENS_DEFAULT,
    ),
    (
        prompts!("detailed": Document "document", Combine "combine", Picture "picture"),
        LONG_TOKENS,
    ),
    (
        prompts!("tags": Document "document", Combine "combine", Picture "picture"),
        ANSWER_TOKENS_DEFAULT,
    ),
    (prompts!("ocr": Picture "picture"), PAGE_TOKENS),
    (prompts!("analysis": Picture "picture"), PAGE_TOKENS),
    (prompts!("comparison": Pictures "pictures"), PAGE_TOKENS),
    (
        prompts!("document-summary": Document "document", Combine "combine"),
        LONG_TOKENS,
    ),
];

/// What is asked where the user does not say.
pub(super) fn caption() -> Named {
    named(CAPTION, ANSWER_TOKENS_DEFAULT)
}

/// Every template.
pub(super) fn all() -> impl Iterator<Item = Named> {
    ALL.into_iter()
        .map(|(entry, max_tokens)| named(entry, max_tokens))
}

fn named((name, prompts): Entry, max_tokens: u32) -> Named {
    let prompt = |(form, text): &(Form, &'static str)| (*form, Cow::Borrowed(text.trim_end()));
    Named {
        name: name.to_owned(),
        built_in: true,
        max_tokens,
        prompts: prompts.iter().map(prompt).collect(),
    }
}
