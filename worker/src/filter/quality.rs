//! The quality of answers, as far as a text shows it by itself: nothing said, said over and over,
//! declined, broken off, in another language than was asked for. What an answer says of its picture or document is not judged here.

use std::sync::LazyLock;

use lapidary_engine::loops::looping_end;
use regex::Regex;

use super::find::{Finding, Findings};
use super::language::Asked;

/// The names of its rules.
pub(super) const RULES: &[&str] = &[EMPTY, LOOP, "refusal", "language", "unfinished"];

/// Nothing that is a letter or a digit.
const EMPTY: &str = "empty";
/// The end is one piece over and over. Answers may be ended because of it while they are made.
pub(super) const LOOP: &str = "loop";

/// Words of an answer that breaks off in a sentence, at least: captions, tags and titles have none.
const SENTENCE_WORDS_MIN: usize = 12;
/// How sure it is that an answer in another language is poor.
const LANGUAGE: f32 = 0.8;
/// How sure it is that a text without an end breaks off.
const UNFINISHED: f32 = 0.4;

/// How answers begin in which a model declines, in the languages that it is asked in most.
static REFUSALS: LazyLock<Vec<(f32, Regex)>> = LazyLock::new(|| {
    let rules = [
        (
            0.9,
            r"(?:i'm|i am|we're|we are) (?:really |very |so |terribly )?(?:sorry|afraid),? (?:but |that )?(?:i|we|as an ai)\b",
        ),
        (
            0.9,
            r"(?:sorry|unfortunately|apologies|my apologies|i apologi[sz]e),? (?:but )?(?:i|as an ai)(?:'m| am)? (?:can't|cannot|can not|could not|couldn't|won't|will not|unable|not able|do not have|don't have)\b",
        ),
        (
            0.8,
            r"(?:i|as an ai(?: language)?(?: model| assistant)?,? i)(?:'m| am)? (?:can't|cannot|can not|won't|will not|unable to|not able to|not capable of) (?:\w+ )?(?:see|view|look|help|assist|provide|describe|fulfil|fulfill|answer|comply|access|identify|open|process|generate|create|write|respond|do that|continue|display|analy[sz]e|caption)",
        ),
        (0.8, r"as an ai(?: language)?(?: model| assistant)\b"),
        (
            0.8,
            r"(?:please )?(?:provide|upload|send|share|attach)(?: me)?(?: with)? (?:the|an|your|a) (?:image|picture|photo|document|text)\b",
        ),
        (
            0.9,
            r"(?:es tut mir leid|tut mir leid|entschuldigung|leider),? (?:aber )?(?:ich )?kann\b",
        ),
        (
            0.9,
            r"(?:je suis (?:vraiment )?désolée?|désolée?),? (?:mais )?je ne (?:peux|suis)\b",
        ),
        (0.9, r"lo siento,? (?:pero )?no (?:puedo|soy)\b"),
        (0.9, r"mi dispiace,? (?:ma )?non (?:posso|sono)\b"),
        (
            0.9,
            r"(?:het spijt me|sorry|helaas),? (?:maar )?(?:ik )?kan\b",
        ),
        (
            0.9,
            r"(?:desculpe|lamento|sinto muito),? (?:mas )?(?:eu )?não (?:posso|consigo)\b",
        ),
        (
            0.9,
            r"(?:извините|простите|к сожалению),? (?:но )?я не (?:могу|имею)\b",
        ),
        (
            0.9,
            r"(?:很?抱歉|对不起|對不起)[，,]?(?:但)?我?(?:无法|無法|不能)",
        ),
        (
            0.9,
            r"(?:申し訳(?:ございません|ありません)|すみません)[がけ、,。]",
        ),
    ];
    let compiled = rules.map(|(score, form)| {
        let form = Regex::new(&format!(r"^(?i)[\s\*_#>]*(?:{form})"));
        (
            score,
            form.expect("it is written here, and compiled by every test"),
        )
    });
    compiled.into()
});

/// Says what is poor about an answer, which was asked for in a language.
pub(super) fn look(text: &str, asked: Option<Asked>, findings: &mut Findings) {
    let all = 0..text.len();
    if !text.contains(char::is_alphanumeric) {
        findings.push(Finding::new(EMPTY, all, 1.0));
        return;
    }
    if let Some(span) = looping_end(text) {
        findings.push(Finding::new(LOOP, span, 1.0));
    }
    let plain = text.replace('\u{2019}', "'");
    let refusals = REFUSALS.iter().filter(|(_, form)| form.is_match(&plain));
    if let Some(score) = refusals.map(|(score, _)| *score).reduce(f32::max) {
        findings.push(Finding::new("refusal", all.clone(), score));
    } else if asked.is_some_and(|asked| asked.is_missed_by(text)) {
        findings.push(Finding::new("language", all.clone(), LANGUAGE));
    }
    if breaks_off(text) {
        findings.push(Finding::new("unfinished", all, UNFINISHED));
    }
}

/// Whether the last line is a sentence without an end.
fn breaks_off(text: &str) -> bool {
    let last = text.trim_end().lines().last().unwrap_or_default();
    let ended = last
        .chars()
        .last()
        .is_none_or(|end| !end.is_alphanumeric() && end != ',');
    !ended && last.split_whitespace().count() >= SENTENCE_WORDS_MIN
}

#[cfg(test)]
mod tests {
    use lapidary_schemas::metrics;

    use super::*;

    #[test]
    fn what_is_poor_is_counted_from_the_start() {
        let [flaw] = metrics::POOR_ANSWERS.labels else {
            panic!("{:?}", metrics::POOR_ANSWERS.labels);
        };
        assert!(matches!(flaw.values, metrics::Values::Listed(listed) if listed == RULES));
    }

    /// The rules that find something in an answer.
    fn found(text: &str) -> Vec<&'static str> {
        let mut findings = Findings::default();
        look(text, None, &mut findings);
        let sure = findings.into_sure(0.1);
        sure.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn answers_that_say_nothing() {
        for text in ["", " ", "\n\n", "...", "```\n```", "🐈"] {
            assert_eq!(found(text), ["empty"], "{text:?}");
        }
    }

    #[test]
    fn answers_that_decline() {
        for text in [
            "I'm sorry, but I can't help with that.",
            "I\u{2019}m sorry, I cannot assist with this request.",
            "I am unable to view images.",
            "I cannot describe this image.",
            "As an AI language model, I have no eyes.",
            "**Sorry, but I am unable to do so.**",
            "Unfortunately, I cannot see the picture.",
            "Please provide the image you would like me to caption.",
            "Es tut mir leid, aber ich kann dabei nicht helfen.",
            "Je suis désolé, mais je ne peux pas vous aider.",
            "Lo siento, pero no puedo ayudarte.",
            "Mi dispiace, ma non posso aiutarti.",
            "Het spijt me, maar ik kan je niet helpen.",
            "Desculpe, mas não posso ajudar.",
            "Извините, но я не могу помочь.",
            "抱歉，我无法提供帮助。",
            "申し訳ありませんが、お手伝いできません。",
        ] {
            assert_eq!(found(text), ["refusal"], "{text}");
        }
    }

    #[test]
    fn answers_that_only_look_so() {
        for text in [
            "A woman is sorry that she cannot come.",
            "I can see a cat on a mat.",
            "The letter says: I'm sorry, but I can't help you.",
            "Ich kann eine Katze sehen.",
            "A sign reads \"Sorry, we are closed\".",
            "Sorry is the hardest word, says the poster.",
            "cat, mat, window, afternoon",
            "{\"animal\": \"cat\"}",
            "- A cat\n- A mat\n- The light of a late afternoon in a room with one window open",
            "Ein Diagramm (siehe Anhang)",
            "猫がマットの上に座っている。",
        ] {
            let rules = found(text);
            let only_unfinished = rules.iter().all(|rule| *rule == "unfinished");
            assert!(only_unfinished, "{text}: {rules:?}");
        }
    }

    #[test]
    fn answers_that_break_off_or_go_round() {
        let sentence = "A cat sits on a mat in front of a window while the";
        assert_eq!(found(sentence), ["unfinished"]);
        assert_eq!(found(&format!("{sentence} sun sets.")), [""; 0]);
        let circle = "It is a cat that sits on a mat. ".repeat(6);
        assert_eq!(found(&circle), ["loop"]);
    }
}
