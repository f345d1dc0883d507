//! PDF to text, page by page, so that memory does not grow with the number of pages.

use std::io::{self, Write};

use hayro_cmap::BfString;
use hayro_interpret::font::{Glyph as Outline, GlyphRun};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps,
    InterpreterCache, InterpreterSettings, SoftMask, interpret_page,
};
use hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use kurbo::{Affine, BezPath, Point, Rect};

use super::layout::{Glyph, Page};

/// Glyph coordinates count in thousandths of the font size.
const UNITS_PER_EM: f64 = 1000.0;

/// Why a PDF gives no text.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// Not a PDF, damaged beyond repair, or locked; continues a sentence that begins with the name.
    #[error("{0}")]
    Invalid(String),
    /// The text could not be handed on.
    #[error("cannot write text: {0}")]
    Write(#[from] io::Error),
}

/// Writes the text of every page, a form feed between pages; returns how many pages there are.
pub fn write_text(bytes: Vec<u8>, out: &mut impl Write) -> Result<usize, PdfError> {
    let pdf = Pdf::new(bytes).map_err(|error| PdfError::Invalid(reason(error)))?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(PdfError::Invalid("is a PDF without pages".to_owned()));
    }
    let cache = InterpreterCache::new();
    for (index, page) in pages.iter().enumerate() {
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
    Ok(pages.len())
}

/// Why a file is no PDF that can be read.
fn reason(error: LoadPdfError) -> String {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => {
            "is a PDF locked by a password".to_owned()
        }
        LoadPdfError::Decryption(_) => "is a PDF with encryption that is not understood".to_owned(),
        LoadPdfError::Invalid => "is not a PDF or is damaged beyond repair".to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        write_text(bytes.to_vec(), &mut Vec::new())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_no_pdf_is_refused() {
        for bytes in [&b"hello"[..], b"%PDF-1.7\nand then nothing"] {
            assert_eq!(refused(bytes), "is not a PDF or is damaged beyond repair");
        }
    }
}
