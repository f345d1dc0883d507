//! Named prompts, built in or in a folder of the user's own.
//!
//! A template `NAME` is up to four texts: `NAME.document.txt` asks about a document's text,
//! `NAME.combine.txt` about the captions of its parts, `NAME.picture.txt` about a picture, and
//! `NAME.pictures.txt` about several pictures together.

mod built_in;
mod folder;
mod notes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use crate::exit::Stop;

pub(crate) use folder::read_prompt;
pub use notes::{Audience, Notes, Tone};

/// Tokens an answer may have where neither the user nor a template says.
pub const ANSWER_TOKENS_DEFAULT: u32 = 128;
/// Characters of a prompt that a list shows.
const SUMMARY_CHARS: usize = 70;

/// What a prompt of a template is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A document's text.
    Document,
    /// The captions of a document's parts.
    Combine,
    /// A picture.
    Picture,
    /// Several pictures together.
    Pictures,
}

impl Form {
    const ALL: [Self; 4] = [Self::Document, Self::Combine, Self::Picture, Self::Pictures];

    /// The word in the name of its file.
    fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Combine => "combine",
            Self::Picture => "picture",
            Self::Pictures => "pictures",
        }
    }

    /// What it takes, in the words of a list; combining is not asked for by itself.
    fn takes(self) -> Option<&'static str> {
        match self {
            Self::Document => Some("text"),
            Self::Combine => None,
            Self::Picture => Some("image"),
            Self::Pictures => Some("images"),
        }
    }
}

/// A named template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Whether it came with the program, and so is written for models that follow instructions.
    pub built_in: bool,
    /// Tokens its answers may have.
    pub max_tokens: u32,
    prompts: BTreeMap<Form, Cow<'static, str>>,
}

impl Named {
    /// A user's own prompt, asked of whatever there is.
    pub fn own(prompt: String) -> Self {
        let prompt = Cow::<str>::Owned(prompt);
        Self {
            name: "--prompt".to_owned(),
            built_in: false,
            max_tokens: ANSWER_TOKENS_DEFAULT,
            prompts: [(Form::Document, prompt.clone()), (Form::Picture, prompt)].into(),
        }
    }

    /// What it asks about.
    pub fn prompt(&self, form: Form) -> Option<&str> {
        self.prompts.get(&form).map(AsRef::as_ref)
    }

    /// What it takes, separated by commas.
    pub fn takes(&self) -> String {
        let takes: Vec<_> = self
            .prompts
            .keys()
            .filter_map(|form| form.takes())
            .collect();
        takes.join(", ")
    }

    /// The beginning of what it asks.
    pub fn summary(&self) -> String {
        let first = self.prompts.values().next().map_or("", AsRef::as_ref);
        let line = first.lines().next().unwrap_or_default();
        match line.char_indices().nth(SUMMARY_CHARS) {
            Some((end, _)) => format!("{}…", line[..end].trim_end()),
            None => line.to_owned(),
        }
    }

    /// Its prompts, each under the name of its file.
    pub fn files(&self) -> impl Iterator<Item = (String, &str)> {
        let file =
            |(form, prompt): (&Form, _)| (format!("{}.{}.txt", self.name, form.as_str()), prompt);
        let prompts = self
            .prompts
            .iter()
            .map(|(form, prompt)| (form, prompt.as_ref()));
        prompts.map(file)
    }
}

/// What is asked where the user does not say.
pub fn default() -> Named {
    built_in::caption()
}

/// Every template by name; one of the folder takes the place of a built-in one of its name.
pub fn all(folder: Option<&Path>) -> Result<BTreeMap<String, Named>, Stop> {
    let mut all: BTreeMap<String, Named> = built_in::all()
        .map(|named| (named.name.clone(), named))
        .collect();
    if let Some(folder) = folder {
        all.extend(folder::read(folder)?);
    }
    Ok(all)
}

/// The template of a name.
pub fn find(name: &str, folder: Option<&Path>) -> Result<Named, Stop> {
    let mut all = all(folder)?;
    all.remove(name).ok_or_else(|| {
        let known: Vec<_> = all.keys().map(String::as_str).collect();
        Stop::usage(format!(
            "there is no template `{name}`; there are {}",
            known.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests;
