//! GGUF files.

use super::mapped::MappedFile;
use super::{Entry, WeightError, Weights, malformed, names};
use crate::models::config::Metadata;
use candle_core::quantized::gguf_file::{Content, TensorInfo};
use std::collections::HashMap;
use std::io::{Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Reads the head of a GGUF file; the error says what is wrong with it. The library divides by the
/// alignment that a file names, which may be 0.
pub(crate) fn head(reader: &mut (impl Read + Seek)) -> Result<Content, String> {
    match catch_unwind(AssertUnwindSafe(|| Content::read(reader))) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("its numbers contradict each other".to_owned()),
    }
}

/// Opens a GGUF file of a text model: its tensors and its metadata.
pub(crate) fn open(path: &Path) -> Result<(Weights, Metadata), WeightError> {
    open_named(path, |name, _| names::from_gguf(name))
}

/// Opens the GGUF file of a vision tower and its projector.
///
/// Files written before May 2025 name the two matrices of the feed-forward layers the other way
/// round (<https://github.com/ggml-org/llama.cpp/pull/13290>). `ffn`: width of those layers.
pub(crate) fn open_mmproj(path: &Path, ffn: usize) -> Result<Weights, WeightError> {
    let renamed = |name: &str, tensors: &HashMap<String, TensorInfo>| {
        let up = tensors.get("v.blk.0.ffn_up.weight");
        let swapped = up.is_some_and(|up| up.shape.dims().first() != Some(&ffn));
        names::from_mmproj(name, swapped)
    };
    Ok(open_named(path, renamed)?.0)
}

/// Reads only the metadata of a GGUF file.
pub(crate) fn metadata(path: &Path) -> Result<Metadata, WeightError> {
    let file = MappedFile::open(path)?;
    let content = head(&mut Cursor::new(file.bytes()));
    let content = content.map_err(|error| malformed(path, "GGUF", &error))?;
    Ok(content.metadata)
}

fn open_named(
    path: &Path,
    renamed: impl Fn(&str, &HashMap<String, TensorInfo>) -> Option<String>,
) -> Result<(Weights, Metadata), WeightError> {
    let file = MappedFile::open(path)?;
    let content = head(&mut Cursor::new(file.bytes()));
    let content = content.map_err(|error| malformed(path, "GGUF", &error))?;
    let mut tensors = std::collections::BTreeMap::new();
    for (name, info) in &content.tensor_infos {
        let outside = || malformed(path, "GGUF", &format!("tensor `{name}` lies outside"));
        // A damaged shape may be of more elements than there are numbers.
        let mut elements = info.shape.dims().iter();
        let elements = elements.try_fold(1_usize, |all, dim| all.checked_mul(*dim));
        let length = elements.and_then(|elements| {
            (elements / info.ggml_dtype.block_size()).checked_mul(info.ggml_dtype.type_size())
        });
        let start = usize::try_from(content.tensor_data_offset.saturating_add(info.offset))
            .map_err(|_| outside())?;
        let end = length.and_then(|length| start.checked_add(length));
        let entry = Entry {
            file: 0,
            bytes: start..end.ok_or_else(outside)?,
            dtype: info.ggml_dtype,
            shape: info.shape.dims().to_vec(),
        };
        // Names of other architectures stay as they are and show up as unexpected.
        let name = renamed(name, &content.tensor_infos).unwrap_or_else(|| name.clone());
        tensors.insert(name, entry);
    }
    // The converter adds one to every norm weight.
    let weights = Weights::new(vec![file], tensors, false)?;
    Ok((weights, content.metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    const U32: u32 = 4;

    fn text(text: &str) -> Vec<u8> {
        let length = (text.len() as u64).to_le_bytes();
        [&length[..], text.as_bytes()].concat()
    }

    /// A file with one number in its head and one tensor of this shape, which has no bytes.
    fn file(key: &str, number: u32, shape: &[u64]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend([1_u64, 1].map(u64::to_le_bytes).concat());
        bytes.extend(text(key));
        bytes.extend([U32, number].map(u32::to_le_bytes).concat());
        bytes.extend(text("token_embd.weight"));
        bytes.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        bytes.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes
    }

    #[test]
    fn an_alignment_of_0_is_refused() {
        let refused = head(&mut Cursor::new(file("general.alignment", 0, &[1]))).unwrap_err();
        assert_eq!(refused, "its numbers contradict each other");
        assert!(head(&mut Cursor::new(file("general.alignment", 32, &[1]))).is_ok());
    }

    #[test]
    fn shapes_without_end_lie_outside() {
        let path = tempfile::NamedTempFile::new().unwrap();
        for shape in [[u64::MAX, 2], [1 << 40, 1 << 40], [1 << 61, 2]] {
            std::fs::write(&path, file("general.alignment", 32, &shape)).unwrap();
            let refused = open(path.path()).unwrap_err().to_string();
            assert!(
                refused.ends_with("tensor `token_embd.weight` lies outside"),
                "{refused}"
            );
        }
    }
}
