//! How cameras held a picture: turned and mirrored by what its metadata says.

use image::metadata::Orientation;

use super::crops::Area;

/// What makes a stored picture upright: its transposition first, then its mirrorings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// Rows become columns.
    transposed: bool,
    /// Then left becomes right.
    mirrored: bool,
    /// Then top becomes bottom.
    flipped: bool,
}

impl From<Orientation> for Turn {
    fn from(orientation: Orientation) -> Self {
        let (transposed, mirrored, flipped) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, true, false),
            Orientation::Rotate270 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        Self {
            transposed,
            mirrored,
            flipped,
        }
    }
}

impl Turn {
    /// Width and height of the upright picture.
    pub(super) fn turned(self, width: u32, height: u32) -> (u32, u32) {
        if self.transposed {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Where `area` of the upright picture, `width` by `height` pixels, is stored.
    pub(super) fn stored_area(self, area: Area, width: u32, height: u32) -> Area {
        let mut stored = area;
        if self.mirrored {
            stored.x = width - area.x - area.width;
        }
        if self.flipped {
            stored.y = height - area.y - area.height;
        }
        if self.transposed {
            Area {
                x: stored.y,
                y: stored.x,
                width: stored.height,
                height: stored.width,
            }
        } else {
            stored
        }
    }

    /// A square of `side * side * 3` bytes, upright.
    pub(super) fn turn_square(self, stored: Vec<u8>, side: u32) -> Vec<u8> {
        if self == Self::default() {
            return stored;
        }
        let side = side as usize;
        let mut upright = Vec::with_capacity(stored.len());
        for y in 0..side {
            let y = if self.flipped { side - 1 - y } else { y };
            for x in 0..side {
                let x = if self.mirrored { side - 1 - x } else { x };
                let at = if self.transposed {
                    x * side + y
                } else {
                    y * side + x
                };
                upright.extend_from_slice(&stored[3 * at..][..3]);
            }
        }
        upright
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_and_areas_turn_as_whole_pictures_do() {
        let side = 6;
        let stored = image::RgbImage::from_fn(side, side, |x, y| {
            image::Rgb([u8::try_from(x).unwrap(), u8::try_from(y).unwrap(), 7])
        });
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let turn = Turn::from(orientation);
            let mut expected = image::DynamicImage::ImageRgb8(stored.clone());
            expected.apply_orientation(orientation);
            let expected = expected.into_rgb8();
            let upright = turn.turn_square(stored.as_raw().clone(), side);
            assert_eq!(&upright, expected.as_raw(), "{exif}");

            let area = Area {
                x: 1,
                y: 3,
                width: 4,
                height: 2,
            };
            let place = turn.stored_area(area, side, side);
            let corner = expected.get_pixel(area.x, area.y).0;
            let xs = place.x..place.x + place.width;
            let ys = place.y..place.y + place.height;
            assert!(xs.contains(&u32::from(corner[0])), "{exif}");
            assert!(ys.contains(&u32::from(corner[1])), "{exif}");
            let (width, height) = turn.turned(place.width, place.height);
            assert_eq!((width, height), (area.width, area.height), "{exif}");
        }
    }
}
