//! The text of a PDF, page by page, so that memory does not grow with the number of pages.

use std::io::Write;

use hayro_cmap::BfString;
use hayro_interpret::font::{Glyph as Outline, GlyphRun};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, interpret_page,
};
use kurbo::{Affine, BezPath, Point, Rect};

use super::layout::{Glyph, Page};
use super::{PdfError, open};

/// Glyph coordinates count in thousandths of the font size.
const UNITS_PER_EM: f64 = 1000.0;

/// Writes the text of every page, a form feed between pages.
pub fn write_text(bytes: Vec<u8>, out: &mut impl Write) -> Result<(), PdfError> {
    let pdf = open(bytes)?;
    let cache = InterpreterCache::new();
    for (index, page) in pdf.pages().iter().enumerate() {
        // The place on the page does not matter, only distances do.
        let mut context = Context::new(
            Affine::IDENTITY,
            Rect::new(0.0, 0.0, 1.0, 1.0),
            &cache,
            pdf.xref(),
            InterpreterSettings::default(),
        );
        let mut reader = Reader::default();
        interpret_page(page, &mut context, &mut reader);
        if index > 0 {
            out.write_all(b"\n\n\x0c")?;
        }
        out.write_all(reader.page.text().as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// A device that reads glyphs and draws nothing.
#[derive(Default)]
struct Reader {
    page: Page,
}

impl Device<'_> for Reader {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        for positioned in run.glyphs() {
            let outline: &Outline<'_> = positioned;
            let advance = match outline {
                Outline::Outline(glyph) => glyph.advance_width(),
                Outline::Type3(glyph) => glyph.advance_width(),
            };
            let place = props.transform * positioned.transform();
            let start = place * Point::ZERO;
            let end = place * Point::new(f64::from(advance.unwrap_or(0.0)), 0.0);
            let top = place * Point::new(0.0, UNITS_PER_EM);
            let glyph = Glyph {
                start: start.x,
                end: end.x,
                baseline: start.y,
                size: (top - start).hypot(),
            };
            match outline.as_unicode() {
                Some(BfString::Char(c)) => self.page.push(glyph, c.encode_utf8(&mut [0; 4])),
                Some(BfString::String(text)) => self.page.push(glyph, &text),
                // A glyph that says nothing still takes its place.
                None => self.page.push(glyph, ""),
            }
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
