//! Pan and scan: pictures far from square are also shown in square-like crops.
//!
//! Source: `transformers` `models/gemma3/image_processing_gemma3.py`, with the values of the
//! Gemma 3 checkpoints.

/// Least width and height of a crop, in pixels.
const CROP_SIDE_MIN: u32 = 256;
/// Most crops of a picture.
pub(super) const CROPS_MAX: u32 = 4;
/// Least ratio of the long side to the short one.
const RATIO_MIN: f64 = 1.2;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Area {
    pub(super) fn whole(width: u32, height: u32) -> Self {
        let (x, y) = (0, 0);
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

/// The crops of a picture of `width` by `height` pixels, along its long side; none if it is close
/// to square, or if they would be too small.
pub(super) fn pan_and_scan(width: u32, height: u32) -> Vec<Area> {
    let (long, short) = (width.max(height), width.min(height));
    let ratio = f64::from(long) / f64::from(short);
    if ratio < RATIO_MIN {
        return Vec::new();
    }
    let fitting = long / CROP_SIDE_MIN;
    let count = (2..=CROPS_MAX)
        .rev()
        .find(|count| f64::from(*count) <= (ratio + 0.5).floor() && *count <= fitting)
        .unwrap_or(2);
    let step = long.div_ceil(count);
    if step.min(short) < CROP_SIDE_MIN {
        return Vec::new();
    }
    let crop = |index| {
        let start = step * index;
        let length = step.min(long - start);
        if width >= height {
            Area {
                x: start,
                y: 0,
                width: length,
                height,
            }
        } else {
            Area {
                x: 0,
                y: start,
                width,
                height: length,
            }
        }
    };
    (0..count).map(crop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_cover_the_long_side_once() {
        for (width, height, count) in [
            (1000, 1000, 0),
            (1199, 1000, 0),
            (1200, 1000, 2),
            (2400, 1000, 2),
            (2500, 1000, 3),
            (10_000, 300, 4),
            (300, 10_000, 4),
            (1000, 200, 0),
            (511, 300, 2),
            (500, 300, 0),
            (768, 256, 3),
            (767, 256, 2),
            (1, 1, 0),
            (10_000, 1, 0),
        ] {
            let crops = pan_and_scan(width, height);
            assert_eq!(crops.len(), count, "{width}x{height}");
            let covered: u64 = crops
                .iter()
                .map(|area| u64::from(area.width) * u64::from(area.height))
                .sum();
            let whole = u64::from(width) * u64::from(height);
            assert_eq!(covered, if count == 0 { 0 } else { whole });
        }
    }

    #[test]
    fn the_last_crop_is_what_is_left() {
        let crops = pan_and_scan(1000, 301);
        let widths: Vec<u32> = crops.iter().map(|area| area.width).collect();
        assert_eq!(widths, [334, 334, 332]);
        assert_eq!(crops[2].x, 668);
    }
}
