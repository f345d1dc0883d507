//! A loaded model that computes steps.

use crate::batch::{Forward, ForwardError, Logits, ModelShape, StepBatch, TokenId};
use crate::device::Cpu;
use crate::kv::cache::{CacheType, KvCache};
use crate::models::config::{self, ConfigError, GemmaConfig, LayerKind};
use crate::models::gemma3::text::TextModel;
use crate::models::step::StepLayout;
use crate::ops::linear::Storage;
use crate::ops::simd::Tier;
use crate::weights::{self, WeightError, Weights};
use std::path::{Path, PathBuf};

/// How weights are held, where that is not what the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// 32-bit floats, and keys and values as well: the reference.
    F32,
    /// bfloat16.
    Bf16,
    /// Blocks of 32 weights of 8 bits; a GGUF file's own quants stay as they are.
    Q8,
    /// Blocks of 32 weights of 4 bits, the embedding table of 8; a GGUF file's own quants stay as
    /// they are.
    Q4,
}

/// What to load a model with.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `None`: a GGUF file's own quants, a folder's weights as bfloat16.
    pub quantization: Option<Quantization>,
    /// Threads to compute on; `None`: one a core.
    pub threads: Option<usize>,
    /// Instruction tier; `None`: the best there is.
    pub tier: Option<Tier>,
}

/// A loaded model and what is known of it.
#[derive(Debug)]
pub struct Loaded {
    /// Computes steps.
    pub runner: GemmaRunner,
    /// The model's configuration.
    pub config: GemmaConfig,
    /// SHA-256 of the weight files' bytes in the order of their names, in hexadecimal.
    pub weights_sha256: String,
    /// How weights are held: `f32`, `bf16`, `q8`, `q4`, or what the GGUF file calls itself.
    pub quantization: String,
    /// Instruction tier in use.
    pub tier: Tier,
    /// Tokens that end an answer, as the source states them.
    pub eos: Vec<TokenId>,
    /// Where the tokenizer is to be read: a folder with `tokenizer.json`, or a GGUF file.
    pub tokenizer: PathBuf,
    /// Tensors that are there and have no place in the model.
    pub unexpected: Vec<String>,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is nothing at the path.
    #[error("there is no model at `{}`", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// What is there is not a model.
    #[error("`{}` is neither a GGUF file nor a folder with config.json", path.display())]
    NotAModel {
        /// The path.
        path: PathBuf,
    },
    /// The configuration was refused.
    #[error("configuration of `{}` refused", path.display())]
    Config {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ConfigError>,
    },
    /// The weights could not be read.
    #[error("weights of `{}` not loaded", path.display())]
    Weights {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<WeightError>,
    },
    /// Threads could not be started.
    #[error("compute threads did not start")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

/// Computes steps of a Gemma model on the processor.
#[derive(Debug)]
pub struct GemmaRunner {
    model: TextModel,
    config: GemmaConfig,
    cache_type: CacheType,
    cache: Option<KvCache>,
    shape: ModelShape,
    cpu: Cpu,
}

/// Loads a model: a GGUF file, or a folder with `config.json` and safetensors.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let source = Source::open(path)?;
    let cpu = Cpu::new(options.threads, options.tier).map_err(LoadError::Threads)?;
    let (storage, quantization) = source.storage(options.quantization);
    let (model, weights_sha256) = cpu.run(|| {
        rayon::join(
            || TextModel::load(&source.config, &source.weights, storage, cpu.tier()),
            || source.weights.sha256(),
        )
    });
    let model = model.map_err(weights_failed(path))?;
    let unexpected: Vec<_> = source
        .weights
        .unexpected()
        .into_iter()
        .filter(|name| !weights::names::is_image_part(name))
        .collect();
    if !unexpected.is_empty() {
        tracing::warn!(
            count = unexpected.len(),
            first = unexpected[0],
            "tensors without a place in the model"
        );
    }
    let tier = cpu.tier();
    let cache_type = if storage == Storage::F32 {
        CacheType::F32
    } else {
        CacheType::Bf16
    };
    let config = source.config.clone();
    Ok(Loaded {
        runner: GemmaRunner::new(model, config.clone(), cache_type, cpu),
        eos: config.eos.clone(),
        config,
        weights_sha256,
        quantization,
        tier,
        tokenizer: source.path,
        unexpected,
    })
}

/// An opened model source.
struct Source {
    path: PathBuf,
    config: GemmaConfig,
    weights: Weights,
    /// What a GGUF file's own quants are called; `None` for other sources.
    stored: Option<String>,
}

impl Source {
    fn open(path: &Path) -> Result<Self, LoadError> {
        if !path.exists() {
            return Err(LoadError::NotFound {
                path: path.to_owned(),
            });
        }
        if path.is_file() {
            return if is_gguf(path) {
                Self::open_gguf(path)
            } else {
                Err(not_a_model(path))
            };
        }
        if path.join("config.json").is_file() {
            Self::open_folder(path)
        } else {
            Err(not_a_model(path))
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, LoadError> {
        let (weights, metadata) = weights::open_gguf(path).map_err(weights_failed(path))?;
        let config = config::from_gguf(&metadata).map_err(config_failed(path))?;
        let file_type = metadata
            .get("general.file_type")
            .and_then(|value| value.to_u32().ok());
        Ok(Self {
            path: path.to_owned(),
            config,
            weights,
            stored: Some(file_type_name(file_type).to_owned()),
        })
    }

    fn open_folder(path: &Path) -> Result<Self, LoadError> {
        let json = |name| read_json(&path.join(name)).map_err(weights_failed(path));
        let mut config = config::from_hf(&json("config.json")?).map_err(config_failed(path))?;
        if path.join("generation_config.json").is_file() {
            let stated = config::eos_tokens(&json("generation_config.json")?);
            config.eos = stated.unwrap_or(config.eos);
        }
        let weights = weights::open_safetensors(path).map_err(weights_failed(path))?;
        Ok(Self {
            path: path.to_owned(),
            config,
            weights,
            stored: None,
        })
    }

    /// How to hold the weights, and what that is called.
    fn storage(&self, wanted: Option<Quantization>) -> (Storage, String) {
        match (wanted, &self.stored) {
            (Some(Quantization::F32), _) => (Storage::F32, "f32".to_owned()),
            (Some(Quantization::Bf16), _) | (None, None) => (Storage::Bf16, "bf16".to_owned()),
            (Some(Quantization::Q8), _) => (Storage::Int8, "q8".to_owned()),
            (Some(Quantization::Q4), _) => (Storage::Int4, "q4".to_owned()),
            (None, Some(name)) => (Storage::Int8, name.clone()),
        }
    }
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

fn not_a_model(path: &Path) -> LoadError {
    LoadError::NotAModel {
        path: path.to_owned(),
    }
}

fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic))
        .is_ok_and(|()| &magic == b"GGUF")
}

fn read_json(path: &Path) -> Result<serde_json::Value, WeightError> {
    let text = std::fs::read(path).map_err(|source| WeightError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|error| WeightError::Malformed {
        path: path.to_owned(),
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

impl GemmaRunner {
    fn new(model: TextModel, config: GemmaConfig, cache_type: CacheType, cpu: Cpu) -> Self {
        let slides = config.layers_of(LayerKind::Local).next().is_some();
        let block_bytes = |kind| KvCache::block_bytes(&config, kind, cache_type);
        let shape = ModelShape {
            vocab: model.vocab(),
            context_tokens_max: config.context_tokens_max,
            window: slides.then_some(config.window),
            global_block_bytes: block_bytes(LayerKind::Global),
            local_block_bytes: block_bytes(LayerKind::Local),
        };
        Self {
            model,
            config,
            cache_type,
            cache: None,
            shape,
            cpu,
        }
    }
}

impl Forward for GemmaRunner {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn allocate(&mut self, global_blocks: usize, local_blocks: usize) -> Result<(), ForwardError> {
        // What was allocated before goes first: the two need not fit together.
        self.cache = None;
        let cache = KvCache::new(&self.config, self.cache_type, global_blocks, local_blocks);
        self.cache = Some(cache.map_err(|error| ForwardError {
            message: format!("no memory for {global_blocks} and {local_blocks} blocks: {error}"),
            fatal: true,
        })?);
        Ok(())
    }

    fn forward(&mut self, batch: &StepBatch) -> Result<Logits, ForwardError> {
        let failed = |message| ForwardError {
            message,
            fatal: false,
        };
        let Some(cache) = &mut self.cache else {
            return Err(failed("no blocks were allocated".to_owned()));
        };
        let (model, window) = (&self.model, self.shape.window);
        let values = self.cpu.run(|| {
            let step = StepLayout::new(batch, window, cache)?;
            model
                .forward(&step, cache)
                .map_err(|error| error.to_string())
        });
        Ok(Logits {
            vocab: self.shape.vocab,
            values: values.map_err(failed)?,
        })
    }
}
