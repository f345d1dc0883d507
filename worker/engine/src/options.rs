//! What an engine is started with.

/// Bounds of an engine. Memory for keys and values is taken at start, and never grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that run at once.
    pub slots_max: usize,
    /// How many of those bulk requests may not take.
    pub interactive_slots_reserved: usize,
    /// Tokens of a step: decode tokens of all sequences and chunks of prompts together. A model
    /// that reads pictures raises it to `slots_max` and the tokens of one picture.
    pub step_tokens_max: usize,
    /// Bytes for keys and values, both pools together.
    pub kv_bytes_max: usize,
    /// Requests of a class that may wait besides those that run; more are refused.
    pub waiting_max: usize,
    /// Whether requests that begin alike share what was computed of it.
    pub prefix_sharing: bool,
    /// Most tokens guessed for an answer in a step, from what its prompt and itself said before; 0
    /// for none. Guesses take the rows of slots that are free, and change speed only.
    pub draft_tokens_max: usize,
    /// Longest sequence, prompt and output together; `None` for the model's own limit.
    pub context_tokens_max: Option<usize>,
    /// Bytes for the soft tokens of pictures that may come again.
    pub encoded_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slots_max: 32,
            interactive_slots_reserved: 2,
            step_tokens_max: 512,
            kv_bytes_max: 512 << 20,
            waiting_max: 256,
            prefix_sharing: true,
            draft_tokens_max: 0,
            context_tokens_max: None,
            encoded_bytes_max: 256 << 20,
        }
    }
}

impl EngineOptions {
    /// What does not go together, if anything.
    pub fn validate(&self) -> Result<(), String> {
        if self.slots_max == 0 {
            return Err("slots_max is 0, it must be at least 1".to_owned());
        }
        if self.interactive_slots_reserved >= self.slots_max {
            return Err(format!(
                "interactive_slots_reserved is {}, it must be below slots_max, which is {}",
                self.interactive_slots_reserved, self.slots_max
            ));
        }
        // Every running sequence may take a token.
        if self.step_tokens_max < self.slots_max {
            return Err(format!(
                "step_tokens_max is {}, it must be at least slots_max, which is {}",
                self.step_tokens_max, self.slots_max
            ));
        }
        Ok(())
    }

    /// Tokens of a step where a range of `atomic_tokens_max` must fit beside a token of every
    /// running sequence.
    pub(crate) fn step_tokens(&self, atomic_tokens_max: usize) -> usize {
        let least = self.slots_max.saturating_add(atomic_tokens_max);
        self.step_tokens_max.max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_named() {
        let base = EngineOptions::default();
        assert_eq!(base.validate(), Ok(()));
        let error = |options: EngineOptions| options.validate().unwrap_err();
        assert!(
            error(EngineOptions {
                slots_max: 0,
                ..base.clone()
            })
            .starts_with("slots_max")
        );
        assert_eq!(
            error(EngineOptions {
                interactive_slots_reserved: 32,
                ..base.clone()
            }),
            "interactive_slots_reserved is 32, it must be below slots_max, which is 32"
        );
        assert_eq!(
            error(EngineOptions {
                step_tokens_max: 31,
                ..base.clone()
            }),
            "step_tokens_max is 31, it must be at least slots_max, which is 32"
        );
        assert_eq!(
            (base.step_tokens(0), base.step_tokens(500)),
            (512, 32 + 500)
        );
    }
}
