//! Prompt injection: words in a document, or in any other text of a job, that speak to the model in
//! place of whoever asks.
//!
//! These are rules, and rules are passed by who knows them; a policy that must rely on more also
//! fences documents (see [`super::fence`]).

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;

use super::find::{Finding, Findings};
use super::fold::{BLACK_FLAG, Folded, is_hidden, may_hide, pieces, tag};

/// The names of its rules.
pub(super) const RULES: &[&str] = &[
    "override",
    "new_role",
    "prompt_leak",
    "turn_marker",
    "hidden_text",
];

/// Characters in a row that nobody sees before they count as a message.
const HIDDEN_CHARS_MIN: usize = 8;
/// Bytes of what a rule on folded text finds, at most: what is looked at on both sides of its words.
const FOUND_BYTES_MAX: usize = 384;
/// How sure it is that hidden characters are meant for the model.
const HIDDEN: f32 = 0.8;

/// Rules on folded text: each with words of which every find has one. A space of a form stands for up to
/// three.
static RULES_FOLDED: LazyLock<WordedRules> = LazyLock::new(|| {
    WordedRules::new(&[
        (
            "override",
            0.9,
            &[
                "ignore",
                "disregard",
                "forget",
                "override",
                "bypass",
                "neglect",
                "follow",
            ],
            r"(?-u:\b)(?:ignore|disregard|forget|override|bypass|neglect|do not follow|don't follow|stop following) (?:(?:all|any|every|everything|of|the|your|my|these|those|other|to|and|that|was|were|is|are|said|given|written) ){0,5}(?:previous|prior|above|earlier|preceding|existing|foregoing|original|initial|system|safety|before)(?: [a-z]{2,12}){0,2}? (?:instructions?|prompts?|directions?|directives?|rules?|guidelines?|commands?|orders?|constraints?|restrictions?|programming|polic(?:y|ies))(?-u:\b)",
        ),
        (
            "override",
            0.9,
            &["ignore", "disregard", "forget"],
            r"(?-u:\b)(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:the |your |my )?(?:instructions|rules|guidelines|directives)(?: (?:you (?:were|have been|are) given|above|before|so far|from before|given (?:to you )?(?:above|before|earlier)))(?-u:\b)",
        ),
        (
            "override",
            0.9,
            &["ignorier", "vergiss", "vergessen", "missachte"],
            r"(?:ignorier(?:e|en sie|t)|vergiss|vergessen sie|missachte) (?:(?:alle|die|deine|ihre|sämtliche) ){0,3}(?:vorherigen|vorigen|obigen|bisherigen|früheren|vorangegangenen) (?:anweisungen|instruktionen|regeln|befehle|vorgaben)",
        ),
        (
            "override",
            0.9,
            &["ignore", "oublie"],
            r"(?:ignore[zr]?|oublie[zr]?) (?:(?:toutes|tous|les|tes|vos) ){0,3}(?:instructions|consignes|règles|directives) (?:précédentes|antérieures|ci-dessus)",
        ),
        (
            "override",
            0.9,
            &["ignor", "olvid", "esque"],
            r"(?:ignora|ignore|olvida|olvide|esquece|esqueça) (?:(?:todas|todos|las|los|as|os|tus|sus|suas) ){0,3}(?:instrucciones|instruções|reglas|regras|indicaciones|órdenes) (?:anteriores|previas|prévias|de arriba|acima)",
        ),
        (
            "override",
            0.9,
            &["ignora", "dimentica"],
            r"(?:ignora|dimentica) (?:(?:tutte|tutti|le|i|gli) ){0,3}(?:istruzioni|regole|comandi) (?:precedenti|di cui sopra|sopra)",
        ),
        (
            "override",
            0.9,
            &["negeer", "vergeet"],
            r"(?:negeer|vergeet) (?:(?:alle|de|je|uw|jouw) ){0,3}(?:vorige|eerdere|bovenstaande|voorgaande) (?:instructies|opdrachten|regels|aanwijzingen)",
        ),
        (
            "override",
            0.9,
            &["игнорируй", "забудь"],
            r"(?:игнорируй|игнорируйте|забудь|забудьте) (?:(?:все|всё|любые) ){0,2}(?:предыдущие|прежние|прошлые|вышеуказанные) (?:инструкции|указания|правила|команды)",
        ),
        (
            "override",
            0.9,
            &["忽略", "无视", "無視", "忘记", "忘掉"],
            r"(?:忽略|无视|無視|忘记|忘掉)(?:掉)?(?:之前|以上|上面|先前|前面|此前)?(?:的)?(?:所有|全部|一切)?(?:之前|以上|上面|先前|前面|此前)(?:的)?(?:所有|全部|一切)?(?:指令|指示|说明|提示|规则|要求)",
        ),
        (
            "override",
            0.9,
            &["無視", "忘れ"],
            r"(?:以前|これまで|上記|前)の(?:すべての|全ての|全)?(?:指示|命令|指令|ルール|プロンプト)(?:は|を)?(?:すべて|全て)?(?:無視|忘れ)",
        ),
        (
            "new_role",
            0.7,
            &[
                " dan",
                " stan",
                "jailbroken",
                "unrestricted",
                "unfiltered",
                "uncensored",
                "unlimited",
                " evil",
                " mode",
                " without",
                " bound",
                " free",
            ],
            r"(?-u:\b)(?:you are (?:now|no longer)|from now on,? you are|from now on,? you will (?:act|behave|respond|answer) as|pretend (?:that )?you are|act as if you (?:are|were)|pretend to be|act as|roleplay as) (?:an? |the |in |bound )?(?:dan|stan|jailbroken|unrestricted|unfiltered|uncensored|unlimited|evil|developer mode|god mode|debug mode|ai without|model without|assistant without|bound by|free of)(?-u:\b)",
        ),
        (
            "new_role",
            0.7,
            &[" mode"],
            r"(?-u:\b)(?:developer|god|jailbreak|dan|debug|admin) mode (?:is )?(?:now )?(?:enabled|activated|unlocked|on)(?-u:\b)",
        ),
        (
            "new_role",
            0.7,
            &[" restrictions", " guidelines", " filters", " limitations"],
            r"(?-u:\b)(?:you have|with|you've got) no (?:ethical |moral |content |safety ){0,2}(?:restrictions|guidelines|filters|limitations) (?:anymore|any more|any longer|now|whatsoever|from now on)(?-u:\b)",
        ),
        (
            "prompt_leak",
            0.8,
            &[" prompt", " message", " instructions", " above"],
            r"(?-u:\b)(?:reveal|print|show|repeat|output|display|tell me|give me|write out|what is|what are|share|leak) (?:(?:me|us|back|the|your|all|full|entire|exact|complete|hidden|secret|initial|original|of|out|verbatim) ){0,5}(?:system prompt|system message|system instructions|hidden prompt|hidden instructions|secret instructions|initial prompt|initial instructions|prompt above|instructions above|text above this line|words above)(?-u:\b)",
        ),
    ])
});

/// Rules on the text as it is: marks by which prompts of one model or another part the speakers.
static RULES_PLAIN: LazyLock<Vec<(&str, f32, Regex)>> = LazyLock::new(|| {
    compile(&[(
        "turn_marker",
        0.9,
        r"<(?:start|end)_of_turn>|<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_header_id|system|user|assistant)\|>|\[/?INST\]|<</?SYS>>|<(?:bos|eos)>|\[(?:SYSTEM|system)\](?:\(#|:)",
    )])
});

/// Rules that are tried only where one of their words stands: one pass over a text for all of them.
#[derive(Debug)]
struct WordedRules {
    rules: Vec<(&'static str, f32, Regex)>,
    words: AhoCorasick,
    /// The rule of each word.
    rule_of: Vec<usize>,
}

impl WordedRules {
    fn new(written: &[(&'static str, f32, &[&str], &str)]) -> Self {
        let forms = written
            .iter()
            .map(|(rule, score, _, form)| (*rule, *score, *form));
        let words = written.iter().flat_map(|(_, _, words, _)| words.iter());
        let rule_of = written.iter().enumerate();
        let rule_of = rule_of.flat_map(|(n, (_, _, words, _))| words.iter().map(move |_| n));
        Self {
            rules: compile(&forms.collect::<Vec<_>>()),
            words: AhoCorasick::new(words).expect("they are written here, and few"),
            rule_of: rule_of.collect(),
        }
    }

    /// What the rules find in a text.
    fn find(&self, text: &[u8], mut found: impl FnMut(&'static str, f32, Range<usize>)) {
        let mut around: Vec<Vec<Range<usize>>> = vec![Vec::new(); self.rules.len()];
        for word in self.words.find_overlapping_iter(text) {
            let rule = self.rule_of[word.pattern().as_usize()];
            let from = word.start().saturating_sub(FOUND_BYTES_MAX);
            let to = (word.end() + FOUND_BYTES_MAX).min(text.len());
            match around[rule].last_mut().filter(|last| from <= last.end) {
                Some(last) => last.end = last.end.max(to),
                None => around[rule].push(from..to),
            }
        }
        for ((rule, score, form), around) in self.rules.iter().zip(around) {
            for Range { start, end } in around {
                // What stands before may decide where a word begins.
                let (until, mut from) = (&text[..end], start);
                while let Some(one) = form.find_at(until, from) {
                    found(rule, *score, one.range());
                    from = one.end();
                }
            }
        }
    }
}

fn compile(rules: &[(&'static str, f32, &str)]) -> Vec<(&'static str, f32, Regex)> {
    let compiled = rules.iter().map(|(rule, score, form)| {
        let form = Regex::new(&form.replace(' ', " {1,3}"));
        let form = form.expect("it is written here, and compiled by every test");
        (*rule, *score, form)
    });
    compiled.collect()
}

/// Finds prompt injection.
pub(super) fn look(text: &str, findings: &mut Findings) {
    for (rule, score, form) in RULES_PLAIN.iter() {
        for found in form.find_iter(text.as_bytes()) {
            findings.push(Finding::new(rule, found.range(), *score));
        }
    }
    look_hidden(text, findings);
    let mut folded = Folded::default();
    for (at, piece) in pieces(text) {
        folded.read(piece);
        RULES_FOLDED.find(folded.bytes(), |rule, score, found| {
            let span = folded.span(found, piece);
            findings.push(Finding::new(rule, at + span.start..at + span.end, score));
        });
    }
}

/// Runs of characters that nobody sees, flags apart.
fn look_hidden(text: &str, findings: &mut Findings) {
    let mut at = 0;
    while let Some(ahead) = text.as_bytes()[at..]
        .iter()
        .position(|byte| may_hide(*byte))
    {
        let mut start = at + ahead;
        let char = text[start..].chars().next().unwrap_or_default();
        if tag(char).is_some() && text[..start].ends_with(BLACK_FLAG) {
            let flag = text[start..]
                .chars()
                .take_while(|char| tag(*char).is_some());
            start += flag.map(char::len_utf8).sum::<usize>();
        } else if !is_hidden(char) {
            at = start + char.len_utf8();
            continue;
        }
        let (mut count, mut end) = (0, start);
        for char in text[start..].chars().take_while(|char| is_hidden(*char)) {
            count += 1;
            end += char.len_utf8();
        }
        if count >= HIDDEN_CHARS_MIN {
            findings.push(Finding::new("hidden_text", start..end, HIDDEN));
        }
        at = end;
    }
}
