//! Which files of a repository make the model.

use lapidary_schemas::hub::RepoRef;

use super::error::HubError;

/// The index of weights that are in several files.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The file that a model's folder is known by.
const CONFIG: &str = "config.json";
/// What the engine reads in a folder beside weights, where it is there.
const BESIDE_WEIGHTS: &[&str] = &[
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    INDEX,
];
const SINGLE: &str = "model.safetensors";
const SAFETENSORS: &str = ".safetensors";
const GGUF: &str = ".gguf";
/// How vision towers of GGUF models are called.
const MMPROJ: &str = "mmproj";
/// Of several vision towers the first of these is taken: all that the tower was trained in, in few
/// bytes.
const MMPROJ_PREFERRED: &[&str] = &["-f16", "-bf16", "-f32"];

/// The files of a repository that make a model, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// All of them.
    pub(super) names: Vec<String>,
    /// The vision tower among them that goes with a GGUF file.
    pub(super) mmproj: Option<String>,
}

/// Chooses among the names of a repository's files; a vision tower only `with_mmproj`.
pub(super) fn choose(
    wanted: &RepoRef,
    with_mmproj: bool,
    names: &[&str],
) -> Result<Chosen, HubError> {
    match &wanted.file {
        Some(file) => choose_file(wanted, file, with_mmproj, names),
        None => choose_folder(wanted, names),
    }
}

fn choose_file(
    wanted: &RepoRef,
    file: &str,
    with_mmproj: bool,
    names: &[&str],
) -> Result<Chosen, HubError> {
    if !names.contains(&file) {
        return Err(HubError::NoFile {
            repo: wanted.repo.clone(),
            file: file.to_owned(),
            gguf: models(wanted, names),
        });
    }
    let mmproj = if with_mmproj {
        mmproj_beside(file, names)
    } else {
        None
    };
    let chosen = [Some(file), mmproj].into_iter().flatten();
    Ok(Chosen {
        names: chosen.map(str::to_owned).collect(),
        mmproj: mmproj.map(str::to_owned),
    })
}

fn choose_folder(wanted: &RepoRef, names: &[&str]) -> Result<Chosen, HubError> {
    let none = |missing| HubError::NotAModel {
        repo: wanted.repo.clone(),
        missing,
        gguf: models(wanted, names),
    };
    let weights = |name: &&&str| {
        let sharded = names.contains(&INDEX) || !names.contains(&SINGLE);
        **name == SINGLE || (sharded && name.ends_with(SAFETENSORS) && !name.contains('/'))
    };
    let weights: Vec<&str> = names.iter().filter(weights).copied().collect();
    for needed in [CONFIG, "tokenizer.json"] {
        if !names.contains(&needed) {
            return Err(none(needed));
        }
    }
    if weights.is_empty() {
        return Err(none("weights in safetensors"));
    }
    let beside = BESIDE_WEIGHTS.iter().filter(|name| names.contains(name));
    Ok(Chosen {
        names: beside.copied().chain(weights).map(str::to_owned).collect(),
        mmproj: None,
    })
}

/// The vision tower in the folder of a GGUF file.
fn mmproj_beside<'a>(file: &str, names: &[&'a str]) -> Option<&'a str> {
    let folder = split(file).0;
    let beside = names.iter().copied().filter(|name| {
        let (its_folder, its_name) = split(name);
        its_folder == folder && is_mmproj(its_name)
    });
    beside.min_by_key(|name| {
        let lower = name.to_ascii_lowercase();
        let rank = MMPROJ_PREFERRED
            .iter()
            .position(|kind| lower.ends_with(&format!("{kind}{GGUF}")));
        (rank.unwrap_or(MMPROJ_PREFERRED.len()), *name)
    })
}

/// The GGUF models of a repository, as they are named on the command line.
fn models(wanted: &RepoRef, names: &[&str]) -> Vec<String> {
    let models = names
        .iter()
        .filter(|name| name.ends_with(GGUF) && !is_mmproj(split(name).1));
    models
        .map(|name| format!("`{}/{name}`", wanted.repo))
        .collect()
}

fn is_mmproj(name: &str) -> bool {
    name.starts_with(MMPROJ) && name.ends_with(GGUF)
}

/// Folder and name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(written: &str, names: &[&str]) -> Result<Chosen, String> {
        let wanted = RepoRef::parse(written).unwrap();
        choose(&wanted, true, names).map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_is_what_the_engine_reads() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/consolidated.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer.model",
        ];
        let expected = [
            "config.json",
            "tokenizer.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen("a/b", &names).unwrap().names, expected);
        let single = [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "x.safetensors",
        ];
        assert_eq!(chosen("a/b", &single).unwrap().names, single[..3]);
    }

    #[test]
    fn what_is_no_model_is_said_with_what_is_one() {
        for (names, said) in [
            (&["README.md"][..], "`a/b` has no config.json"),
            (&["config.json"], "`a/b` has no tokenizer.json"),
            (
                &["config.json", "tokenizer.json", "pytorch_model.bin"],
                "`a/b` has no weights in safetensors",
            ),
            (
                &["m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf"],
                "`a/b` has no config.json; it has `a/b/m-Q4_K_M.gguf`, `a/b/m-Q8_0.gguf`",
            ),
        ] {
            assert_eq!(chosen("a/b", names).unwrap_err(), said);
        }
        assert_eq!(
            chosen("a/b/c.gguf", &["d.gguf"]).unwrap_err(),
            "`a/b` has no file `c.gguf`; it has `a/b/d.gguf`"
        );
    }

    #[test]
    fn a_file_comes_with_one_vision_tower() {
        let names = [
            "m-Q8_0.gguf",
            "mmproj-BF16.gguf",
            "mmproj-F16.gguf",
            "mmproj-F32.gguf",
            "sub/m-Q8_0.gguf",
            "sub/mmproj.gguf",
        ];
        for (written, mmproj) in [
            ("a/b/m-Q8_0.gguf", "mmproj-F16.gguf"),
            ("a/b/sub/m-Q8_0.gguf", "sub/mmproj.gguf"),
        ] {
            let chosen = chosen(written, &names).unwrap();
            assert_eq!(chosen.mmproj.as_deref(), Some(mmproj));
            assert_eq!(chosen.names.len(), 2);
        }
        let wanted = RepoRef::parse("a/b/m-Q8_0.gguf").unwrap();
        let alone = choose(&wanted, false, &names).unwrap();
        assert_eq!((alone.names.len(), alone.mmproj), (1, None));
    }
}
