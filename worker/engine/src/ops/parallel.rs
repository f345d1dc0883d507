//! Writing one output from several threads, each its own part.
#![expect(
    unsafe_code,
    reason = "disjoint parts of one buffer are written from several threads"
)]

use rayon::prelude::*;

/// Multiply-adds below which starting other threads costs more than it gains.
const SERIAL_WORK_MAX: usize = 1 << 12;

/// A pointer to a buffer whose parts different tasks own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: tasks write disjoint parts; whoever dereferences states which.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The address of element `index`.
    ///
    /// # Safety
    /// `index` lies within the buffer.
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index) }
    }
}

/// A buffer of `len` values, every one written by `fill`.
///
/// # Safety
/// `fill` writes all `len` values.
pub(crate) unsafe fn filled<T: Copy>(len: usize, fill: impl FnOnce(Shared<T>)) -> Vec<T> {
    let mut values = Vec::new();
    // SAFETY: the caller's promise.
    unsafe { refill(&mut values, len, fill) };
    values
}

/// Replaces what is in `values` by `len` values, every one written by `fill`.
///
/// # Safety
/// `fill` writes all `len` values.
pub(crate) unsafe fn refill<T: Copy>(
    values: &mut Vec<T>,
    len: usize,
    fill: impl FnOnce(Shared<T>),
) {
    values.clear();
    values.reserve_exact(len);
    fill(Shared(values.as_mut_ptr()));
    // SAFETY: the caller's promise.
    unsafe { values.set_len(len) };
}

/// Threads of the current pool.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `task` for `0 .. count`, on all threads of the current pool if `work` (multiply-adds, all
/// tasks together) is worth it.
pub(crate) fn for_each(count: usize, work: usize, task: impl Fn(usize) + Send + Sync) {
    if work <= SERIAL_WORK_MAX || count == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().for_each(task);
    }
}

/// Shares memory that outlives the tasks.
pub(crate) fn shared_at<T>(memory: *mut T) -> Shared<T> {
    Shared(memory)
}
