//! Folders of safetensors files: those of an index, or one `model.safetensors`, or all there are.

use super::mapped::MappedFile;
use crate::source::ModelSource;

use super::{Entry, WeightError, Weights, malformed, names};
use candle_core::quantized::GgmlDType;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Opens a folder's weights.
pub(crate) fn open(source: &ModelSource) -> Result<Weights, WeightError> {
    let files = match source {
        ModelSource::Path(folder) => file_names(folder)?
            .iter()
            .map(|path| MappedFile::open(path))
            .collect::<Result<Vec<_>, _>>()?,
        ModelSource::Embedded(_) => {
            let file = |bytes| MappedFile::embedded(source.path_of(SINGLE), bytes);
            source.embedded(SINGLE).map(file).into_iter().collect()
        }
    };
    let mut tensors = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        read_header(file, index, &mut tensors)?;
    }
    if tensors.is_empty() {
        return Err(malformed(
            &source.path_of(SINGLE),
            "safetensors",
            &"there are no tensors, in this file or another one that ends in .safetensors",
        ));
    }
    Weights::new(files, tensors, true)
}

/// The shape of `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn file_names(folder: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let index = folder.join(INDEX);
    let names: BTreeSet<PathBuf> = if index.is_file() {
        let text = std::fs::read(&index).map_err(|source| WeightError::Io {
            path: index.clone(),
            source,
        })?;
        let parsed: Index = serde_json::from_slice(&text)
            .map_err(|error| malformed(&index, "a safetensors index", &error))?;
        parsed
            .weight_map
            .into_values()
            .map(|name| folder.join(name))
            .collect()
    } else if folder.join(SINGLE).is_file() {
        BTreeSet::from([folder.join(SINGLE)])
    } else {
        let io = |source| WeightError::Io {
            path: folder.to_owned(),
            source,
        };
        let mut found = BTreeSet::new();
        for entry in folder.read_dir().map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "safetensors")
            {
                found.insert(path);
            }
        }
        found
    };
    Ok(names.into_iter().collect())
}

fn read_header(
    file: &MappedFile,
    index: usize,
    tensors: &mut BTreeMap<String, Entry>,
) -> Result<(), WeightError> {
    let wrong = |error: SafeTensorError| malformed(file.path(), "safetensors", &error);
    let (header_bytes, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(wrong)?;
    let data_start = header_bytes + size_of::<u64>();
    for (stored, info) in metadata.tensors() {
        // Names of other architectures stay as they are and show up as unexpected.
        let name = names::from_safetensors(&stored).unwrap_or(stored);
        let dtype = match info.dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            // Some checkpoints list the image part's position numbers.
            _ if names::is_image_part(&name) => continue,
            other => {
                return Err(WeightError::Dtype {
                    name,
                    dtype: format!("{other:?}"),
                });
            }
        };
        let (start, end) = info.data_offsets;
        let bytes = data_start + start..data_start + end;
        tensors.insert(
            name,
            Entry {
                file: index,
                bytes,
                dtype,
                shape: info.shape.clone(),
            },
        );
    }
    Ok(())
}
