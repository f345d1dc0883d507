//! A GGUF's vocabulary, and the merges that it leaves out.

use std::cmp::Reverse;
use std::collections::HashMap;

use candle_core::quantized::gguf_file::{Content, Value};

use super::tokenizer::{SPACE_MARK, TokenizerError};
use crate::batch::TokenId;

/// `tokenizer.ggml.token_type` of an ordinary token.
const KIND_NORMAL: i32 = 1;
/// … of a token that steers the model.
pub(super) const KIND_CONTROL: i32 = 3;
/// … of a token that is matched in the text before anything else.
const KIND_USER_DEFINED: i32 = 4;

/// Tokens, scores and kinds, by id.
pub(super) struct GgufVocab {
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
    ids: HashMap<String, TokenId>,
}

impl GgufVocab {
    /// Reads the `tokenizer.ggml.*` arrays; refuses a tokenizer that is not Gemma's kind.
    pub(super) fn read(content: &Content) -> Result<Self, TokenizerError> {
        let model = content
            .metadata
            .get("tokenizer.ggml.model")
            .map(Value::to_string);
        match model {
            Some(Ok(model)) if model == "llama" => {}
            Some(Ok(model)) => {
                return Err(TokenizerError::invalid(format!(
                    "the file holds a `{model}` tokenizer, Gemma's is `llama`"
                )));
            }
            _ => {
                return Err(TokenizerError::invalid(
                    "the file has no `tokenizer.ggml.model`",
                ));
            }
        }
        // Runs of spaces are stored as spaces; in the tokenizer they are runs of the mark.
        let tokens: Vec<String> = array(content, "tokenizer.ggml.tokens", |value| {
            value
                .to_string()
                .ok()
                .map(|text| text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4])))
        })?;
        let scores = array(content, "tokenizer.ggml.scores", |value| {
            value.to_f32().ok()
        })?;
        let kinds = array(content, "tokenizer.ggml.token_type", |value| {
            value.to_i32().ok()
        })?;
        if scores.len() != tokens.len() || kinds.len() != tokens.len() {
            return Err(TokenizerError::invalid(format!(
                "{} tokens, {} scores and {} token types",
                tokens.len(),
                scores.len(),
                kinds.len()
            )));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in (0u32..).zip(&tokens) {
            ids.insert(token.clone(), id);
        }
        Ok(Self {
            tokens,
            scores,
            kinds,
            ids,
        })
    }

    pub(super) fn id(&self, token: &str) -> Option<TokenId> {
        self.ids.get(token).copied()
    }

    /// All tokens with their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = (String, TokenId)> {
        self.tokens.iter().cloned().zip(0..)
    }

    /// Control and user-defined tokens, with their kinds.
    pub(super) fn added(&self) -> impl Iterator<Item = (&str, i32)> {
        let all = self
            .tokens
            .iter()
            .map(String::as_str)
            .zip(self.kinds.iter().copied());
        all.filter(|(_, kind)| matches!(*kind, KIND_CONTROL | KIND_USER_DEFINED))
    }

    /// The merges that lead to this vocabulary, first to be tried first.
    ///
    /// Every split of a token into two known ones is a merge. Runs of spaces come before all
    /// else, longest first and longest left half first; then the normal tokens by descending
    /// score, ties by the ids of the halves. Other user-defined and all control tokens are
    /// matched in the text itself and need none.
    pub(super) fn merges(&self) -> Vec<(String, String)> {
        let mut spaces: Vec<Split> = Vec::new();
        let mut words: Vec<Split> = Vec::new();
        for (id, token) in (0u32..).zip(&self.tokens) {
            let splits = match self.kinds[id as usize] {
                KIND_NORMAL => &mut words,
                KIND_USER_DEFINED if token.chars().all(|c| c == SPACE_MARK) => &mut spaces,
                _ => continue,
            };
            for (middle, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(middle);
                if let (Some(left), Some(right)) = (self.id(left), self.id(right)) {
                    splits.push(Split {
                        token: id,
                        left,
                        right,
                    });
                }
            }
        }
        let bytes = |id: TokenId| self.tokens[id as usize].len();
        spaces.sort_unstable_by_key(|split| Reverse((bytes(split.token), bytes(split.left))));
        let score = |id: TokenId| self.scores[id as usize];
        words.sort_unstable_by(|a, b| {
            score(b.token)
                .total_cmp(&score(a.token))
                .then((a.left, a.right).cmp(&(b.left, b.right)))
        });
        let text = |id: TokenId| self.tokens[id as usize].clone();
        let ordered = spaces.into_iter().chain(words);
        ordered
            .map(|split| (text(split.left), text(split.right)))
            .collect()
    }
}

/// One way to make `token` out of two others.
struct Split {
    token: TokenId,
    left: TokenId,
    right: TokenId,
}

fn array<T>(
    content: &Content,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, TokenizerError> {
    let Some(Value::Array(values)) = content.metadata.get(key) else {
        return Err(TokenizerError::invalid(format!(
            "the file has no array `{key}`"
        )));
    };
    let read: Option<Vec<T>> = values.iter().map(read).collect();
    read.ok_or_else(|| TokenizerError::invalid(format!("`{key}` holds values of a wrong type")))
}
