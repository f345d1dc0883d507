//! What an engine is started with.

/// Bounds of an engine. Memory for keys and values is taken at start, and never grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that run at once.
    pub slots_max: usize,
    /// How many of those bulk requests may not take.
    pub interactive_slots_reserved: usize,
    /// Tokens of a step: decode tokens of all sequences and chunks of prompts together.
    pub step_tokens_max: usize,
    /// Bytes for keys and values, both pools together.
    pub kv_bytes_max: usize,
    /// Requests of a class that may wait besides those that run; more are refused.
    pub waiting_max: usize,
    /// Whether requests that begin alike share what was computed of it.
    pub prefix_sharing: bool,
    /// Longest sequence, prompt and output together; `None` for the model's own limit.
    pub context_tokens_max: Option<usize>,
    /// Longest range of a prompt that is computed in one step or not at all; 0 for text.
    pub atomic_tokens_max: usize,
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
            context_tokens_max: None,
            atomic_tokens_max: 0,
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
        // Every running sequence may take a token, and the longest range must still fit.
        let least = self.slots_max + self.atomic_tokens_max;
        if self.step_tokens_max < least {
            return Err(format!(
                "step_tokens_max is {}, it must be at least {least}: slots_max ({}) and \
                 atomic_tokens_max ({})",
                self.step_tokens_max, self.slots_max, self.atomic_tokens_max
            ));
        }
        Ok(())
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
                atomic_tokens_max: 500,
                ..base
            }),
            "step_tokens_max is 512, it must be at least 532: slots_max (32) and \
             atomic_tokens_max (500)"
        );
    }
}
