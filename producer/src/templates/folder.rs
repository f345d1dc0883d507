//! Templates in a folder of the user's own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::{ANSWER_TOKENS_DEFAULT, Form, Named};
use crate::exit::Stop;

/// Files a folder of templates may have.
const FILES_MAX: usize = 1_000;
/// Bytes a prompt file may have.
const PROMPT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The templates of a folder by name. Files that are not called like parts of one are passed over.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<String, Named>, Stop> {
    let unreadable =
        |error: std::io::Error| Stop::usage(format!("cannot read {}: {error}", folder.display()));
    let mut found: BTreeMap<String, Named> = BTreeMap::new();
    for (count, entry) in std::fs::read_dir(folder).map_err(unreadable)?.enumerate() {
        if count == FILES_MAX {
            return Err(Stop::usage(format!(
                "{} has more than {FILES_MAX} files, the limit of a folder of templates",
                folder.display()
            )));
        }
        let path = entry.map_err(unreadable)?.path();
        let Some((name, form)) = path.file_name().and_then(|name| part(name.to_str()?)) else {
            continue;
        };
        let named = found.entry(name.to_owned()).or_insert_with(|| Named {
            name: name.to_owned(),
            built_in: false,
            max_tokens: ANSWER_TOKENS_DEFAULT,
            prompts: BTreeMap::new(),
        });
        let prompt = read_prompt(&path)?.trim_end().to_owned();
        named.prompts.insert(form, Cow::Owned(prompt));
    }
    // Captions to combine come from a document's parts only.
    found.retain(|_, named| named.prompts.keys().any(|form| form.takes().is_some()));
    Ok(found)
}

/// The template that a file is part of, and which part.
fn part(file: &str) -> Option<(&str, Form)> {
    let (name, form) = file.strip_suffix(".txt")?.rsplit_once('.')?;
    let form = Form::ALL.into_iter().find(|known| known.as_str() == form)?;
    (!name.is_empty()).then_some((name, form))
}

/// Reads a file that holds a prompt.
pub(crate) fn read_prompt(file: &Path) -> Result<String, Stop> {
    let name = file.display();
    let unreadable = |error| Stop::usage(format!("cannot read {name}: {error}"));
    let about = std::fs::metadata(file).map_err(unreadable)?;
    if about.len() > PROMPT_FILE_BYTES_MAX {
        return Err(Stop::usage(format!(
            "{name} is {} bytes, the limit of a prompt is {PROMPT_FILE_BYTES_MAX}",
            about.len()
        )));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}
