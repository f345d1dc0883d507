//! Stored weights, whatever they lie in: a folder of safetensors or a GGUF file.
//!
//! Both are read as mapped bytes under one set of names (`layers.N.self_attn.q_proj.weight`, see
//! `names`); what is packed from them is copied, so the pages are given back tensor by tensor.

pub(crate) mod blocks;
mod gguf;
mod mapped;
pub(crate) mod names;
mod safetensors;

use candle_core::quantized::GgmlDType;
use mapped::MappedFile;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use gguf::{
    head as gguf_head, metadata as gguf_metadata, open as open_gguf, open_mmproj,
};
pub(crate) use safetensors::open as open_safetensors;

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// A file could not be opened or read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("`{}` is not readable as {format}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format it should have.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Tensors that the architecture needs are not there.
    #[error("{} tensors are missing, first `{}`", names.len(), names.first().map_or("", String::as_str))]
    Missing {
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor's shape is not what the configuration says.
    #[error("tensor `{name}` has shape {found:?}, the configuration says {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A tensor is of a type that is not supported.
    #[error("tensor `{name}` is stored as {dtype}, which is not supported")]
    Dtype {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor's bytes could not be decoded.
    #[error("tensor `{name}` cannot be decoded")]
    Undecodable {
        /// The tensor.
        name: String,
        /// What the decoder said.
        #[source]
        source: Box<candle_core::Error>,
    },
    /// The system refused the memory for a packed matrix.
    #[error("no memory for tensor `{name}`")]
    Memory {
        /// The tensor.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A stored matrix `[rows, cols]`, or a vector as one row. Dropped, it gives the pages back that it
/// was read from.
#[derive(Debug)]
pub struct RawTensor<'a> {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) dtype: GgmlDType,
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Where the bytes lie, if in a file.
    pub(crate) file: Option<(&'a MappedFile, Range<usize>)>,
}

impl Drop for RawTensor<'_> {
    fn drop(&mut self) {
        if let Some((file, bytes)) = self.file.take() {
            file.give_back(bytes);
        }
    }
}

impl<'a> RawTensor<'a> {
    /// A matrix stored as `dtype`, row by row; `bytes` has all of it.
    pub fn new(name: &str, rows: usize, cols: usize, dtype: GgmlDType, bytes: &'a [u8]) -> Self {
        Self {
            name: name.to_owned(),
            rows,
            cols,
            dtype,
            bytes: bytes.into(),
            file: None,
        }
    }
}

impl RawTensor<'_> {
    /// A matrix of these values, row by row.
    fn floats(name: &str, rows: usize, cols: usize, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            name: name.to_owned(),
            rows,
            cols,
            dtype: GgmlDType::F32,
            bytes: bytes.into(),
            file: None,
        }
    }

    /// All values, row by row.
    pub(crate) fn to_f32(&self) -> Result<Vec<f32>, WeightError> {
        blocks::rows_f32(self, 0, self.rows)
    }

    /// Bytes of one row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.cols / self.dtype.block_size() * self.dtype.type_size()
    }

    /// The bytes of row `index`.
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.row_bytes()..][..self.row_bytes()]
    }
}

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    file: usize,
    bytes: Range<usize>,
    dtype: GgmlDType,
    shape: Vec<usize>,
}

/// An opened model's tensors by their [uniform names](names).
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Entry>,
    /// Whether norm weights are stored as their distance from one, as Hugging Face has them.
    norms_zero_centred: bool,
    taken: Mutex<BTreeSet<String>>,
}

impl Weights {
    fn new(
        files: Vec<MappedFile>,
        tensors: BTreeMap<String, Entry>,
        norms_zero_centred: bool,
    ) -> Result<Self, WeightError> {
        for (name, entry) in &tensors {
            let file = &files[entry.file];
            let mut rows = entry.shape.iter().rev().skip(1);
            let rows = rows.try_fold(1_usize, |all, dim| all.checked_mul(*dim));
            let cols = entry.shape.last().copied().unwrap_or(1);
            let row_bytes = (cols / entry.dtype.block_size()).checked_mul(entry.dtype.type_size());
            let bytes = rows
                .zip(row_bytes)
                .and_then(|(rows, row)| rows.checked_mul(row));
            let whole = cols.is_multiple_of(entry.dtype.block_size())
                && bytes == Some(entry.bytes.len())
                && entry.bytes.end <= file.bytes().len();
            if !whole {
                return Err(WeightError::Malformed {
                    path: file.path().to_owned(),
                    format: "weights",
                    message: format!("tensor `{name}` of shape {:?} lies outside", entry.shape),
                });
            }
        }
        Ok(Self {
            files,
            tensors,
            norms_zero_centred,
            taken: Mutex::default(),
        })
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A matrix `[rows, cols]`.
    pub(crate) fn matrix(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<RawTensor<'_>, WeightError> {
        self.tensor(name, &[rows, cols])
    }

    /// The factors of a norm, `[width]`: one is added where the file stores distances from one.
    pub(crate) fn norm(&self, name: &str, width: usize) -> Result<Vec<f32>, WeightError> {
        let raw = self.tensor(name, &[width])?;
        let stored = blocks::rows_f32(&raw, 0, 1)?;
        let offset = if self.norms_zero_centred { 1.0 } else { 0.0 };
        Ok(stored.into_iter().map(|weight| offset + weight).collect())
    }

    /// A vector, `[width]`, as it is stored.
    pub(crate) fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, WeightError> {
        blocks::rows_f32(&self.tensor(name, &[width])?, 0, 1)
    }

    /// The kernel of a convolution, `[rows, channels, height, width]`, as a matrix with a column
    /// a value.
    pub(crate) fn kernel(
        &self,
        name: &str,
        shape: [usize; 4],
    ) -> Result<RawTensor<'_>, WeightError> {
        let raw = self.tensor(name, &shape)?;
        let [rows, rest @ ..] = shape;
        let cols = rest.iter().product();
        // Blocks of quants would not end where rows do.
        let values = blocks::rows_f32(&raw, 0, raw.rows)?;
        Ok(RawTensor::floats(name, rows, cols, &values))
    }

    /// The matrix `[rows, cols]` that is stored the other way round, `[cols, rows]`.
    pub(crate) fn turned(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<RawTensor<'_>, WeightError> {
        let stored = blocks::rows_f32(&self.tensor(name, &[cols, rows])?, 0, cols)?;
        let mut values = vec![0.0; stored.len()];
        for (col, line) in stored.chunks_exact(rows).enumerate() {
            for (row, value) in line.iter().enumerate() {
                values[row * cols + col] = *value;
            }
        }
        Ok(RawTensor::floats(name, rows, cols, &values))
    }

    /// Number of rows of a matrix, if it is there.
    pub(crate) fn rows(&self, name: &str) -> Option<usize> {
        self.tensors
            .get(name)
            .and_then(|entry| entry.shape.first().copied())
    }

    /// Names that are there and were not asked for.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors
            .keys()
            .filter(|name| !taken.contains(*name))
            .cloned()
            .collect()
    }

    /// Refuses a model that lacks any of these, naming them all.
    pub(crate) fn require(&self, names: impl Iterator<Item = String>) -> Result<(), WeightError> {
        let names: Vec<_> = names.filter(|name| !self.has(name)).collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(WeightError::Missing { names })
        }
    }

    /// SHA-256 of the files' bytes, one after another in the order of their names; then those of
    /// another part of the model.
    pub(crate) fn sha256(&self, more: Option<&Self>) -> String {
        let more = more.map_or(&[][..], |weights| &weights.files);
        mapped::sha256(self.files.iter().chain(more))
    }

    /// SHA-256 of the image part's tensors, and of how they are used. They count as asked for.
    pub(crate) fn image_part_sha256(&self, how: &str) -> [u8; 32] {
        let how = format!("{how} {}", self.norms_zero_centred);
        let mut digest = Sha256::new_with_prefix(how);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = self.tensors.iter();
        for (name, entry) in tensors.filter(|(name, _)| names::is_image_part(name)) {
            let Entry {
                dtype,
                shape,
                bytes,
                ..
            } = entry;
            digest.update(format!("\n{name} {dtype:?} {shape:?} "));
            digest.update(&self.files[entry.file].bytes()[bytes.clone()]);
            taken.insert(name.clone());
        }
        digest.finalize().into()
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<RawTensor<'_>, WeightError> {
        let entry = self.tensors.get(name).ok_or_else(|| WeightError::Missing {
            names: vec![name.to_owned()],
        })?;
        if entry.shape != shape {
            return Err(WeightError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
        let cols = shape.last().copied().unwrap_or(1);
        let file = &self.files[entry.file];
        Ok(RawTensor {
            name: name.to_owned(),
            rows: shape.iter().rev().skip(1).product(),
            cols,
            dtype: entry.dtype,
            bytes: Cow::Borrowed(&file.bytes()[entry.bytes.clone()]),
            file: Some((file, entry.bytes.clone())),
        })
    }
}

fn malformed(path: &Path, format: &'static str, message: &dyn std::fmt::Display) -> WeightError {
    WeightError::Malformed {
        path: path.to_owned(),
        format,
        message: message.to_string(),
    }
}
