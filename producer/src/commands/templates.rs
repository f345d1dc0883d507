//! `lapidary templates`: what can be asked by name.

use std::io::Write as _;

use crate::cli::Templates;
use crate::exit::{Exit, Stop};
use crate::templates;
use crate::wish;

/// Lists the templates, or prints one.
pub(super) fn run(args: &Templates) -> Result<Exit, Stop> {
    let folder = wish::template_folder(&args.folder);
    let mut out = std::io::stdout().lock();
    let Some(name) = &args.name else {
        let all = templates::all(folder.as_deref())?;
        let width = all
            .keys()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        for named in all.values() {
            let (name, takes, summary) = (&named.name, named.takes(), named.summary());
            writeln!(out, "{name:width$}  {takes:11}  {summary}")?;
        }
        return Ok(Exit::Well);
    };
    let named = templates::find(name, folder.as_deref())?;
    for (index, (file, prompt)) in named.files().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        writeln!(out, "{gap}== {file} ==\n{prompt}")?;
    }
    Ok(Exit::Well)
}
