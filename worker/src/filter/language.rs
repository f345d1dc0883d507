//! The language that an answer is asked for in, and whether it is in it. Both only where they are plain:
//! what is not is no fault of the answer's.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;
use whatlang::{Lang, Script};

/// Bytes of a text in which a language is looked for; longer ones are documents.
const ASKING_BYTES_MAX: usize = 2048;
/// Letters of an answer below which its language is not told.
const LETTERS_MIN: usize = 60;
/// How sure it must be that an answer is in another language.
const SURE: f64 = 0.9;

/// A language: its name in English, and how its own speakers and others ask for it.
struct Known {
    /// The first is the language, the others are too like it to be told apart.
    languages: &'static [Lang],
    english: &'static str,
    asked: &'static [&'static str],
}

const KNOWN: [Known; 14] = [
    Known {
        languages: &[Lang::Eng],
        english: "english",
        asked: &[
            "auf englisch",
            "en anglais",
            "en inglés",
            "in inglese",
            "em inglês",
            "in het engels",
            "на английском",
            "用英文",
            "用英语",
            "英語で",
        ],
    },
    Known {
        languages: &[Lang::Deu],
        english: "german",
        asked: &[
            "auf deutsch",
            "en allemand",
            "en alemán",
            "in tedesco",
            "em alemão",
            "in het duits",
            "на немецком",
            "用德语",
        ],
    },
    Known {
        languages: &[Lang::Fra],
        english: "french",
        asked: &[
            "en français",
            "auf französisch",
            "en francés",
            "in francese",
            "in het frans",
            "на французском",
            "用法语",
        ],
    },
    Known {
        languages: &[Lang::Spa, Lang::Por, Lang::Cat],
        english: "spanish",
        asked: &[
            "en español",
            "auf spanisch",
            "en espagnol",
            "in spagnolo",
            "на испанском",
            "用西班牙语",
        ],
    },
    Known {
        languages: &[Lang::Por, Lang::Spa, Lang::Cat],
        english: "portuguese",
        asked: &[
            "em português",
            "auf portugiesisch",
            "en portugais",
            "en portugués",
        ],
    },
    Known {
        languages: &[Lang::Ita],
        english: "italian",
        asked: &[
            "in italiano",
            "auf italienisch",
            "en italien",
            "en italiano",
        ],
    },
    Known {
        languages: &[Lang::Nld, Lang::Afr],
        english: "dutch",
        asked: &["in het nederlands", "auf niederländisch", "en néerlandais"],
    },
    Known {
        languages: &[Lang::Pol],
        english: "polish",
        asked: &["po polsku", "auf polnisch"],
    },
    Known {
        languages: &[
            Lang::Rus,
            Lang::Ukr,
            Lang::Bel,
            Lang::Bul,
            Lang::Mkd,
            Lang::Srp,
        ],
        english: "russian",
        asked: &["на русском", "по-русски", "auf russisch", "en russe"],
    },
    Known {
        languages: &[Lang::Tur, Lang::Aze],
        english: "turkish",
        asked: &["türkçe olarak", "auf türkisch"],
    },
    Known {
        languages: &[Lang::Cmn],
        english: "chinese",
        asked: &["用中文", "auf chinesisch", "en chinois", "中国語で"],
    },
    Known {
        languages: &[Lang::Jpn],
        english: "japanese",
        asked: &["日本語で", "用日语", "auf japanisch"],
    },
    Known {
        languages: &[Lang::Kor],
        english: "korean",
        asked: &["한국어로", "用韩语"],
    },
    Known {
        languages: &[Lang::Ara, Lang::Pes, Lang::Urd],
        english: "arabic",
        asked: &["بالعربية", "باللغة العربية", "en arabe"],
    },
];

/// How a language is asked for in English: as what to answer in, or at the end of a request to say
/// something.
static ENGLISH: LazyLock<Regex> = LazyLock::new(|| {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.english).collect();
    let names = names.join("|");
    let form = format!(
        r"(?i)\b(?:(?:answer|reply|respond)(?: only)? in|(?:describe|caption|write|summari[sz]e|explain|translate)\b[^.!?\n]{{0,80}}\b(?:in|into)) ({names})(?: language)?(?: only)?\s*(?:[.!?,;:\n]|$)"
    );
    Regex::new(&form).expect("it is written here, and compiled by every test")
});

/// All other ways of asking, and which of [`KNOWN`] each asks for.
static OTHERS: LazyLock<(AhoCorasick, Vec<usize>)> = LazyLock::new(|| {
    let forms = KNOWN.iter().enumerate();
    let forms = forms.flat_map(|(n, known)| known.asked.iter().map(move |form| (*form, n)));
    let (forms, languages): (Vec<&str>, Vec<usize>) = forms.unzip();
    let forms = AhoCorasick::new(forms).expect("they are written here, and few");
    (forms, languages)
});

/// A language that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked(&'static [Lang]);

/// The one language that these texts ask for; `None` if they ask for none, or for several.
pub(super) fn asked(texts: &[String]) -> Option<Asked> {
    let mut found: Option<Asked> = None;
    for text in texts.iter().filter(|text| text.len() <= ASKING_BYTES_MAX) {
        for n in ways(text) {
            let this = Asked(KNOWN[n].languages);
            if *found.get_or_insert(this) != this {
                return None;
            }
        }
    }
    found
}

/// Which of [`KNOWN`] a text asks for, in the order of their kinds.
fn ways(text: &str) -> impl Iterator<Item = usize> {
    let named = |name: &str| KNOWN.iter().position(|known| known.english == name);
    let english = ENGLISH.captures_iter(text);
    let english = english.filter_map(move |captures| named(&captures[1].to_lowercase()));
    let (forms, languages) = &*OTHERS;
    let lower = text.to_lowercase();
    let others: Vec<usize> = forms
        .find_overlapping_iter(&lower)
        .map(|form| languages[form.pattern()])
        .collect();
    english.chain(others)
}

impl Asked {
    /// Whether an answer is plainly in another language than this.
    pub(super) fn is_missed_by(self, answer: &str) -> bool {
        let trimmed = answer.trim_start();
        // The words of code and of JSON are of no language.
        if trimmed.starts_with(['{', '[', '<']) || answer.contains("```") {
            return false;
        }
        let letters = answer.chars().filter(|letter| letter.is_alphabetic());
        if letters.count() < letters_min(answer) {
            return false;
        }
        let Some(info) = whatlang::detect(answer) else {
            return false;
        };
        info.is_reliable() && info.confidence() >= SURE && !self.0.contains(&info.lang())
    }
}

/// Letters of an answer below which its language is not told: few where a letter is a syllable or a word.
fn letters_min(answer: &str) -> usize {
    match whatlang::detect_script(answer) {
        Some(Script::Mandarin | Script::Hiragana | Script::Katakana | Script::Hangul) => {
            LETTERS_MIN / 4
        }
        _ => LETTERS_MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Lang> {
        asked(&[text.to_owned()]).map(|asked| asked.0[0])
    }

    #[test]
    fn languages_that_are_asked_for() {
        for (text, language) in [
            ("Answer in German.", Lang::Deu),
            ("Describe this picture in French", Lang::Fra),
            ("Please respond only in Spanish, and briefly", Lang::Spa),
            ("Translate this text into Japanese:\nHello", Lang::Jpn),
            ("Beschreibe das Bild auf Deutsch", Lang::Deu),
            ("Décris cette image en français", Lang::Fra),
            ("Опиши картинку на русском языке", Lang::Rus),
            ("请用中文描述这张图片", Lang::Cmn),
        ] {
            assert_eq!(of(text), Some(language), "{text}");
        }
    }

    #[test]
    fn languages_that_are_only_spoken_of() {
        for text in [
            "Describe this picture.",
            "Describe the sign, which is written in German on a wall",
            "He answered in the German manner.",
            "Write a caption for this book in English bookshops",
            "Translate from German into French. Then answer in English.",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        let document = format!("{} Answer in German.", "word ".repeat(600));
        assert_eq!(of(&document), None);
    }
}
