//! Memory for weights and caches: page-aligned, on huge pages where the system offers them.

use memmap2::MmapMut;
use std::io;

/// Zeroed bytes outside the heap, given back to the system when dropped.
#[derive(Debug)]
pub(crate) struct Buffer(MmapMut);

impl Buffer {
    /// `len` zeroed bytes.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len.max(1))?;
        // Reading them is bound by memory; huge pages spare the address lookups. Advice only:
        // a system that refuses it works the same.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
