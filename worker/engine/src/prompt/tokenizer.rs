//! Text to token ids and back, on the `tokenizers` crate.
//!
//! Two sources give the same tokenizer: a `tokenizer.json`, and the metadata of a GGUF file. The
//! GGUF holds tokens and scores but no merges, so those are derived, see [`Tokenizer::from_gguf`].
//!
//! Control tokens (`<bos>`, `<end_of_turn>`, image markers …) are found by this module and never
//! by the library, so that a caller decides what they mean: [`Tokenizer::encode`] reads them as
//! ids wherever they are written, as the reference does; [`Tokenizer::encode_plain`] spells them
//! out like any other text.

use std::collections::{BTreeMap, HashSet};
use std::panic::catch_unwind;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::gguf_vocab::{GgufVocab, KIND_CONTROL};
use super::text_stream::TextStream;
use crate::batch::TokenId;
use crate::thread::panic_text;

/// What stands for a space inside tokens.
pub(super) const SPACE_MARK: char = '\u{2581}';

/// Control tokens that mark media, and that a text model must never draw.
const MEDIA_MARKERS: [&str; 3] = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"];

/// Tokens that end an answer whichever file names them: `<end_of_turn>` is Gemma 2 and 3's.
const TURN_ENDS: [&str; 1] = ["<end_of_turn>"];

/// Why a tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("cannot read tokenizer `{path}`")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file was read and does not describe a tokenizer of this kind.
    #[error("tokenizer is not usable: {message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
}

impl TokenizerError {
    pub(super) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::Invalid {
            message: message.to_string(),
        }
    }
}

/// A Gemma tokenizer. Shared by reference between threads; nothing in it changes after building.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Control tokens by spelling.
    control: BTreeMap<String, TokenId>,
    control_ids: HashSet<TokenId>,
    /// First bytes of control tokens: where a match can begin.
    control_starts: HashSet<u8>,
    bos: Option<TokenId>,
    add_bos: bool,
    eos: Option<TokenId>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("tokens", &self.token_count())
            .field("control", &self.control)
            .field("add_bos", &self.add_bos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_json(&bytes)
    }

    /// Reads the bytes of a `tokenizer.json`. A leading `<bos>` is added to prompts if its post
    /// processor adds one.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let (inner, around) = read_json(bytes)?;
        let control: BTreeMap<String, TokenId> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content, id))
            .collect();
        let bos = control.get("<bos>").copied();
        let add_bos = bos.is_some() && around.first().copied() == bos;
        let eos = control.get("<eos>").copied();
        Ok(Self::new(inner, control, bos, add_bos, eos))
    }

    /// Rebuilds the tokenizer from a GGUF's metadata.
    ///
    /// A GGUF has scores in place of merges; `gguf_vocab.rs` says how they come back.
    /// The golden test holds the result against the ids of `tokenizer.json`.
    pub fn from_gguf(content: &Content) -> Result<Self, TokenizerError> {
        let vocab = GgufVocab::read(content)?;
        let bos = metadata_id(content, "tokenizer.ggml.bos_token_id");
        let eos = metadata_id(content, "tokenizer.ggml.eos_token_id");
        let add_bos = match content.metadata.get("tokenizer.ggml.add_bos_token") {
            Some(Value::Bool(add)) => *add,
            _ => bos.is_some(),
        };
        let added = vocab.added_tokens();
        let control = added
            .iter()
            .filter(|token| token.special)
            .filter_map(|token| Some((token.content.clone(), vocab.id(&token.content)?)))
            .collect();
        let ids: Vocab = vocab.ids().collect();
        let bpe = BPE::builder()
            .vocab_and_merges(ids, vocab.merges())
            .unk_token("<unk>".to_owned())
            .fuse_unk(true)
            .byte_fallback(true)
            .build()
            .map_err(TokenizerError::invalid)?;
        drop(vocab);
        let mut inner = tokenizers::Tokenizer::new(bpe);
        let normalizer = Replace::new(" ", SPACE_MARK).map_err(TokenizerError::invalid)?;
        inner
            .with_normalizer(Some(NormalizerWrapper::Replace(normalizer)))
            .map_err(TokenizerError::invalid)?;
        inner.add_tokens(added).map_err(TokenizerError::invalid)?;
        Ok(Self::new(inner, control, bos, add_bos, eos))
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        control: BTreeMap<String, TokenId>,
        bos: Option<TokenId>,
        add_bos: bool,
        eos: Option<TokenId>,
    ) -> Self {
        inner.set_encode_special_tokens(true);
        inner.with_decoder(None::<DecoderWrapper>);
        let control_ids = control.values().copied().collect();
        let control_starts = control
            .keys()
            .filter_map(|text| text.bytes().next())
            .collect();
        Self {
            inner,
            control,
            control_ids,
            control_starts,
            bos,
            add_bos,
            eos,
        }
    }

    /// Text to ids, control tokens written in it read as such; no `<bos>` is added.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_segments(text, |segment, ids| self.encode_into(segment, ids))
    }

    /// As [`Tokenizer::encode`], for text in which `guard` was put after every character that can
    /// begin a control token and must not: the guards are taken out again here.
    pub(super) fn encode_guarded(
        &self,
        text: &str,
        guard: char,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        self.encode_segments(text, |segment, ids| {
            self.encode_into(&segment.replace(guard, ""), ids)
        })
    }

    /// As [`Tokenizer::encode`], but image markers are spelled out; adds to `ids`.
    pub(super) fn encode_unmarked(
        &self,
        text: &str,
        ids: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        // A guard parts the markers' letters, as in messages that go through a template.
        let Some(guard) = ('\u{FDD0}'..='\u{FDEF}').find(|guard| !text.contains(*guard)) else {
            let message = "the text holds all of the Unicode noncharacters U+FDD0 to U+FDEF";
            return Err(TokenizerError::invalid(message));
        };
        let mut guarded = text.to_owned();
        for marker in MEDIA_MARKERS {
            let (first, rest) = marker.split_at(1);
            guarded = guarded.replace(marker, &format!("{first}{guard}{rest}"));
        }
        ids.extend(self.encode_guarded(&guarded, guard)?);
        Ok(())
    }

    /// Ids of the control tokens in `text`; what lies between them goes through `encode_segment`.
    fn encode_segments(
        &self,
        text: &str,
        encode_segment: impl Fn(&str, &mut Vec<TokenId>) -> Result<(), TokenizerError>,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        let mut segment_start = 0;
        let mut at = 0;
        let starts = |byte: &u8| self.control_starts.contains(byte);
        while let Some(step) = text.as_bytes()[at..].iter().position(starts) {
            at += step;
            let Some((id, length)) = self.control_at(&text[at..]) else {
                at += 1;
                continue;
            };
            encode_segment(&text[segment_start..at], &mut ids)?;
            ids.push(id);
            at += length;
            segment_start = at;
        }
        encode_segment(&text[segment_start..], &mut ids)?;
        Ok(ids)
    }

    /// Whether a control token can begin with this character.
    pub(super) fn can_start_control(&self, c: char) -> bool {
        self.control_starts
            .contains(&c.encode_utf8(&mut [0; 4]).as_bytes()[0])
    }

    /// Text to ids, with control tokens spelled out as text: nothing a user writes here can end
    /// a turn or open an image.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// The longest control token at the start of `text`, and its length in bytes.
    fn control_at(&self, text: &str) -> Option<(TokenId, usize)> {
        let matches = self
            .control
            .iter()
            .filter(|(token, _)| text.starts_with(token.as_str()));
        matches
            .map(|(token, id)| (*id, token.len()))
            .max_by_key(|(_, length)| *length)
    }

    fn encode_into(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(TokenizerError::invalid)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// All of `tokens` as text: what a [`TextStream`] gives piece by piece.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut stream = TextStream::default();
        let mut text: String = tokens
            .iter()
            .map(|&token| stream.push(self, token))
            .collect();
        text.push_str(&stream.finish());
        text
    }

    /// The bytes that a token adds to a text, which may be a part of a character; none for a control
    /// token.
    pub fn bytes(&self, token: TokenId) -> Vec<u8> {
        super::text_stream::bytes_of(self, token)
    }

    /// The token's spelling in the vocabulary; `None` past its end.
    pub fn spelling(&self, token: TokenId) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// The id of a token by its spelling.
    pub fn id(&self, spelling: &str) -> Option<TokenId> {
        self.inner.token_to_id(spelling)
    }

    /// How many tokens there are, added ones included.
    pub fn token_count(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The first token of every prompt, where the model wants one.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos.filter(|_| self.add_bos)
    }

    /// The spelling of the beginning-of-sequence token, for templates.
    pub fn bos_text(&self) -> String {
        self.bos
            .and_then(|id| self.spelling(id))
            .unwrap_or_default()
    }

    /// The spelling of the end-of-sequence token, for templates.
    pub fn eos_text(&self) -> String {
        self.eos
            .and_then(|id| self.spelling(id))
            .unwrap_or_default()
    }

    /// Tokens that end an answer: the end of sequence and the end of a turn.
    pub fn end_tokens(&self) -> Vec<TokenId> {
        let turn_ends = TURN_ENDS
            .iter()
            .filter_map(|text| self.control.get(*text).copied());
        self.eos.into_iter().chain(turn_ends).collect()
    }

    /// Tokens that must never be drawn: media markers.
    pub fn suppressed_tokens(&self) -> Vec<TokenId> {
        MEDIA_MARKERS
            .iter()
            .filter_map(|text| self.id(text))
            .collect()
    }

    /// Whether the token steers the model and has no text of its own.
    pub fn is_control(&self, token: TokenId) -> bool {
        self.control_ids.contains(&token)
    }

    /// The control tokens by spelling.
    pub fn control_tokens(&self) -> impl Iterator<Item = (&str, TokenId)> {
        self.control.iter().map(|(text, id)| (text.as_str(), *id))
    }
}

/// The library's tokenizer, and the tokens that it puts around no text. The library panics where parts of the
/// file are no JSON, are not of their kind, or name what is not there.
fn read_json(bytes: &[u8]) -> Result<(tokenizers::Tokenizer, Vec<TokenId>), TokenizerError> {
    let read = catch_unwind(|| {
        let inner = tokenizers::Tokenizer::from_bytes(bytes)?;
        let around = inner.encode("", true)?.get_ids().to_vec();
        Ok::<_, tokenizers::Error>((inner, around))
    });
    let read = read.map_err(|panic| TokenizerError::invalid(panic_text(&*panic)))?;
    read.map_err(TokenizerError::invalid)
}

/// Builds the added tokens of a GGUF: control tokens, and user-defined ones such as HTML tags.
///
/// The control tokens are the ones Gemma's `tokenizer.json` marks as special. GGUF marks every
/// `<unusedN>` and `<mask>` as control too, and the image markers as user-defined.
impl GgufVocab {
    fn added_tokens(&self) -> Vec<AddedToken> {
        let added = self.added();
        added
            .map(|(text, kind)| {
                let unused = text.starts_with("<unused") || text == "<mask>";
                let special = MEDIA_MARKERS.contains(&text) || (kind == KIND_CONTROL && !unused);
                AddedToken::from(text, special).normalized(false)
            })
            .collect()
    }
}

fn metadata_id(content: &Content, key: &str) -> Option<TokenId> {
    content
        .metadata
        .get(key)
        .and_then(|value| value.to_u32().ok())
}
