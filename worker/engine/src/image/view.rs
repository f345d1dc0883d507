//! A picture ready for a vision tower.

use sha2::{Digest, Sha256};

use super::crops::CROPS_MAX;

/// What a model wants of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSpec {
    /// Width and height of a view, in pixels.
    pub side: u32,
    /// Whether pictures far from square are also shown in crops.
    pub pan_and_scan: bool,
}

impl ImageSpec {
    /// Bytes of the views of one picture at most.
    pub fn bytes_max(&self) -> usize {
        let views = if self.pan_and_scan { 1 + CROPS_MAX } else { 1 };
        views as usize * self.side as usize * self.side as usize * 3
    }
}

/// One square of pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    rgb: Box<[u8]>,
    sha256: [u8; 32],
}

impl View {
    /// A view of `side * side * 3` bytes: RGB interleaved, rows from the top.
    pub fn new(rgb: impl Into<Box<[u8]>>) -> Self {
        let rgb = rgb.into();
        let sha256 = Sha256::digest(&rgb).into();
        Self { rgb, sha256 }
    }

    /// `side * side * 3` bytes: RGB interleaved, rows from the top.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Names these pixels: equal views are encoded once.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("bytes", &self.rgb.len())
            .finish_non_exhaustive()
    }
}

/// A picture as a model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    sha256: [u8; 32],
    width: u32,
    height: u32,
    views: Vec<View>,
}

impl Image {
    /// A picture of `width` by `height` pixels in a file of SHA-256 `sha256`. The first of its
    /// views is the whole picture, the others are crops of it.
    pub fn new(sha256: [u8; 32], width: u32, height: u32, views: Vec<View>) -> Self {
        Self {
            sha256,
            width,
            height,
            views,
        }
    }

    /// SHA-256 of the file.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Width of the source, in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height of the source, in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The same picture without crops.
    #[must_use]
    pub fn whole(&self) -> Self {
        let views = self.views.iter().take(1).cloned().collect();
        Self { views, ..*self }
    }

    /// The whole picture, then its crops.
    pub fn views(&self) -> &[View] {
        &self.views
    }
}
