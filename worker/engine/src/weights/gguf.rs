//! GGUF files.

use super::mapped::MappedFile;
use super::{Entry, WeightError, Weights, malformed, names};
use crate::models::config::Metadata;
use candle_core::quantized::gguf_file::{Content, TensorInfo};
use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

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
    let content = Content::read(&mut Cursor::new(file.bytes()))
        .map_err(|error| malformed(path, "GGUF", &error))?;
    Ok(content.metadata)
}

fn open_named(
    path: &Path,
    renamed: impl Fn(&str, &HashMap<String, TensorInfo>) -> Option<String>,
) -> Result<(Weights, Metadata), WeightError> {
    let file = MappedFile::open(path)?;
    let content = Content::read(&mut Cursor::new(file.bytes()))
        .map_err(|error| malformed(path, "GGUF", &error))?;
    let mut tensors = std::collections::BTreeMap::new();
    for (name, info) in &content.tensor_infos {
        let outside = || malformed(path, "GGUF", &format!("tensor `{name}` lies outside"));
        let elements = info.shape.elem_count();
        let length = elements / info.ggml_dtype.block_size() * info.ggml_dtype.type_size();
        let start = usize::try_from(content.tensor_data_offset.saturating_add(info.offset))
            .map_err(|_| outside())?;
        let end = start.checked_add(length).ok_or_else(outside)?;
        let entry = Entry {
            file: 0,
            bytes: start..end,
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
