//! How much memory a thread holds, counted by the program's allocator: for decoders of strangers' files, whose
//! own limits do not see all that a file makes them take.
#![expect(unsafe_code, reason = "an allocator is unsafe to call")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// An allocator that counts what each thread takes and gives back.
///
/// A program makes it its `global_allocator`; without it, [`held_bytes`] stays 0.
#[derive(Debug)]
pub struct Counted<A>(pub A);

/// Bytes that this thread took, less those that it gave back: negative where it frees what others took.
pub fn held_bytes() -> i64 {
    HELD.get()
}

fn count(taken: usize, given_back: usize) {
    HELD.set(HELD.get() + taken.cast_signed() as i64 - given_back.cast_signed() as i64);
}

// SAFETY: every call goes to the inner allocator as it comes; what is counted changes nothing, and counting
// neither allocates nor has a destructor.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller's.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
