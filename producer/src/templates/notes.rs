//! Notes that stand before a prompt: for whom the answer is written, in which tone, and what else
//! the model should know.

use std::fmt::Write as _;

/// Who reads the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Audience {
    /// Readers in Japan.
    Japanese,
    /// Readers in the United States.
    American,
    /// Readers in Germany.
    German,
    /// Readers in Brazil.
    Brazilian,
    /// Readers in India.
    Indian,
}

impl Audience {
    fn note(self) -> &'static str {
        match self {
            Self::Japanese => {
                "For Japanese readers: be courteous and use honorifics, put criticism gently, and \
                 value the harmony of the group."
            }
            Self::American => {
                "For American readers: come to the point, be practical, say what it means for each \
                 of them, and sound relaxed."
            }
            Self::German => {
                "For German readers: be exact and thorough, explain the details, and stay \
                 professional."
            }
            Self::Brazilian => {
                "For Brazilian readers: be warm and personal, use words that include everybody, and \
                 mind the social side."
            }
            Self::Indian => {
                "For Indian readers: show respect for age and rank, mind the differences between \
                 regions, and leave nothing important out."
            }
        }
    }
}

/// How the answers sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tone {
    /// As in a business letter.
    Formal,
    /// As among colleagues.
    Casual,
    /// As in a textbook.
    Educational,
}

impl Tone {
    fn note(self) -> &'static str {
        match self {
            Self::Formal => "Tone: formal. Choose professional words, correct grammar and respect.",
            Self::Casual => "Tone: casual. Write as people talk, and still say what matters.",
            Self::Educational => {
                "Tone: educational. Explain every concept plainly, with an example or its background."
            }
        }
    }
}

/// What stands before every prompt of a run; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes(String);

impl Notes {
    /// In this order: context, audiences, tone.
    pub fn new(context: Option<&str>, audiences: &[Audience], tone: Option<Tone>) -> Self {
        let mut notes = String::new();
        if let Some(context) = context {
            let _ = writeln!(notes, "Context: {context}");
        }
        let audiences = audiences.iter().map(|audience| audience.note());
        let manners: Vec<_> = audiences.chain(tone.map(Tone::note)).collect();
        if !manners.is_empty() {
            let _ = writeln!(notes, "{}\nKeep to the facts.", manners.join("\n"));
        }
        if !notes.is_empty() {
            notes.push('\n');
        }
        Self(notes)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, ended by an empty line; empty if there are none.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
