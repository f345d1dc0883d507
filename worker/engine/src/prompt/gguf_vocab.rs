//! A GGUF's vocabulary, and the merges that it leaves out.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::{Content, Value};

use super::tokenizer::TokenizerError;
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
        let model = content.metadata.get("tokenizer.ggml.model").map(Value::to_string);
        match model {
            Some(Ok(model)) if model == "llama" => {}
            Some(Ok(model)) => {
                return Err(TokenizerError::invalid(format!(
                    "the file holds a `{model}` tokenizer, Gemma's is `llama`"
                )));
            }
            _ => return Err(TokenizerError::invalid("the file has no `tokenizer.ggml.model`")),
        }
        // A user-defined run of spaces is stored as spaces, and matched after they are marked.
        let tokens: Vec<String> = array(content, "tokenizer.ggml.tokens", |value| {
            value.to_string().ok().map(|text| text.replace(' ', "\u{2581}"))
        })?;
        let scores = array(content, "tokenizer.ggml.scores", |value| value.to_f32().ok())?;
        let kinds = array(content, "tokenizer.ggml.token_type", |value| value.to_i32().ok())?;
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
        Ok(Self { tokens, scores, kinds, ids })
    }

    pub(super) fn id(&self, token: &str) -> Option<TokenId> {
        self.ids.get(token).copied()
    }

    /// Ids by token.
    pub(super) fn ids(&self) -> HashMap<String, TokenId> {
        self.ids.clone()
    }

    /// Control and user-defined tokens, with their kinds.
    pub(super) fn added(&self) -> impl Iterator<Item = (&str, i32)> {
        let all = self.tokens.iter().map(String::as_str).zip(self.kinds.iter().copied());
        all.filter(|(_, kind)| matches!(*kind, KIND_CONTROL | KIND_USER_DEFINED))
    }

    /// Every split of every normal token into two known tokens, best token first.
    pub(super) fn merges(&self) -> Vec<(String, String)> {
        let mut splits: Vec<(TokenId, TokenId, TokenId)> = Vec::new();
        for (id, token) in (0u32..).zip(&self.tokens) {
            if self.kinds[id as usize] != KIND_NORMAL {
                continue;
            }
            for (middle, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(middle);
                if let (Some(left), Some(right)) = (self.id(left), self.id(right)) {
                    splits.push((id, left, right));
                }
            }
        }
        let score = |id: TokenId| self.scores[id as usize];
        splits.sort_unstable_by(|a, b| {
            score(b.0).total_cmp(&score(a.0)).then((a.1, a.2).cmp(&(b.1, b.2)))
        });
        let text = |id: TokenId| self.tokens[id as usize].clone();
        splits.into_iter().map(|(_, left, right)| (text(left), text(right))).collect()
    }
}

fn array<T>(
    content: &Content,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, TokenizerError> {
    let values = match content.metadata.get(key) {
        Some(Value::Array(values)) => values,
        _ => return Err(TokenizerError::invalid(format!("the file has no array `{key}`"))),
    };
    let read: Option<Vec<T>> = values.iter().map(read).collect();
    read.ok_or_else(|| TokenizerError::invalid(format!("`{key}` holds values of a wrong type")))
}
