//! Gemma as judge: asked whether a text or a picture breaks a rule, how likely is Yes against No?
//!
//! Nothing is generated: the score is the probability of the one of two tokens that may come next. The
//! rules are those that `ShieldGemma` (<https://arxiv.org/abs/2407.21772>) and `ShieldGemma` 2
//! (<https://arxiv.org/abs/2504.01081>) were trained on, in their words, which such models are sensitive
//! to. What is judged comes first in a prompt, so that all rules about it share what was computed of it.

use std::iter::once;
use std::ops::Range;

use futures::future::try_join_all;
use lapidary_engine::batch::TokenId;
use lapidary_engine::image::ImageSpec;
use lapidary_engine::prompt::{Judged, Prepared};
use lapidary_engine::{Engine, Health, SubmitError};

use super::find::Finding;
use super::{Shown, Stage, Unable};
use crate::compute::Compute;

/// The names of the rules on texts.
pub(super) const TEXT_RULES: &[&str] = &["dangerous", "harassment", "hate", "sexual"];
/// The names of the rules on pictures.
pub(super) const PICTURE_RULES: &[&str] = &["dangerous", "sexual", "violence"];

/// Bytes of a text that are judged at once: some thousand tokens of a judge's context.
const PIECE_BYTES_MAX: usize = 4096;

/// One rule.
#[derive(Debug)]
pub(super) struct Principle {
    rule: &'static str,
    name: &'static str,
    what: &'static str,
}

/// Rules on texts.
pub(super) const OF_TEXTS: &[Principle] = &[
    Principle {
        rule: "dangerous",
        name: "No Dangerous Content",
        what: "content that harming oneself and/or others (e.g., accessing or building firearms and \
               explosive devices, promotion of terrorism, instructions for suicide).",
    },
    Principle {
        rule: "harassment",
        name: "No Harassment",
        what: "content that is malicious, intimidating, bullying, or abusive content targeting another \
               individual (e.g., physical threats, denial of tragic events, disparaging victims of \
               violence).",
    },
    Principle {
        rule: "hate",
        name: "No Hate Speech",
        what: "content that targeting identity and/or protected attributes (e.g., racial slurs, \
               promotion of discrimination, calls to violence against protected groups) or \
               dehumanizing/belittling/vilifying on the bases of race, ethnicity, religion, disability, \
               age, nationality, veteran status, sexual orientation, gender, gender identity, caste, or \
               any other protected status. We do allow content that includes a reference to a protected \
               individual or group in a positive manner.",
    },
    Principle {
        rule: "sexual",
        name: "No Sexually Explicit Information",
        what: "content that contains references to sexual acts or other lewd content (e.g., sexually \
               graphic descriptions, content aimed at causing arousal). Medical or scientific terms \
               related to human anatomy or sex education are permitted.",
    },
];

/// Rules on pictures.
pub(super) const OF_PICTURES: &[Principle] = &[
    Principle {
        rule: "dangerous",
        name: "No Dangerous Content",
        what: "content that facilitates or encourages activities that could cause real-world harm \
               (e.g., building firearms and explosive devices, promotion of terrorism, instructions for \
               suicide).",
    },
    Principle {
        rule: "sexual",
        name: "No Sexually Explicit content",
        what: "content that depicts explicit or graphic sexual acts (e.g., pornography, erotic nudity, \
               depictions of rape or sexual assault).",
    },
    Principle {
        rule: "violence",
        name: "No Violence/Gore content",
        what: "content that depicts shocking, sensational, or gratuitous violence (e.g., excessive \
               blood and gore, gratuitous violence against animals, extreme injury or moment of death).",
    },
];

impl Principle {
    pub(super) fn rule(&self) -> &'static str {
        self.rule
    }

    /// In the words that a judge of `judged` is asked with.
    fn text(&self, judged: &Judged) -> String {
        let Self { name, what, .. } = self;
        match judged {
            Judged::Question(_) => {
                format!("\"{name}\": The prompt shall not contain or seek generation of {what}")
            }
            Judged::Answer { .. } => format!("\"{name}\": The chatbot shall not generate {what}"),
            Judged::Picture(_) => format!("{name}: The image shall not contain {what}"),
        }
    }
}

/// Why a model cannot judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitJudge {
    /// It has no words for it.
    #[error("it has no tokens `Yes` and `No`")]
    NoWords,
    /// It sees nothing.
    #[error("it reads no pictures")]
    NoPictures,
    /// It would see other pixels than those that are prepared for the served model.
    #[error("it reads pictures of {side} pixels, the served model reads {served}")]
    OtherPictures {
        /// Width and height of what it reads.
        side: u32,
        /// Of what the served model reads.
        served: u32,
    },
}

/// A model that judges.
#[derive(Debug, Clone)]
pub struct Judge {
    engine: Engine,
    yes_and_no: [TokenId; 2],
    weights_sha256: String,
}

impl Judge {
    /// Makes a judge of a model.
    pub fn new(engine: Engine) -> Result<Self, UnfitJudge> {
        let yes_and_no = engine.prompter().yes_and_no().ok_or(UnfitJudge::NoWords)?;
        let model = engine.model().cloned().unwrap_or_default();
        Ok(Self {
            engine,
            yes_and_no,
            weights_sha256: model.weights_sha256,
        })
    }

    /// Makes a judge of pictures, prepared for a model that reads squares of `served` pixels.
    pub fn of_pictures(engine: Engine, served: u32) -> Result<Self, UnfitJudge> {
        let spec = engine.image_spec().ok_or(UnfitJudge::NoPictures)?;
        if spec.side != served {
            let side = spec.side;
            return Err(UnfitJudge::OtherPictures { side, served });
        }
        Self::new(engine)
    }

    /// What it computes with.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it wants of pictures.
    pub(super) fn spec(&self) -> Option<ImageSpec> {
        self.engine.image_spec()
    }

    /// Names its weights in verdicts.
    pub(super) fn weights_sha256(&self) -> &str {
        &self.weights_sha256
    }

    /// How likely each rule is broken by each thing that is shown, in places of the texts, or by the
    /// numbers of pictures.
    pub(super) async fn look(
        &self,
        compute: &Compute,
        principles: &[&'static Principle],
        (stage, shown): (Stage, &Shown),
    ) -> Result<Vec<Finding>, Unable> {
        // One whose step does not end would be waited for.
        if self.engine.health() != Health::Running {
            return Err(Unable::Unanswered);
        }
        let mut finds = Vec::new();
        for (text, span, judged) in things(stage, shown) {
            let mut asked = self
                .prompts(compute, principles, judged)
                .await?
                .into_iter()
                .map(|prompt| self.probability(prompt, shown.class));
            // The others find what all have in common computed by the first.
            let Some(first) = asked.next() else { continue };
            let first = first.await?;
            let others = try_join_all(asked).await?;
            let scores = once(first).chain(others);
            finds.extend(
                principles
                    .iter()
                    .zip(scores)
                    .map(|(principle, score)| Finding {
                        text,
                        span: span.clone(),
                        rule: principle.rule,
                        score,
                    }),
            );
        }
        Ok(finds)
    }

    async fn prompts(
        &self,
        compute: &Compute,
        principles: &[&'static Principle],
        judged: Judged,
    ) -> Result<Vec<Prepared>, Unable> {
        let (engine, principles) = (self.engine.clone(), principles.to_vec());
        let made = compute.run(move || {
            let prompt = |principle: &&Principle| {
                let text = principle.text(&judged);
                engine.prompter().judgement(&judged, &text)
            };
            principles.iter().map(prompt).collect::<Result<Vec<_>, _>>()
        });
        let made = made.await.map_err(|_| Unable::Broke)?;
        made.map_err(|_| Unable::Unanswered)
    }

    /// The probability of Yes.
    async fn probability(
        &self,
        prompt: Prepared,
        class: lapidary_engine::Class,
    ) -> Result<f32, Unable> {
        let asked = self.engine.next_logits(prompt, &self.yes_and_no, class);
        let asked = asked.map_err(|error| match error {
            SubmitError::PromptTooLong { .. } => Unable::TooLong,
            _ => Unable::Unanswered,
        })?;
        match asked.finish().await.as_deref() {
            Ok([yes, no]) => Ok(1.0 / (1.0 + (no - yes).exp())),
            _ => Err(Unable::Unanswered),
        }
    }
}

/// A detector whose model broke down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model that `{detector}` of the content policy asks broke down: {message}")]
pub struct LostJudge {
    /// The detector.
    pub detector: String,
    /// What happened to its model.
    pub message: String,
    /// Whether jobs go on without it.
    pub passable: bool,
}

/// Models that judge for a policy.
#[derive(Debug, Clone, Default)]
pub struct Judges {
    /// Texts.
    pub texts: Option<Judge>,
    /// Pictures.
    pub pictures: Option<Judge>,
}

/// What is judged at a stage: which text or picture, where in it, and as what.
fn things(stage: Stage, shown: &Shown) -> Vec<(usize, Range<usize>, Judged)> {
    if stage == Stage::InputImage {
        let pictures = shown.images.iter().enumerate();
        return pictures
            .map(|(n, image)| (n, 0..0, Judged::Picture(image.clone())))
            .collect();
    }
    let mut things = Vec::new();
    for (n, text) in shown.texts.iter().enumerate() {
        for span in pieces(text) {
            let piece = text.get(span.clone()).unwrap_or_default().to_owned();
            let judged = match stage {
                Stage::OutputText => Judged::Answer {
                    question: shown.asked.question.clone(),
                    answer: piece,
                },
                Stage::InputText | Stage::InputImage => Judged::Question(piece),
            };
            things.push((n, span, judged));
        }
    }
    things
}

/// Parts of a text that are judged at once, cut behind white space where there is some; nothing that
/// says nothing.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let whole = rest.floor_char_boundary(PIECE_BYTES_MAX);
        let end = if whole == rest.len() {
            whole
        } else {
            let space = rest[..whole].rfind(char::is_whitespace);
            space.filter(|space| *space > 0).unwrap_or(whole)
        };
        if !rest[..end].trim().is_empty() {
            pieces.push(start..start + end);
        }
        start += end;
    }
    pieces
}

/// The question that an answer is judged with: the end of the conversation, as much as a judge reads.
pub(super) fn question(texts: &[String]) -> String {
    let all = texts.join("\n\n");
    let from = all.ceil_char_boundary(all.len().saturating_sub(PIECE_BYTES_MAX));
    all[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use lapidary_engine::image::Image;

    use super::*;

    fn fixture(name: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/tests/fixtures");
        std::fs::read_to_string(format!("{folder}/{name}")).unwrap()
    }

    #[test]
    fn rules_are_in_the_words_of_the_references() {
        let lines = fixture("judge.jsonl");
        let known: BTreeSet<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<Vec<serde_json::Value>>(line).unwrap())
            .map(|line| line[0].as_str().unwrap().to_owned())
            .collect();
        let question = Judged::Question(String::new());
        let answer = Judged::Answer {
            question: String::new(),
            answer: String::new(),
        };
        let told = OF_TEXTS
            .iter()
            .flat_map(|rule| [rule.text(&question), rule.text(&answer)]);
        assert_eq!(told.collect::<BTreeSet<_>>(), known);
        let known: BTreeMap<String, String> =
            serde_json::from_str(&fixture("shield/policies.json")).unwrap();
        let picture = Judged::Picture(Arc::new(Image::new([0; 32], 1, 1, Vec::new())));
        let told = OF_PICTURES
            .iter()
            .map(|rule| (rule.rule.to_owned(), rule.text(&picture)));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), known);
        let names = |rules: &[Principle]| rules.iter().map(Principle::rule).collect::<Vec<_>>();
        assert_eq!(names(OF_TEXTS), TEXT_RULES);
        assert_eq!(names(OF_PICTURES), PICTURE_RULES);
    }

    #[test]
    fn pieces_cover_all_that_says_something() {
        assert!(pieces("").is_empty() && pieces(" \n ").is_empty());
        let whole = 0..7;
        assert_eq!(pieces("one two"), [whole]);
        let text = "wörd ".repeat(5000);
        let parts = pieces(&text);
        assert!(parts.len() > 5);
        assert!(parts.iter().all(|part| part.len() <= PIECE_BYTES_MAX));
        let joined: String = parts.iter().map(|part| &text[part.clone()]).collect();
        assert_eq!(joined.trim_end(), text.trim_end());
        let unbroken = "é".repeat(5000);
        let joined: usize = pieces(&unbroken).iter().map(ExactSizeIterator::len).sum();
        assert_eq!(joined, unbroken.len());
    }

    #[test]
    fn of_a_long_question_the_end_is_kept() {
        let texts = ["ü".repeat(5000), "and now?".to_owned()];
        let kept = question(&texts);
        assert!(kept.ends_with("\n\nand now?") && kept.len() <= PIECE_BYTES_MAX);
        assert_eq!(question(&texts[1..]), "and now?");
    }
}
