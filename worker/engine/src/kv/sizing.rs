//! How many blocks fit, and how long a sequence may be.

use super::blocks_for;
use crate::batch::{BLOCK_TOKENS, ModelShape};

/// What sizes the pools besides the model.
#[derive(Debug, Clone, Copy)]
pub struct PoolRequest {
    /// Bytes for both pools together.
    pub kv_bytes_max: usize,
    /// Sequences that run at once.
    pub slots_max: usize,
    /// Tokens a step.
    pub step_tokens_max: usize,
    /// Longest sequence to serve.
    pub context_tokens_max: usize,
    /// Longest range that is computed in one step or not at all.
    pub atomic_tokens_max: usize,
}

/// Blocks of both pools, and what they allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Blocks of the global pool.
    pub global: u32,
    /// Blocks of the local pool; 0 if no layer slides.
    pub local: u32,
    /// The longest sequence that can be computed when it has both pools to itself.
    pub sequence_tokens_max: usize,
}

/// Divides the memory between the pools.
///
/// Short sequences take as many local as global blocks, so both pools get the same number, until
/// the local one can hold the window of every slot and a step's tokens; what is left then makes
/// the global pool larger, up to full context in every slot.
pub fn size_pools(shape: &ModelShape, request: &PoolRequest) -> PoolSizes {
    let context_blocks = blocks_for(request.context_tokens_max);
    let global_useful = request.slots_max * context_blocks;
    let (local, window_blocks) = match shape.window {
        None => (0, 0),
        Some(window) => {
            let alone = blocks_for(window) + 2 + blocks_for(request.atomic_tokens_max);
            let useful =
                request.slots_max * alone.min(context_blocks) + blocks_for(request.step_tokens_max);
            let pair_bytes = shape.global_block_bytes + shape.local_block_bytes;
            let pairs = request.kv_bytes_max / pair_bytes.max(1);
            (pairs.min(useful), alone)
        }
    };
    let left_bytes = request.kv_bytes_max - local * shape.local_block_bytes;
    let global = (left_bytes / shape.global_block_bytes.max(1)).min(global_useful);
    let local_tokens_max = if shape.window.is_none() || local >= window_blocks {
        request.context_tokens_max
    } else {
        local * BLOCK_TOKENS
    };
    PoolSizes {
        global: u32::try_from(global).unwrap_or(u32::MAX),
        local: u32::try_from(local).unwrap_or(u32::MAX),
        sequence_tokens_max: request
            .context_tokens_max
            .min(global * BLOCK_TOKENS)
            .min(local_tokens_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(window: Option<usize>, kv_bytes_max: usize) -> PoolSizes {
        let shape = ModelShape {
            vocab: 10,
            context_tokens_max: 4096,
            window,
            global_block_bytes: 100,
            local_block_bytes: 500,
            image: None,
        };
        let request = PoolRequest {
            kv_bytes_max,
            slots_max: 4,
            step_tokens_max: 256,
            context_tokens_max: 4096,
            atomic_tokens_max: 0,
        };
        size_pools(&shape, &request)
    }

    #[test]
    fn little_memory_is_shared_evenly_and_limits_the_length() {
        let expected = PoolSizes {
            global: 10,
            local: 10,
            sequence_tokens_max: 320,
        };
        assert_eq!(sizes(Some(512), 6_000), expected);
    }

    #[test]
    fn more_memory_goes_to_the_global_pool_and_none_is_wasted() {
        // 4 slots * (512 / 32 + 2) + 256 / 32 local blocks, and full context in every slot.
        let expected = PoolSizes {
            global: 512,
            local: 80,
            sequence_tokens_max: 4096,
        };
        assert_eq!(sizes(Some(512), 1_000_000), expected);
        let expected = PoolSizes {
            global: 200,
            local: 80,
            sequence_tokens_max: 4096,
        };
        assert_eq!(sizes(Some(512), 60_000), expected);
    }

    #[test]
    fn without_sliding_layers_there_is_one_pool() {
        let expected = PoolSizes {
            global: 60,
            local: 0,
            sequence_tokens_max: 1920,
        };
        assert_eq!(sizes(None, 6_000), expected);
    }
}
