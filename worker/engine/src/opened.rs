//! A model's files, opened: configurations, weights, and what they are called.

use std::path::{Path, PathBuf};

use crate::image::ImageSpec;
use crate::models::config::{self, ConfigError, GemmaConfig, VisionConfig};
use crate::ops::linear::Storage;
use crate::runner::{LoadError, LoadOptions, Quantization};
use crate::source::ModelSource;
use crate::weights::{self, WeightError, Weights};

/// An opened model.
pub(crate) struct Opened {
    pub config: GemmaConfig,
    pub weights: Weights,
    pub vision: Option<OpenedVision>,
    /// What a GGUF file's own quants are called; `None` for other sources.
    stored: Option<String>,
}

/// The part of an opened model that reads pictures.
pub(crate) struct OpenedVision {
    pub config: VisionConfig,
    /// Where its weights lie in a file of their own.
    pub weights: Option<Weights>,
    pub pan_and_scan: bool,
}

impl OpenedVision {
    /// What it wants of a picture.
    pub(crate) fn spec(&self) -> ImageSpec {
        ImageSpec {
            side: u32::try_from(self.config.side).unwrap_or(u32::MAX),
            pan_and_scan: self.pan_and_scan,
        }
    }
}

impl Opened {
    pub(crate) fn open(source: &ModelSource, options: &LoadOptions) -> Result<Self, LoadError> {
        let ModelSource::Path(path) = source else {
            return Self::open_folder(source);
        };
        if !path.exists() {
            return Err(LoadError::NotFound { path: path.clone() });
        }
        if is_gguf(path) {
            Self::open_gguf(path, options.mmproj.as_deref())
        } else if path.join("config.json").is_file() {
            Self::open_folder(source)
        } else {
            Err(LoadError::NotAModel { path: path.clone() })
        }
    }

    fn open_gguf(path: &Path, mmproj: Option<&Path>) -> Result<Self, LoadError> {
        let (weights, metadata) = weights::open_gguf(path).map_err(weights_failed(path))?;
        let config = config::from_gguf(&metadata).map_err(config_failed(path))?;
        let file_type = metadata
            .get("general.file_type")
            .and_then(|value| value.to_u32().ok());
        let mmproj = match mmproj {
            Some(named) => {
                let read = read_mmproj(named)?;
                if read.text_hidden != config.hidden {
                    return Err(LoadError::OtherProjector {
                        path: named.to_owned(),
                        width: read.text_hidden,
                        expected: config.hidden,
                    });
                }
                Some((named.to_owned(), read))
            }
            None => find_mmproj(path, config.hidden)?,
        };
        let vision = mmproj.map(|(path, read)| {
            let weights = weights::open_mmproj(&path, read.vision.ffn);
            Ok(OpenedVision {
                config: read.vision,
                weights: Some(weights.map_err(weights_failed(&path))?),
                pan_and_scan: false,
            })
        });
        Ok(Self {
            config,
            weights,
            vision: vision.transpose()?,
            stored: Some(file_type_name(file_type).to_owned()),
        })
    }

    fn open_folder(source: &ModelSource) -> Result<Self, LoadError> {
        let path = source.path_of("");
        let json = |name: &str| read_json(source, name).map_err(weights_failed(&path));
        let failed = config_failed(&path);
        let main = json("config.json")?.unwrap_or_default();
        let mut config = config::from_hf(&main).map_err(&failed)?;
        if let Some(generation) = json("generation_config.json")? {
            config.eos = config::eos_tokens(&generation).unwrap_or(config.eos);
        }
        let vision = config::vision_from_hf(&main).map_err(&failed)?;
        let pan_and_scan = match vision {
            Some(_) => json("preprocessor_config.json")?
                .is_some_and(|processor| processor["do_pan_and_scan"] == true),
            None => false,
        };
        let weights = weights::open_safetensors(source).map_err(weights_failed(&path))?;
        Ok(Self {
            config,
            weights,
            vision: vision.map(|config| OpenedVision {
                config,
                weights: None,
                pan_and_scan,
            }),
            stored: None,
        })
    }

    /// How to hold the weights, and what that is called.
    pub(crate) fn storage(&self, wanted: Option<Quantization>) -> (Storage, String) {
        match (wanted, &self.stored) {
            (Some(Quantization::F32), _) => (Storage::F32, "f32".to_owned()),
            (Some(Quantization::Bf16), _) | (None, None) => (Storage::Bf16, "bf16".to_owned()),
            (Some(Quantization::Q8), _) => (Storage::Int8, "q8".to_owned()),
            (Some(Quantization::Q4), _) => (Storage::Int4, "q4".to_owned()),
            (None, Some(name)) => (Storage::Int8, name.clone()),
        }
    }

    /// Weights of the part that reads pictures.
    pub(crate) fn vision_weights(&self) -> &Weights {
        let own = self
            .vision
            .as_ref()
            .and_then(|vision| vision.weights.as_ref());
        own.unwrap_or(&self.weights)
    }

    /// SHA-256 of all weight files.
    pub(crate) fn sha256(&self) -> String {
        let vision = self.vision.as_ref();
        self.weights
            .sha256(vision.and_then(|vision| vision.weights.as_ref()))
    }

    /// Tensors that are there and have no place in the model.
    pub(crate) fn unexpected(&self) -> Vec<String> {
        let mut names = self.weights.unexpected();
        match &self.vision {
            // A model of text only leaves the tensors of a picture part aside.
            None => names.retain(|name| !weights::names::is_image_part(name)),
            Some(vision) => {
                names.extend(vision.weights.iter().flat_map(Weights::unexpected));
            }
        }
        names
    }
}

fn read_mmproj(path: &Path) -> Result<config::Mmproj, LoadError> {
    if !path.exists() {
        return Err(LoadError::NotFound {
            path: path.to_owned(),
        });
    }
    let metadata = weights::gguf_metadata(path).map_err(weights_failed(path))?;
    config::from_mmproj(&metadata).map_err(config_failed(path))
}

/// The mmproj file beside a text model that was made for its width.
fn find_mmproj(
    model: &Path,
    text_hidden: usize,
) -> Result<Option<(PathBuf, config::Mmproj)>, LoadError> {
    let parent = model
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let io = |source| WeightError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut fitting = Vec::new();
    for entry in folder
        .read_dir()
        .map_err(io)
        .map_err(weights_failed(folder))?
    {
        let path = entry.map_err(io).map_err(weights_failed(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("mmproj") && name.ends_with(".gguf") {
            match read_mmproj(&path) {
                Ok(read) if read.text_hidden == text_hidden => fitting.push((path, read)),
                Ok(_) => tracing::info!(path = %path.display(), "made for another model"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "not read"),
            }
        }
    }
    if fitting.len() > 1 {
        let mut paths: Vec<_> = fitting.into_iter().map(|(path, _)| path).collect();
        paths.sort();
        return Err(LoadError::ManyProjectors { paths });
    }
    Ok(fitting.pop())
}

fn config_failed(path: &Path) -> impl Fn(ConfigError) -> LoadError {
    |source| LoadError::Config {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn weights_failed(path: &Path) -> impl Fn(WeightError) -> LoadError {
    |source| LoadError::Weights {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic))
        .is_ok_and(|()| &magic == b"GGUF")
}

/// A JSON file of a model's folder; `None` if it is not there.
fn read_json(source: &ModelSource, name: &str) -> Result<Option<serde_json::Value>, WeightError> {
    let path = source.path_of(name);
    let text = match source.read(name) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(source) => return Err(WeightError::Io { path, source }),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| WeightError::Malformed {
            path,
            format: "JSON",
            message: error.to_string(),
        })
}

/// The name of `general.file_type`, as `llama-quantize` lists them.
fn file_type_name(file_type: Option<u32>) -> &'static str {
    match file_type {
        Some(0) => "gguf-f32",
        Some(1) => "gguf-f16",
        Some(2) => "q4_0",
        Some(3) => "q4_1",
        Some(7) => "q8_0",
        Some(8) => "q5_0",
        Some(9) => "q5_1",
        Some(10) => "q2_k",
        Some(11) => "q3_k_s",
        Some(12) => "q3_k_m",
        Some(13) => "q3_k_l",
        Some(14) => "q4_k_s",
        Some(15) => "q4_k_m",
        Some(16) => "q5_k_s",
        Some(17) => "q5_k_m",
        Some(18) => "q6_k",
        Some(32) => "gguf-bf16",
        _ => "gguf",
    }
}
