//! Where a model computes: a pool of threads and the instruction tier they use.

use crate::ops::simd::Tier;
use rayon::ThreadPool;
use rayon::ThreadPoolBuildError;

/// The processor cores a model computes on.
#[derive(Debug)]
pub struct Cpu {
    pool: ThreadPool,
    tier: Tier,
}

impl Cpu {
    /// A pool of `threads` threads, all cores if `None`, on the best tier or the one given.
    pub fn new(threads: Option<usize>, tier: Option<Tier>) -> Result<Self, ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|index| format!("compute-{index}"))
            .build()?;
        Ok(Self {
            pool,
            tier: tier.unwrap_or_else(Tier::detect),
        })
    }

    /// The instruction tier in use.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }
}
