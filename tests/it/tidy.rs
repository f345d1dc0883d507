//! Properties of the code itself: the rooms' borders, module heads, file lengths, true documents.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every file below `folder` whose name ends in `suffix`, build and cache folders left out.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, suffix));
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let sources: Vec<_> = files(&root(), ".rs")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root()).unwrap().to_path_buf(), text)
        })
        .collect();
    assert!(
        sources.len() > 40,
        "only {} sources found: looking in the wrong place",
        sources.len()
    );
    sources
}

#[track_caller]
fn none(what: &str, offenders: &[String]) {
    assert!(
        offenders.is_empty(),
        "{what}:\n  {}",
        offenders.join("\n  ")
    );
}

#[test]
fn every_module_says_what_it_is() {
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    none("files without a `//!` head", &offenders);
}

#[test]
fn no_file_is_longer_than_one_can_hold_in_mind() {
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > FILE_LINES_MAX)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    none("files over the limit", &offenders);
}

#[test]
fn rooms_depend_only_along_the_arrows() {
    let allowed = [
        ("schemas", &[][..]),
        ("transport", &["schemas"][..]),
        ("producer", &["transport", "schemas"][..]),
        ("worker", &["transport", "schemas", "engine"][..]),
        ("worker/engine", &[][..]),
    ];
    let mut offenders = Vec::new();
    for (room, arrows) in allowed {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let before_tests = manifest.split("[dev-dependencies]").next().unwrap();
        for line in before_tests.lines() {
            let Some(name) = line.strip_prefix("lapidary-") else {
                continue;
            };
            let name = name.split(['.', ' ', '=']).next().unwrap();
            if !arrows.contains(&name) {
                offenders.push(format!("{room} -> {name}"));
            }
        }
    }
    none("arrows that the architecture does not have", &offenders);
}

#[test]
fn rooms_stay_free_of_what_is_not_theirs() {
    let forbidden = [
        (
            "schemas/src",
            &["tokio", "candle", "std::fs", "std::net", "async fn"][..],
        ),
        ("transport/src", &["candle", "axum"][..]),
        (
            "producer/src",
            &["candle", "lapin::", "redis::", "rusqlite::"][..],
        ),
        (
            "worker/src",
            &["candle", "lapin::", "redis::", "rusqlite::"][..],
        ),
        (
            "worker/engine/src",
            &[
                "axum",
                "tokio::net",
                "lapidary_schemas",
                "lapidary_transport",
            ][..],
        ),
        ("worker/engine/src/scheduler", &["candle"][..]),
        ("worker/engine/src/kv/pool", &["candle"][..]),
        ("worker/engine/src/kv/prefix", &["candle"][..]),
    ];
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        for (room, words) in forbidden {
            if !path.to_string_lossy().starts_with(room) {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap();
                if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                    offenders.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    none("words that have no place in their room", &offenders);
}

#[test]
fn the_two_lines_fit_on_one_screen() {
    for (file, function) in [
        ("worker/src/job.rs", "fn work_job"),
        ("worker/engine/src/step.rs", "fn step"),
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let start = text
            .find(function)
            .unwrap_or_else(|| panic!("no `{function}` in {file}"));
        let indent = text[..start].lines().last().unwrap_or("");
        let indent = &indent[..indent.len() - indent.trim_start().len()];
        let end = text[start..].find(&format!("\n{indent}}}\n")).unwrap();
        let lines = text[start..start + end].lines().count() + 1;
        assert!(
            lines <= 50,
            "`{function}` in {file} has {lines} lines, a screen has 50"
        );
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut offenders = Vec::new();
    let mut links = 0;
    for path in files(&root(), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            links += 1;
            if !path.parent().unwrap().join(file).exists() {
                offenders.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(
        links > 5,
        "only {links} links found: looking in the wrong place"
    );
    none("links to nowhere", &offenders);
}

#[test]
fn the_changelog_speaks_of_the_version_that_is_built() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(
        changelog.contains("## Unreleased")
            || changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))),
        "CHANGELOG.md has neither `## Unreleased` nor this version"
    );
}
