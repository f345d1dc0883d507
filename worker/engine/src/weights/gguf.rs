//! GGUF files.

use super::mapped::MappedFile;
use super::{Entry, WeightError, Weights, malformed, names};
use candle_core::quantized::gguf_file::{Content, Value};
use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

/// Metadata of a GGUF file by key.
pub(crate) type Metadata = HashMap<String, Value>;

/// Opens a GGUF file: its tensors and its metadata.
pub(crate) fn open(path: &Path) -> Result<(Weights, Metadata), WeightError> {
    let file = MappedFile::open(path)?;
    let content = Content::read(&mut Cursor::new(file.bytes()))
        .map_err(|error| malformed(path, "GGUF", &error))?;
    let mut tensors = std::collections::BTreeMap::new();
    for (name, info) in content.tensor_infos {
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
        tensors.insert(names::from_gguf(&name).unwrap_or(name), entry);
    }
    // The converter adds one to every norm weight.
    let weights = Weights::new(vec![file], tensors, false)?;
    Ok((weights, content.metadata))
}
