//! Prompts: messages or text in, token ids out. Pure work on strings, done before the engine
//! thread sees a request.
//!
//! **What users write cannot steer the model.** Where a model has a chat template, control tokens
//! are read in the template's own text only: `<end_of_turn>` inside a message is spelled out like
//! any other word. A plain completion prompt has no such border, and is read as the reference
//! tokenizer reads it.

mod gguf_vocab;
mod images;
mod judge;
mod template;
mod text_stream;
mod tokenizer;

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};

pub use images::{PlacedView, Prepared};
pub use judge::Judged;
pub use template::{ChatTemplate, Context, Message, Part, Role, TemplateError};
pub use text_stream::TextStream;
pub use tokenizer::{Tokenizer, TokenizerError};

use crate::batch::TokenId;
use crate::image::Image;
use crate::source::ModelSource;
use crate::weights::gguf_head;
use images::{ImageTokens, Piece};

/// What a model is to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation, put into the model's chat template. A model without a template gets the
    /// texts as they are, see [`Prompter::tokens`].
    Chat {
        /// The conversation so far; the model answers next.
        messages: Vec<Message>,
    },
    /// Text to continue, as it is, after the model's beginning-of-sequence token.
    Text(String),
    /// Token ids, as they are.
    Tokens(Vec<TokenId>),
    /// What [`Prompter::prepare`] made of one of the others.
    Prepared(Prepared),
}

/// Why a prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The chat template did not take the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The messages use up the characters that keep control tokens in them apart.
    #[error("messages hold all of the Unicode noncharacters U+FDD0 to U+FDEF")]
    NoGuard,
    /// A token id is not in the vocabulary.
    #[error("token id {id} is not in the vocabulary of {tokens} tokens")]
    UnknownToken {
        /// The id.
        id: TokenId,
        /// Size of the vocabulary.
        tokens: usize,
    },
    /// A picture for a model that reads none.
    #[error("the model reads no pictures, the messages hold {given}")]
    NoImages {
        /// How many there are.
        given: usize,
    },
    /// The template has no place for a picture, or more places than there are pictures.
    #[error("the model's chat template places {placed} pictures, the messages hold {given}")]
    Unplaced {
        /// How many the messages hold.
        given: usize,
        /// How many the template has a place for.
        placed: usize,
    },
    /// A picture was prepared for another model.
    #[error("a view is {bytes} bytes, the model reads {side}x{side} pixels, {expected} bytes")]
    ViewSize {
        /// Bytes of the view.
        bytes: usize,
        /// Bytes of a view for this model.
        expected: usize,
        /// Width and height of a view for this model, in pixels.
        side: u32,
    },
}

/// A model's tokenizer and chat template, and the tokens that end its answers.
#[derive(Debug)]
pub struct Prompter {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    end_tokens: Vec<TokenId>,
    /// `None` for a model that reads text only.
    images: Option<ImageTokens>,
}

/// The template version of models without one; changes when the joining of messages does.
const COMPLETION_VERSION: &str = "completion-1";

/// What joins the messages of a plain completion prompt.
const MESSAGE_BREAK: &str = "\n\n";

impl Prompter {
    /// Puts the parts together; answers end at the tokenizer's end tokens and at `end_tokens`.
    pub fn new(
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        end_tokens: &[TokenId],
    ) -> Self {
        let mut all: Vec<_> = tokenizer.end_tokens();
        all.extend_from_slice(end_tokens);
        all.sort_unstable();
        all.dedup();
        Self {
            tokenizer,
            template,
            end_tokens: all,
            images: None,
        }
    }

    /// The same for a model that gives `count` tokens to a view of `side` by `side` pixels.
    pub fn with_images(mut self, count: usize, side: u32) -> Result<Self, PromptError> {
        self.images = Some(ImageTokens::new(&self.tokenizer, count, side)?);
        Ok(self)
    }

    /// Reads a GGUF file or a model's folder; answers also end at `end_tokens`.
    pub fn open(
        source: impl Into<ModelSource>,
        end_tokens: &[TokenId],
    ) -> Result<Self, PromptError> {
        let source = source.into();
        let prompter = if let ModelSource::Path(path) = &source
            && path.is_file()
        {
            let failed = |message: String| {
                TokenizerError::invalid(format!("`{}`: {message}", path.display()))
            };
            let mut file = std::fs::File::open(path).map_err(|source| TokenizerError::Read {
                path: path.display().to_string(),
                source,
            })?;
            let mut reader = std::io::BufReader::new(&mut file);
            let content = gguf_head(&mut reader).map_err(failed)?;
            Self::from_gguf(&content)?
        } else {
            Self::from_folder(&source)?
        };
        let all = [prompter.end_tokens, end_tokens.to_vec()].concat();
        Ok(Self::new(prompter.tokenizer, prompter.template, &all))
    }

    /// Reads tokenizer, template (`tokenizer.chat_template`) and end tokens of a GGUF.
    pub fn from_gguf(content: &Content) -> Result<Self, PromptError> {
        let tokenizer = Tokenizer::from_gguf(content)?;
        let template = match content.metadata.get("tokenizer.chat_template") {
            Some(Value::String(source)) => Some(ChatTemplate::new(source)?),
            _ => None,
        };
        let turn_end = content.metadata.get("tokenizer.ggml.eot_token_id");
        let end_tokens: Vec<_> = turn_end
            .and_then(|id| id.to_u32().ok())
            .into_iter()
            .collect();
        Ok(Self::new(tokenizer, template, &end_tokens))
    }

    /// Reads `tokenizer.json`, the template (`chat_template.jinja`, else `tokenizer_config.json`)
    /// and end tokens (`generation_config.json`) of a model's folder.
    pub fn from_folder(folder: &ModelSource) -> Result<Self, PromptError> {
        let json = read(folder, "tokenizer.json")?.ok_or_else(|| TokenizerError::Read {
            path: folder.path_of("tokenizer.json").display().to_string(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let tokenizer = Tokenizer::from_json(&json)?;
        let source = match read(folder, "chat_template.jinja")? {
            Some(source) => Some(String::from_utf8_lossy(&source).into_owned()),
            None => read_json(folder, "tokenizer_config.json")?
                .as_ref()
                .and_then(|config| template_source(config.get("chat_template")?)),
        };
        let template = source.as_deref().map(ChatTemplate::new).transpose()?;
        let generation = read_json(folder, "generation_config.json")?;
        let end_tokens = generation.as_ref().map(end_token_ids).unwrap_or_default();
        Ok(Self::new(tokenizer, template, &end_tokens))
    }

    /// The tokens of `prompt`, see [`Prompter::prepare`].
    pub fn tokens(&self, prompt: &Prompt) -> Result<Vec<TokenId>, PromptError> {
        Ok(self.prepare(prompt)?.tokens)
    }

    /// The tokens of `prompt`, and the pictures that some of them stand for. CPU-bound: call it
    /// where blocking is allowed.
    ///
    /// Without a template, a conversation becomes the texts of its messages, whitespace included,
    /// joined by blank lines: a single message reaches the model verbatim.
    pub fn prepare(&self, prompt: &Prompt) -> Result<Prepared, PromptError> {
        match prompt {
            Prompt::Chat { messages } => {
                self.check_images(messages)?;
                match &self.template {
                    Some(template) => self.chat(template, messages, None),
                    None => self.completion(&completion_pieces(messages)),
                }
            }
            Prompt::Text(text) => self.completion(&[Piece::Text(text)]),
            Prompt::Tokens(ids) => {
                let tokens = self.tokenizer.token_count();
                let unknown = ids.iter().find(|id| **id as usize >= tokens);
                match unknown {
                    Some(&id) => Err(PromptError::UnknownToken { id, tokens }),
                    None => Ok(ids.clone().into()),
                }
            }
            Prompt::Prepared(prepared) => Ok(prepared.clone()),
        }
    }

    /// The tokens of `messages` in `template`, about `guideline` where it asks for one.
    fn prepare_in(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        guideline: Option<&str>,
    ) -> Result<Prepared, PromptError> {
        self.check_images(messages)?;
        self.chat(template, messages, guideline)
    }

    /// Refuses pictures that the model does not read.
    fn check_images(&self, messages: &[Message]) -> Result<(), PromptError> {
        let images = images_of(messages);
        match &self.images {
            Some(tokens) => images.into_iter().try_for_each(|image| tokens.check(image)),
            None if images.is_empty() => Ok(()),
            None => Err(PromptError::NoImages {
                given: images.len(),
            }),
        }
    }

    fn completion(&self, pieces: &[Piece<'_>]) -> Result<Prepared, PromptError> {
        let mut prepared = if let Some(images) = &self.images {
            // Markers that are written out are words: only a part can be a picture.
            let encode = |text: &str, ids: &mut Vec<_>| self.tokenizer.encode_unmarked(text, ids);
            images.lay_out(pieces, encode)?
        } else {
            let text: String = pieces.iter().filter_map(Piece::text).collect();
            self.tokenizer.encode(&text)?.into()
        };
        if let Some(bos) = self.tokenizer.bos() {
            prepared.insert_first(bos);
        }
        Ok(prepared)
    }

    /// Renders with every possible beginning of a control token in the messages followed by a
    /// guard character, so that the control tokens of the rendered text are the template's, and
    /// so are the places of pictures.
    fn chat(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        guideline: Option<&str>,
    ) -> Result<Prepared, PromptError> {
        let guard = ('\u{FDD0}'..='\u{FDEF}')
            .find(|guard| {
                !messages
                    .iter()
                    .any(|message| joined_parts(message).contains(*guard))
            })
            .ok_or(PromptError::NoGuard)?;
        let guarded: Vec<Message> = messages
            .iter()
            .map(|message| self.guarded(message, guard))
            .collect();
        let (bos, eos) = (self.tokenizer.bos_text(), self.tokenizer.eos_text());
        let context = Context {
            bos: &bos,
            eos: &eos,
            guideline,
        };
        let text = template.render(&guarded, &context)?;
        let Some(images) = &self.images else {
            return Ok(self.tokenizer.encode_guarded(&text, guard)?.into());
        };
        let pieces = images::pieces_of(&text, &images_of(messages))?;
        let encode = |text: &str, ids: &mut Vec<TokenId>| {
            ids.extend(self.tokenizer.encode_guarded(text, guard)?);
            Ok(())
        };
        Ok(images.lay_out(&pieces, encode)?)
    }

    fn guarded(&self, message: &Message, guard: char) -> Message {
        let guard_text = |text: &str| {
            let mut guarded = String::with_capacity(text.len());
            for c in text.chars() {
                guarded.push(c);
                if self.tokenizer.can_start_control(c) {
                    guarded.push(guard);
                }
            }
            guarded
        };
        let parts = message.parts.iter().map(|part| match part {
            Part::Text(text) => Part::Text(guard_text(text)),
            Part::Image(image) => Part::Image(Arc::clone(image)),
        });
        Message {
            role: message.role,
            parts: parts.collect(),
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether conversations go through a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Names the way messages become prompts: part of the key under which a result is reused.
    pub fn template_version(&self) -> &str {
        self.template
            .as_ref()
            .map_or(COMPLETION_VERSION, ChatTemplate::version)
    }

    /// Tokens that end an answer, ascending.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }
}

fn joined_parts(message: &Message) -> String {
    message.parts.iter().filter_map(Part::text).collect()
}

fn images_of(messages: &[Message]) -> Vec<&Arc<Image>> {
    let parts = messages.iter().flat_map(|message| &message.parts);
    parts.filter_map(Part::image).collect()
}

/// Messages as a model without a template reads them.
fn completion_pieces(messages: &[Message]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            pieces.push(Piece::Text(MESSAGE_BREAK));
        }
        for part in &message.parts {
            match part {
                Part::Text(text) => pieces.push(Piece::Text(text)),
                Part::Image(image) => images::push_image(&mut pieces, image),
            }
        }
    }
    pieces
}

/// A file of a model's folder; `None` if there is no such file.
fn read(folder: &ModelSource, name: &str) -> Result<Option<Cow<'static, [u8]>>, TokenizerError> {
    folder.read(name).map_err(|source| TokenizerError::Read {
        path: folder.path_of(name).display().to_string(),
        source,
    })
}

/// The JSON of a file of a model's folder; `None` if there is no such file.
fn read_json(
    folder: &ModelSource,
    name: &str,
) -> Result<Option<serde_json::Value>, TokenizerError> {
    let Some(bytes) = read(folder, name)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        TokenizerError::invalid(format!("`{}`: {error}", folder.path_of(name).display()))
    })
}

/// `chat_template` is a text, or a list of named texts of which `default` is for conversations.
fn template_source(value: &serde_json::Value) -> Option<String> {
    let text = match value {
        serde_json::Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")?
            .get("template")?,
        text => text,
    };
    text.as_str().map(str::to_owned)
}

/// `eos_token_id` is a number or a list of them.
fn end_token_ids(generation_config: &serde_json::Value) -> Vec<TokenId> {
    let ids = &generation_config["eos_token_id"];
    let list = ids
        .as_array()
        .map_or(std::slice::from_ref(ids), Vec::as_slice);
    list.iter()
        .filter_map(|id| TokenId::try_from(id.as_u64()?).ok())
        .collect()
}
