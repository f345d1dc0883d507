//! Answers of a given form: which tokens may come next, found by the `llguidance` library.
//!
//! A form is compiled once a request, before the engine thread sees it. What it keeps after that is
//! how far one answer is: every draw asks for the tokens that may come next, and says which one did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::batch::TokenId;
use crate::prompt::Tokenizer;

/// What form an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Any JSON object.
    JsonObject,
    /// JSON that a JSON Schema describes. References within it are followed, others are refused.
    JsonSchema(Value),
}

/// Between the parts of JSON: at most one new line with its indentation, so that an answer cannot go
/// on without saying anything.
const WHITESPACE: &str = r"\n?[ ]{0,24}";

/// States that the words of a grammar may have while an answer is made, of some 2 kB each: a schema that
/// needs more fails its own answer.
const LEXER_STATES_MAX: usize = 20_000;

/// Why an answer cannot have a form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GrammarError {
    /// What the library reported.
    message: String,
}

impl GrammarError {
    fn new(error: impl std::fmt::Display) -> Self {
        let message = error.to_string();
        // What follows the first line is about the library's own state.
        let first = message.lines().next().unwrap_or_default();
        Self {
            message: first.to_owned(),
        }
    }
}

/// Makes grammars for the tokens of one model.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a tokenizer, and the tokens with which answers end. Takes a moment and some memory: the
    /// bytes of all tokens are put into a tree.
    pub(crate) fn new(tokenizer: &Tokenizer, end_tokens: &[TokenId]) -> Result<Self, GrammarError> {
        let (Some(first_end), Ok(count)) =
            (end_tokens.first(), u32::try_from(tokenizer.token_count()))
        else {
            return Err(GrammarError::new(
                "the model has no token that ends an answer",
            ));
        };
        let words: Vec<Vec<u8>> = (0..count).map(|token| word(tokenizer, token)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(count, *first_end), &words);
        let trie = trie.with_eos_tokens(end_tokens);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(GrammarError::new)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_lexer_states = LEXER_STATES_MAX;
        Ok(Self { factory })
    }

    /// The beginning of an answer of this form. CPU-bound; bounded by the library's limits on the
    /// size of grammars.
    pub(crate) fn compile(&self, form: &Form) -> Result<Grammar, GrammarError> {
        let mut schema = match form {
            Form::JsonObject => json!({"type": "object"}),
            Form::JsonSchema(schema) => schema.clone(),
        };
        if let Value::Object(fields) = &mut schema {
            let options = json!({"whitespace_pattern": WHITESPACE});
            fields.insert("x-guidance".to_owned(), options);
        }
        let parser = self
            .factory
            .create_parser(TopLevelGrammar::from_json_schema(schema));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(GrammarError::new(error)),
            None => Ok(Grammar {
                matcher: Mutex::new(Box::new(matcher)),
            }),
        }
    }
}

/// The bytes of a token as the library wants them: those of a control token behind a mark, so that no
/// text can stand for it.
fn word(tokenizer: &Tokenizer, token: TokenId) -> Vec<u8> {
    let bytes = tokenizer.bytes(token);
    if !bytes.is_empty() {
        return bytes;
    }
    let name = tokenizer.spelling(token).unwrap_or_default();
    [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
}

/// How far one answer is in its form. A clone goes its own way from there.
pub struct Grammar {
    matcher: Mutex<Box<Matcher>>,
}

impl Clone for Grammar {
    fn clone(&self) -> Self {
        let matcher = self.matcher().deep_clone();
        Self {
            matcher: Mutex::new(Box::new(matcher)),
        }
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// Rules the tokens out that cannot come next. `row`: logits, `[vocab]`.
    pub(crate) fn restrict(&self, row: &mut [f32]) -> Result<(), GrammarError> {
        let allowed = self
            .matcher()
            .compute_mask_or_eos()
            .map_err(GrammarError::new)?;
        let rest = allowed.len().min(row.len());
        allowed.iter_unset_entries(|token| {
            if let Some(logit) = row.get_mut(token) {
                *logit = f32::NEG_INFINITY;
            }
        });
        row[rest..].fill(f32::NEG_INFINITY);
        Ok(())
    }

    /// Goes on behind a token that was drawn.
    pub(crate) fn advance(&self, token: TokenId) -> Result<(), GrammarError> {
        let mut matcher = self.matcher();
        // Whole already: what follows can only be the end.
        if matcher.is_stopped() {
            return Ok(());
        }
        matcher.consume_token(token).map_err(GrammarError::new)
    }

    /// Nobody else asks at the same time: an answer has one row a step.
    fn matcher(&self) -> MutexGuard<'_, Box<Matcher>> {
        self.matcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
