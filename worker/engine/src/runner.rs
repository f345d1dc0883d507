//! A loaded model that computes steps.

use crate::batch::{Forward, ForwardError, ImageShape, Logits, ModelShape, StepBatch, TokenId};
use crate::device::Cpu;
use crate::image::View;
use crate::kv::cache::{CacheType, KvCache};
use crate::models::config::{ConfigError, GemmaConfig, LayerKind};
use crate::models::gemma3::text::TextModel;
use crate::models::gemma3::vision::VisionTower;
use crate::models::step::StepLayout;
use crate::opened::Opened;
use crate::ops::linear::Storage;
use crate::ops::simd::Tier;
use crate::sequence::Contents;
use crate::source::ModelSource;
use crate::towers::{Soft, Tower, Towers};
use crate::weights::WeightError;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// The vision tower of a GGUF file; `None`: a fitting `mmproj*.gguf` beside it, if there is
    /// one. A folder holds its own.
    pub mmproj: Option<PathBuf>,
    /// Compute nothing: every request gets the same answer at once. For measuring what stands around
    /// the engine.
    pub instant: bool,
    /// Whose vision towers it may share; `None`: its own.
    pub towers: Option<Towers>,
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
    /// Where the tokenizer is to be read.
    pub tokenizer: ModelSource,
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
    /// An mmproj file was named that does not go with the text model.
    #[error("`{}` gives soft tokens of {width} values, the text model reads {expected}", path.display())]
    OtherProjector {
        /// The file.
        path: PathBuf,
        /// Width of its soft tokens.
        width: usize,
        /// Width of the text model.
        expected: usize,
    },
    /// Several mmproj files lie beside the text model and go with it.
    #[error("{} mmproj files lie beside the model, name one of them: {}", paths.len(), listed(paths))]
    ManyProjectors {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// Threads could not be started.
    #[error("compute threads did not start")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// A model's parts.
#[derive(Debug)]
struct Models {
    text: TextModel,
    /// `None` for a model of text only.
    vision: Option<Arc<Tower>>,
}

/// Computes steps of a Gemma model on the processor.
#[derive(Debug)]
pub struct GemmaRunner {
    models: Models,
    /// Soft tokens of encoded views, `[S, D]`.
    soft: HashMap<Contents, Soft>,
    config: GemmaConfig,
    cache_type: CacheType,
    cache: Option<KvCache>,
    shape: ModelShape,
    cpu: Cpu,
}

/// Loads a model: a GGUF file, or a folder with `config.json` and safetensors.
pub fn load(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let source = source.into();
    let opened = Opened::open(&source, options)?;
    let cpu = Cpu::new(options.threads, options.tier).map_err(LoadError::Threads)?;
    let (storage, quantization) = opened.storage(options.quantization);
    let tier = cpu.tier();
    let (models, weights_sha256) = cpu.run(|| {
        rayon::join(
            || load_models(&opened, storage, options, tier),
            || opened.sha256(),
        )
    });
    let (text, vision) = models.map_err(|error| LoadError::Weights {
        path: source.path_of(""),
        source: Box::new(error),
    })?;
    let unexpected = opened.unexpected();
    if !unexpected.is_empty() {
        tracing::warn!(
            count = unexpected.len(),
            first = unexpected[0],
            "tensors without a place in the model"
        );
    }
    let config = opened.config;
    let image = opened.vision.map(|vision| ImageShape {
        spec: vision.spec(),
        tokens: vision.config.tokens,
        bytes: vision.config.tokens * config.hidden * size_of::<f32>(),
        views_max: (PATCHES_MAX / vision.config.patches()).clamp(1, VIEWS_MAX),
    });
    let cache_type = CacheType::beside(storage);
    let models = Models { text, vision };
    Ok(Loaded {
        runner: GemmaRunner::new(models, image, config.clone(), cache_type, cpu),
        eos: config.eos.clone(),
        config,
        weights_sha256,
        quantization,
        tier,
        tokenizer: source,
        unexpected,
    })
}

/// Patches that are encoded at once: one view of 896 pixels in patches of 14.
const PATCHES_MAX: usize = 4096;
/// Views that are encoded at once, however small.
const VIEWS_MAX: usize = 64;

type LoadedModels = (TextModel, Option<Arc<Tower>>);

fn load_models(
    opened: &Opened,
    storage: Storage,
    options: &LoadOptions,
    tier: Tier,
) -> Result<LoadedModels, WeightError> {
    let text = TextModel::load(&opened.config, &opened.weights, storage, tier)?;
    let hidden = opened.config.hidden;
    let vision = opened.vision.as_ref().map(|vision| {
        let (config, weights) = (&vision.config, opened.vision_weights());
        let load = || VisionTower::load(config, hidden, weights, storage, tier);
        let Some(towers) = &options.towers else {
            return Ok(Arc::new(Tower::new(load()?)));
        };
        let how = format!("{config:?} {hidden} {storage:?} {tier:?}");
        towers.get_or_load(weights.image_part_sha256(&how), load)
    });
    Ok((text, vision.transpose()?))
}

impl GemmaRunner {
    fn new(
        models: Models,
        image: Option<ImageShape>,
        config: GemmaConfig,
        cache_type: CacheType,
        cpu: Cpu,
    ) -> Self {
        let slides = config.layers_of(LayerKind::Local).next().is_some();
        let block_bytes = |kind| KvCache::block_bytes(&config, kind, cache_type);
        let shape = ModelShape {
            vocab: models.text.vocab(),
            context_tokens_max: config.context_tokens_max,
            window: slides.then_some(config.window),
            global_block_bytes: block_bytes(LayerKind::Global),
            local_block_bytes: block_bytes(LayerKind::Local),
            image,
        };
        Self {
            models,
            soft: HashMap::new(),
            config,
            cache_type,
            cache: None,
            shape,
            cpu,
        }
    }

    /// The part that reads pictures, if there is one.
    pub fn vision(&self) -> Option<&VisionTower> {
        self.models.vision.as_deref().map(Tower::tower)
    }
}

impl Forward for GemmaRunner {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn allocate(&mut self, global_blocks: usize, local_blocks: usize) -> Result<(), ForwardError> {
        // What was allocated before goes first: the two need not fit together.
        self.cache = None;
        let (cache_type, tier) = (self.cache_type, self.cpu.tier());
        let cache = KvCache::new(&self.config, cache_type, tier, global_blocks, local_blocks);
        self.cache = Some(cache.map_err(|error| ForwardError {
            message: format!("no memory for {global_blocks} and {local_blocks} blocks: {error}"),
            fatal: true,
        })?);
        Ok(())
    }

    fn encode(&mut self, views: &[&View]) -> Result<usize, ForwardError> {
        let Some(vision) = &self.models.vision else {
            return Err(failed("the model reads no pictures".to_owned()));
        };
        let encoded = self.cpu.run(|| vision.encode(views));
        let (soft, encoded) = encoded.map_err(|error| failed(error.to_string()))?;
        let named = views.iter().map(|view| *view.sha256());
        self.soft.extend(named.zip(soft));
        Ok(encoded)
    }

    fn forget(&mut self, contents: &Contents) {
        self.soft.remove(contents);
    }

    fn forward(&mut self, batch: &StepBatch, logits: &mut Logits) -> Result<(), ForwardError> {
        let Some(cache) = &mut self.cache else {
            return Err(failed("no blocks were allocated".to_owned()));
        };
        let (model, soft, window) = (&self.models.text, &self.soft, self.shape.window);
        logits.vocab = self.shape.vocab;
        let done = self.cpu.run(|| {
            let step = StepLayout::new(batch, window, cache)?;
            let soft = step.images.iter().map(|(rows, contents)| {
                let values = soft.get(*contents).map(|soft| &**soft);
                values.ok_or_else(|| format!("the picture of rows {rows:?} is not encoded"))
            });
            let soft = soft.collect::<Result<Vec<_>, String>>()?;
            model
                .forward(&step, &soft, cache, &mut logits.values)
                .map_err(|error| error.to_string())
        });
        done.map_err(failed)
    }

    fn cpu(&self) -> Option<&Cpu> {
        Some(&self.cpu)
    }
}

fn failed(message: String) -> ForwardError {
    ForwardError {
        message,
        fatal: false,
    }
}
