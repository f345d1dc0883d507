//! Logits to a token. Pure: the same row, settings and history give the same token, whatever
//! else is in the batch.
//!
//! Order of processing is that of `transformers`: repetition penalty, temperature, top-k, top-p.
//! Where logits tie, lower token ids come first. A draw is a hash of seed and position, so it
//! does not depend on which tokens were drawn before, or how often a step was repeated.

use crate::batch::TokenId;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher values flatten the distribution.
    pub temperature: f32,
    /// Draw from this many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and output; also at
    /// temperature 0. `None` leaves logits as they are.
    pub repetition_penalty: Option<f32>,
    /// Chooses among the likely tokens: equal seeds give equal text.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token at each step.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        repetition_penalty: None,
        seed: 0,
    };

    /// What is wrong with the values, if anything is.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!(
                "temperature is {}, it must be 0 or more",
                self.temperature
            ));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!(
                "top_p is {}, it must be above 0 and at most 1",
                self.top_p
            ));
        }
        match self.repetition_penalty {
            Some(penalty) if !(penalty.is_finite() && penalty > 0.0) => Err(format!(
                "repetition_penalty is {penalty}, it must be above 0"
            )),
            _ => Ok(()),
        }
    }
}

/// How likely the model held a token, before any of the settings changed its logits.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens with theirs, likeliest first.
    pub top: Vec<(TokenId, f32)>,
}

/// One choice to make.
#[derive(Debug)]
pub struct Choice<'a> {
    /// Logits, `[vocab]`; changed in place.
    pub row: &'a mut [f32],
    /// How to choose.
    pub sampling: &'a Sampling,
    /// Prompt and output so far; the token's position is their number.
    pub history: &'a [TokenId],
    /// Tokens that may not be chosen.
    pub suppressed: &'a [TokenId],
}

/// The logits hold no finite maximum: nothing can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model's logits are not finite")]
pub struct NotFinite;

impl Choice<'_> {
    /// Chooses the next token.
    pub fn draw(self) -> Result<TokenId, NotFinite> {
        let Self {
            row,
            sampling,
            history,
            suppressed,
        } = self;
        for token in suppressed {
            if let Some(logit) = row.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(penalty) = sampling.repetition_penalty {
            penalise(row, history, penalty);
        }
        if sampling.temperature == 0.0 {
            return argmax(row);
        }
        let max = maximum(row);
        if !max.is_finite() {
            return Err(NotFinite);
        }
        let weight = |logit: f32| f64::from(((logit - max) / sampling.temperature).exp());
        let unit = uniform(sampling.seed, history.len() as u64);
        let nucleus = match (sampling.top_k, sampling.top_p < 1.0) {
            (0, false) => return pick(row.iter().map(|l| weight(*l)).zip(0..), unit),
            (0, true) => nucleus_of_all(row, f64::from(sampling.top_p), weight),
            (top_k, _) => {
                let weights: Vec<_> = top_candidates(row, top_k)
                    .iter()
                    .map(|c| (weight(c.logit), c.token))
                    .collect();
                let total = weights.iter().map(|(weight, _)| weight).sum();
                nucleus(weights, total, f64::from(sampling.top_p)).0
            }
        };
        pick(nucleus.into_iter(), unit)
    }
}

/// The likeliest token; the lowest id of those that tie.
pub fn argmax(row: &[f32]) -> Result<TokenId, NotFinite> {
    let parts = row.chunks(NEAR).map(maximum).enumerate();
    let (part, max) = parts.fold((0, f32::NEG_INFINITY), |best, part| {
        if part.1 > best.1 { part } else { best }
    });
    if !max.is_finite() {
        return Err(NotFinite);
    }
    let within = row[part * NEAR..].iter().position(|logit| *logit >= max);
    let index = part * NEAR + within.ok_or(NotFinite)?;
    TokenId::try_from(index).map_err(|_| NotFinite)
}

/// Log-probability of `token` in a row of raw logits, with the `top` likeliest.
pub fn token_logprob(row: &[f32], token: TokenId, top: usize) -> Result<TokenLogprob, NotFinite> {
    let max = maximum(row);
    if !max.is_finite() {
        return Err(NotFinite);
    }
    let sum: f64 = row.iter().map(|logit| f64::from((logit - max).exp())).sum();
    let log_sum = f64::from(max) + sum.ln();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded to the precision of the logits"
    )]
    let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
    let logit = row
        .get(token as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    let best = top_candidates(row, top);
    let top = best.iter().map(|c| (c.token, logprob(c.logit))).collect();
    Ok(TokenLogprob {
        token,
        logprob: logprob(logit),
        top,
    })
}

/// As `RepetitionPenaltyLogitsProcessor` of `transformers`: once for each distinct token.
fn penalise(row: &mut [f32], history: &[TokenId], penalty: f32) {
    let mut seen = history.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(logit) = row.get_mut(token as usize) {
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    logit: f32,
    token: TokenId,
}

/// The order in which candidates are preferred.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape of a comparison"
)]
fn preferred(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// Values that are near when they are read a second time; a row is not.
const NEAR: usize = 4096;

/// Values that are compared at a time: wide enough to skip most of a row by its maxima.
const STRIDE: usize = 256;

/// The `count` likeliest tokens with finite logits, likeliest first, in one pass over the row.
fn top_candidates(row: &[f32], count: usize) -> Vec<Candidate> {
    if count == 0 {
        return Vec::new();
    }
    let mut kept: Vec<Candidate> = Vec::with_capacity(2 * count.min(row.len()));
    let mut threshold = f32::NEG_INFINITY;
    for (stride, start) in row.chunks(STRIDE).zip((0u32..).step_by(STRIDE)) {
        if maximum(stride) <= threshold {
            continue;
        }
        for (&logit, token) in stride.iter().zip(start..) {
            // An equal logit of a higher id loses the tie against those kept.
            if logit > threshold {
                kept.push(Candidate { logit, token });
                if kept.len() == 2 * count {
                    kept.select_nth_unstable_by(count - 1, preferred);
                    kept.truncate(count);
                    threshold = kept[count - 1].logit;
                }
            }
        }
    }
    kept.sort_unstable_by(preferred);
    kept.truncate(count);
    kept
}

/// The leading candidates until their weights reach `top_p` of `total`, at least one; and whether
/// they did.
fn nucleus(
    mut weights: Vec<(f64, TokenId)>,
    total: f64,
    top_p: f64,
) -> (Vec<(f64, TokenId)>, bool) {
    let mut sum = 0.0;
    let reached = weights.iter().position(|(weight, _)| {
        sum += weight;
        sum >= top_p * total
    });
    if let Some(last) = reached {
        weights.truncate(last + 1);
    }
    (weights, reached.is_some())
}

/// The nucleus of a whole row, looked for among more and more of its likeliest tokens.
fn nucleus_of_all(row: &[f32], top_p: f64, weight: impl Fn(f32) -> f64) -> Vec<(f64, TokenId)> {
    let total: f64 = row.iter().map(|logit| weight(*logit)).sum();
    let mut count = STRIDE;
    loop {
        let candidates = top_candidates(row, count);
        let all = candidates.len() < count;
        let weights = candidates
            .iter()
            .map(|c| (weight(c.logit), c.token))
            .collect();
        let (nucleus, reached) = nucleus(weights, total, top_p);
        if reached || all {
            return nucleus;
        }
        count *= 8;
    }
}

/// The entry at `unit` (0 … 1) of the summed weights.
fn pick(
    weights: impl Iterator<Item = (f64, TokenId)> + Clone,
    unit: f64,
) -> Result<TokenId, NotFinite> {
    let total: f64 = weights.clone().map(|(weight, _)| weight).sum();
    let mut sum = 0.0;
    let mut last = Err(NotFinite);
    for (weight, token) in weights {
        sum += weight;
        if weight > 0.0 {
            last = Ok(token);
            if sum > unit * total {
                break;
            }
        }
    }
    last
}

/// The largest value; NaN is skipped.
fn maximum(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks
        .remainder()
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, larger);
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

/// A number in 0 … 1 for a seed and a position: two rounds of the finaliser of splitmix64
/// (Steele, Lea, Flood 2014).
fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |value: u64| {
        let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let bits = mix(mix(seed) ^ position) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    let unit = bits as f64 / (1u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests;
