//! An allocator that knows how much memory a piece of work has had at once, and can refuse more.

use std::alloc::{GlobalAlloc, Layout, System, set_alloc_error_hook};
use std::panic::resume_unwind;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are taken.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// The most that were.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Requests of less are never refused: to tell of a refusal takes some memory, too.
const REFUSED_BYTES_MIN: usize = 64 << 10;

/// The system's allocator, watched.
#[derive(Debug)]
pub struct Watched {
    bytes_max: u64,
}

impl Watched {
    /// Gives all that the system has.
    pub const fn without_limit() -> Self {
        Self::within(u64::MAX)
    }

    /// Gives no more than so many bytes at once.
    pub const fn within(bytes_max: u64) -> Self {
        Self { bytes_max }
    }

    /// Whether there is room for so many bytes, which are counted then.
    fn take(&self, bytes: usize) -> bool {
        let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if taken as u64 > self.bytes_max && bytes >= REFUSED_BYTES_MIN {
            TAKEN.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        MOST.fetch_max(taken, Ordering::Relaxed);
        true
    }
}

/// From now on, what is refused unwinds like a panic, and can be caught like one; without this it is the
/// end of the process.
pub fn refusals_unwind() {
    set_alloc_error_hook(|_| resume_unwind(Box::new(())));
}

// SAFETY: every call goes to the system's allocator as it comes, or gives nothing, as it may.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !self.take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there while one is copied to the other.
        if !self.take(size) {
            return null_mut();
        }
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` gives, and the most bytes that it had at once, where [`Watched`] is the allocator.
pub fn most_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed).saturating_sub(before))
}
