//! The handle by which the rest of a program uses the engine.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::{Forward, ForwardError, Logits, ModelShape, TokenId};
use crate::encoded::EncodedViews;
use crate::generation::{Generation, NextLogits, Scoring, reply_and_pending};
use crate::grammar::{Form, Grammar, GrammarError, Grammars};
use crate::image::ImageSpec;
use crate::instant::{InstantModel, ORDERS};
use crate::kv::KvBlocks;
use crate::kv::sizing::{PoolRequest, PoolSizes, size_pools};
use crate::options::EngineOptions;
use crate::prompt::{Prepared, Prompt, PromptError, Prompter};
use crate::request::{
    Generate, GenerateInput, LOGPROBS_MAX, NEXT_TOKENS_MAX, Next, Permit, Request, Score,
    SubmitError, Work,
};
use crate::runner::{self, LoadError, LoadOptions};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::sequence::Class;
use crate::source::ModelSource;
use crate::step::{Core, StepReport, VisionCounts};
use crate::stop::{Answer, StopRules};
use crate::thread::{self, Health, Shared, Stats};

/// The answer of the model that computes nothing: the last token of this.
const INSTANT_ANSWER: &str = "done";

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An option does not go with the others, or with the model.
    #[error("{message}")]
    Options {
        /// Which, its value and its limit.
        message: String,
    },
    /// The model was not loaded.
    #[error("cannot load the model")]
    Load(#[source] Box<LoadError>),
    /// Its tokenizer or chat template was not.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// There is no memory for keys and values.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The engine thread did not start.
    #[error("cannot start the engine thread")]
    Thread(#[source] std::io::Error),
}

/// What a result records of the model that made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// SHA-256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// How weights are held.
    pub quantization: String,
    /// The instruction tier they are computed with.
    pub tier: String,
}

/// A running engine. Clones are handles of the same one; it stops when the last one goes.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` once stopped.
    requests: Mutex<Option<SyncSender<Box<Request>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    prompter: Arc<Prompter>,
    model: Option<ModelInfo>,
    shape: ModelShape,
    sizes: PoolSizes,
    /// Most requests of a class, running and waiting.
    requests_max: usize,
    /// Requests in the engine, by class.
    taken: [Arc<AtomicUsize>; 2],
    /// Made once somebody asks for an answer of a form.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
}

impl Engine {
    /// Loads a model, with its tokenizer and chat template, and starts.
    pub fn load(
        source: impl Into<ModelSource>,
        load: &LoadOptions,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let loaded =
            runner::load(source, load).map_err(|error| EngineError::Load(Box::new(error)))?;
        let mut prompter = Prompter::open(loaded.tokenizer, &loaded.eos)?;
        if let Some(image) = loaded.runner.shape().image {
            prompter = prompter.with_images(image.tokens, image.spec.side)?;
        }
        let mut model = ModelInfo {
            weights_sha256: loaded.weights_sha256,
            quantization: loaded.quantization,
            tier: loaded.tier.to_string(),
        };
        let mut forward: Box<dyn Forward> = Box::new(loaded.runner);
        if load.instant {
            forward = Box::new(instant(forward.shape(), &prompter)?);
            "none".clone_into(&mut model.quantization);
        }
        Self::start_with(forward, prompter, Some(model), options)
    }

    /// Starts an engine on parts that are there.
    pub fn start(
        forward: Box<dyn Forward>,
        prompter: Prompter,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        Self::start_with(forward, prompter, None, options)
    }

    fn start_with(
        mut forward: Box<dyn Forward>,
        prompter: Prompter,
        model: Option<ModelInfo>,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        options
            .validate()
            .map_err(|message| EngineError::Options { message })?;
        let shape = forward.shape().clone();
        let sizes = sizes_for(&shape, options)?;
        forward.allocate(sizes.global as usize, sizes.local as usize)?;
        let prompter = Arc::new(prompter);
        let scheduler_options = SchedulerOptions {
            slots_max: options.slots_max,
            interactive_slots_reserved: options.interactive_slots_reserved,
            step_tokens_max: options.step_tokens(shape.atomic_tokens_max()),
            window: shape.window,
            draft_tokens_max: options.draft_tokens_max,
        };
        let view_bytes = shape.image.map_or(0, |image| image.bytes);
        let kv = KvBlocks::new(
            sizes.global,
            sizes.local,
            shape.window,
            options.prefix_sharing,
        );
        let core = Core {
            forward,
            prompter: prompter.clone(),
            scheduler: Scheduler::new(scheduler_options, kv),
            requests: std::collections::HashMap::new(),
            encoded: EncodedViews::new(options.encoded_bytes_max, view_bytes),
            vision: VisionCounts::default(),
            suppressed: suppressed_tokens(&prompter, shape.vocab),
            next_id: 0,
            logits: Logits::default(),
        };
        let requests_max = options.slots_max + options.waiting_max;
        let shared = Arc::new(Shared::new(&core));
        // As many places as there are permits: sending never waits.
        let (requests, receiver) = sync_channel(2 * requests_max);
        let thread = spawn(core, receiver, shared.clone()).map_err(EngineError::Thread)?;
        let inner = Inner {
            requests: Mutex::new(Some(requests)),
            thread: Mutex::new(Some(thread)),
            shared,
            prompter,
            model,
            shape,
            sizes,
            requests_max,
            taken: [Arc::default(), Arc::default()],
            grammars: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Submits a generation. Makes the prompt on this thread, which is CPU-bound: call it where
    /// blocking is allowed, or with [`Prompt::Tokens`].
    pub fn submit(&self, input: GenerateInput) -> Result<Generation, SubmitError> {
        let end_tokens = self.inner.prompter.end_tokens().to_vec();
        self.submit_until(input, end_tokens)
    }

    /// As [`Engine::submit`], but no token ends the answer: it has `max_tokens` tokens, unless a
    /// stop string comes up. For measuring.
    pub fn submit_unending(&self, input: GenerateInput) -> Result<Generation, SubmitError> {
        self.submit_until(input, Vec::new())
    }

    fn submit_until(
        &self,
        input: GenerateInput,
        end_tokens: Vec<TokenId>,
    ) -> Result<Generation, SubmitError> {
        let GenerateInput {
            prompt,
            sampling,
            max_tokens,
            stop,
            end_loops,
            grammar,
            logprobs,
            class,
        } = input;
        let invalid = |message| Err(SubmitError::Invalid { message });
        if let Err(message) = sampling.validate() {
            return invalid(message);
        }
        if max_tokens == 0 {
            return invalid("max_tokens is 0, it must be at least 1".to_owned());
        }
        if let Some(asked) = logprobs.filter(|asked| *asked > LOGPROBS_MAX) {
            return invalid(format!("logprobs is {asked}, the limit is {LOGPROBS_MAX}"));
        }
        let prompt = match prompt {
            Prompt::Prepared(prepared) => prepared,
            other => self.inner.prompter.prepare(&other)?,
        };
        let rules = StopRules {
            end_tokens,
            strings: stop,
            loops: end_loops,
            tokens_max: max_tokens,
        };
        let (reply, generation) = reply_and_pending();
        let work = Work::Generate(Generate {
            reply,
            answer: Answer::new(rules),
            sampling,
            grammar,
            logprobs,
            collected: Vec::new(),
            first_token: None,
        });
        self.inner.send(class, prompt, max_tokens, work)?;
        Ok(generation)
    }

    /// Scores given tokens: for each from the second on, its log-probability after those before
    /// it, with the `top` likeliest instead.
    pub fn score(&self, tokens: &[TokenId], top: usize) -> Result<Scoring, SubmitError> {
        let [prompt @ .., last] = tokens else {
            return Err(too_short(tokens));
        };
        if prompt.is_empty() {
            return Err(too_short(tokens));
        }
        if top > LOGPROBS_MAX {
            let message = format!("top is {top}, the limit is {LOGPROBS_MAX}");
            return Err(SubmitError::Invalid { message });
        }
        self.inner.check_tokens(&[*last])?;
        let (reply, scoring) = reply_and_pending();
        let work = Work::Score(Score {
            reply,
            top,
            last: *last,
            collected: Vec::new(),
        });
        let prompt = prompt.to_vec().into();
        self.inner.send(Class::Bulk, prompt, 1, work)?;
        Ok(scoring)
    }

    /// How likely `tokens` are to come next after a prompt, against each other: the logit of each. The
    /// prompt is computed, and shared, like any other; nothing is generated.
    pub fn next_logits(
        &self,
        prompt: Prepared,
        tokens: &[TokenId],
        class: Class,
    ) -> Result<NextLogits, SubmitError> {
        let count = tokens.len();
        if !(1..=NEXT_TOKENS_MAX).contains(&count) {
            let message = format!("{count} tokens to weigh, it must be 1 to {NEXT_TOKENS_MAX}");
            return Err(SubmitError::Invalid { message });
        }
        self.inner.check_tokens(tokens)?;
        let (reply, weighing) = reply_and_pending();
        let work = Work::Next(Next {
            reply,
            tokens: tokens.to_vec(),
            logits: Vec::new(),
        });
        self.inner.send(class, prompt, 1, work)?;
        Ok(weighing)
    }

    /// A prompt as the model reads it, as [`Engine::submit`] makes it. CPU-bound.
    pub fn prepare(&self, prompt: &Prompt) -> Result<Prepared, PromptError> {
        self.inner.prompter.prepare(prompt)
    }

    /// The beginning of an answer of this form. CPU-bound, the first call of an engine above all,
    /// which looks at every token of the model.
    pub fn grammar(&self, form: &Form) -> Result<Grammar, SubmitError> {
        let prompter = &self.inner.prompter;
        let make = || Grammars::new(prompter.tokenizer(), prompter.end_tokens());
        let grammars = self.inner.grammars.get_or_init(make).as_ref();
        Ok(grammars.map_err(Clone::clone)?.compile(form)?)
    }

    /// What the model wants of pictures; `None` if it reads text only.
    pub fn image_spec(&self) -> Option<ImageSpec> {
        self.inner.shape.image.map(|image| image.spec)
    }

    /// Tokenizer and chat template.
    pub fn prompter(&self) -> &Prompter {
        &self.inner.prompter
    }

    /// What is known of the loaded model; `None` for an engine that was given its parts.
    pub fn model(&self) -> Option<&ModelInfo> {
        self.inner.model.as_ref()
    }

    /// The model's shapes and sizes.
    pub fn shape(&self) -> &ModelShape {
        &self.inner.shape
    }

    /// The longest sequence it serves, prompt and output together.
    pub fn sequence_tokens_max(&self) -> usize {
        self.inner.sizes.sequence_tokens_max
    }

    /// What it does and did; cheap.
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }

    /// Tells `observer` of every step from here on, on the engine's own thread: it must be quick.
    /// There is one observer; a second one is not told anything.
    pub fn observe_steps(&self, observer: impl Fn(&StepReport) + Send + Sync + 'static) {
        self.inner.shared.observe(observer);
    }

    /// How long the step has taken that is under way; nothing between steps.
    pub fn step_time(&self) -> Duration {
        self.inner.shared.step_time()
    }

    /// Counts it as broken down from here on, as when a step does not end. What it runs gets no answer,
    /// and its thread is not waited for.
    pub fn give_up(&self, message: impl Into<String>) {
        self.inner.shared.give_up(message.into());
    }

    /// Whether it works.
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// Stops after the current step and waits until then; what was not finished fails as
    /// retryable.
    pub fn stop(&self) {
        self.inner.stop();
    }
}

impl Inner {
    fn send(
        &self,
        class: Class,
        prompt: Prepared,
        output_tokens: usize,
        work: Work,
    ) -> Result<(), SubmitError> {
        let tokens = prompt.tokens();
        if tokens.is_empty() {
            return Err(too_short(tokens));
        }
        // Soft tokens have no row in the vocabulary: they are pictures.
        let mut from = 0;
        for view in prompt.views() {
            self.check_tokens(&tokens[from..view.positions().start])?;
            from = view.positions().end;
        }
        self.check_tokens(&tokens[from..])?;
        let tokens = tokens.len();
        let limit = self.sizes.sequence_tokens_max;
        if tokens.saturating_add(output_tokens) > limit {
            return Err(SubmitError::PromptTooLong {
                tokens,
                output_tokens,
                limit,
            });
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = requests.as_ref() else {
            return Err(SubmitError::Stopped);
        };
        let limit = self.requests_max;
        let permit = Permit::take(&self.taken[class as usize], limit)
            .ok_or(SubmitError::Full { class, limit })?;
        let (submitted, admitted) = (Instant::now(), None);
        let request = Request {
            permit,
            class,
            prompt,
            work,
            submitted,
            admitted,
        };
        requests
            .try_send(Box::new(request))
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::Full { class, limit },
                TrySendError::Disconnected(_) => SubmitError::Stopped,
            })
    }

    /// Refuses tokens that the model has no row for.
    fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), PromptError> {
        let vocab = self.shape.vocab;
        match tokens.iter().find(|token| **token as usize >= vocab) {
            Some(&id) => Err(PromptError::UnknownToken { id, tokens: vocab }),
            None => Ok(()),
        }
    }

    fn stop(&self) {
        drop(
            self.requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // One that broke down ends by itself, or never.
        let failed = matches!(self.shared.health(), Health::Failed { .. });
        if let Some(thread) = thread.filter(|_| !failed) {
            // It catches its own panics: nothing is left to report.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(
    core: Core,
    requests: Receiver<Box<Request>>,
    shared: Arc<Shared>,
) -> std::io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("engine".to_owned());
    builder.spawn(move || thread::run(core, &requests, &shared))
}

fn sizes_for(shape: &ModelShape, options: &EngineOptions) -> Result<PoolSizes, EngineError> {
    let request = PoolRequest {
        kv_bytes_max: options.kv_bytes_max,
        slots_max: options.slots_max,
        step_tokens_max: options.step_tokens(shape.atomic_tokens_max()),
        context_tokens_max: options
            .context_tokens_max
            .map_or(shape.context_tokens_max, |limit| {
                limit.min(shape.context_tokens_max)
            }),
        atomic_tokens_max: shape.atomic_tokens_max(),
    };
    let sizes = size_pools(shape, &request);
    if sizes.sequence_tokens_max <= shape.atomic_tokens_max() {
        let block_bytes = shape.global_block_bytes + shape.local_block_bytes;
        return Err(EngineError::Options {
            message: format!(
                "kv_bytes_max is {}, which holds sequences of {} tokens at most; a block of 32 \
                 tokens takes {block_bytes} bytes, and the longest range that cannot be split is \
                 {} tokens",
                options.kv_bytes_max,
                sizes.sequence_tokens_max,
                shape.atomic_tokens_max(),
            ),
        });
    }
    Ok(sizes)
}

/// What computes nothing in the place of a model of this shape.
fn instant(shape: &ModelShape, prompter: &Prompter) -> Result<InstantModel, EngineError> {
    let answer = prompter.tokenizer().encode_plain(INSTANT_ANSWER);
    let answer = answer.map_err(PromptError::from)?.pop();
    let mut orders = Vec::new();
    for (text, order) in ORDERS {
        let tokens = prompter.tokenizer().encode_plain(text);
        orders.push((tokens.map_err(PromptError::from)?, order));
    }
    match (answer, prompter.end_tokens().last()) {
        (Some(answer), Some(end)) => {
            Ok(InstantModel::new(shape.clone(), answer, *end).obeying(orders))
        }
        _ => Err(EngineError::Options {
            message: "the model has no token that ends an answer".to_owned(),
        }),
    }
}

/// Media markers, and rows of logits that no token belongs to.
fn suppressed_tokens(prompter: &Prompter, vocab: usize) -> Vec<TokenId> {
    let tokenizer = prompter.tokenizer();
    let mut suppressed = tokenizer.suppressed_tokens();
    let first_unused = TokenId::try_from(tokenizer.token_count()).unwrap_or(TokenId::MAX);
    let vocab = TokenId::try_from(vocab).unwrap_or(TokenId::MAX);
    suppressed.extend(first_unused..vocab.max(first_unused));
    suppressed
}

fn too_short(tokens: &[TokenId]) -> SubmitError {
    let message = match tokens.len() {
        0 => "prompt is empty".to_owned(),
        length => format!("text to score is {length} token, it must be at least 2"),
    };
    SubmitError::Invalid { message }
}
