//! Personal data: e-mail addresses, telephone numbers, payment cards by their check digit, bank
//! accounts by theirs.

use std::ops::{Range, RangeInclusive};

use super::find::{Finding, Findings};

/// The names of its rules.
pub(super) const RULES: &[&str] = &["email", "phone", "card", "iban"];

/// How sure it is of what a check digit or a form of its own proves, of a number with a country's
/// code, and of one without.
const PROVEN: f32 = 1.0;
const INTERNATIONAL: f32 = 0.9;
const NATIONAL: f32 = 0.6;
/// Bytes of the two parts of an e-mail address.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
/// Digits of a payment card.
const CARD_DIGITS: RangeInclusive<usize> = 13..=19;
/// Fewest digits of a card that are written together.
const CARD_GROUP_MIN: usize = 3;
/// Digits of a telephone number, its country's code included.
const PHONE_DIGITS: RangeInclusive<usize> = 8..=15;
/// Digits of a telephone number without one.
const NATIONAL_DIGITS: RangeInclusive<usize> = 9..=11;
/// Bytes between two groups of digits that still are one number.
const GAP_BYTES_MAX: usize = 3;

/// Countries of bank accounts, each with the length of its numbers.
const IBAN_LENGTHS: &str = "\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 \
    EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 \
    IS26 IT27 JO30 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MT31 NL18 NO15 \
    PK24 PL28 PT25 QA29 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20";

/// Finds personal data.
pub(super) fn look(text: &str, findings: &mut Findings) {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('@') {
        if let Some(span) = email(bytes, at) {
            findings.push(Finding::new("email", span, PROVEN));
        }
    }
    let mut groups = Vec::new();
    let mut at = 0;
    while let Some(ahead) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let number = Number::read(bytes, at + ahead, &mut groups);
        at = number.end();
        let account = iban(bytes, number.start());
        if let Some(span) = account {
            at = at.max(span.end);
            findings.push(Finding::new("iban", span, PROVEN));
        } else if let Some(span) = number.card(bytes) {
            findings.push(Finding::new("card", span, PROVEN));
        } else if let Some((span, score)) = number.phone(bytes) {
            findings.push(Finding::new("phone", span, score));
        }
    }
}

/// The e-mail address around an at sign.
fn email(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let is_local = |byte: &&u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
    };
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let local = bytes[..at].iter().rev().take(LOCAL_BYTES_MAX + 1);
    let local = local.take_while(is_local).count();
    let mut start = at - local;
    while start < at && !bytes[start].is_ascii_alphanumeric() {
        start += 1;
    }
    let domain = bytes[at + 1..].iter().take(DOMAIN_BYTES_MAX);
    let mut end = at + 1 + domain.take_while(is_domain).count();
    while end > at + 1 && !bytes[end - 1].is_ascii_alphanumeric() {
        end -= 1;
    }
    let domain = bytes.get(at + 1..end)?;
    let dot = domain.iter().rposition(|byte| *byte == b'.')?;
    let (name, country) = (&domain[..dot], &domain[dot + 1..]);
    let labels = name.split(|byte| *byte == b'.').all(|label| {
        label.first().is_some_and(u8::is_ascii_alphanumeric)
            && label.last().is_some_and(u8::is_ascii_alphanumeric)
    });
    let country = country.len() >= 2 && country.iter().all(u8::is_ascii_alphabetic);
    let local = (1..=LOCAL_BYTES_MAX).contains(&(at - start));
    (local && labels && country).then_some(start..end)
}

/// Groups of digits that stand close together.
struct Number<'a> {
    groups: &'a [Range<usize>],
    digits: usize,
}

impl<'a> Number<'a> {
    /// The number that begins at this digit; `groups` is where it is kept.
    fn read(bytes: &[u8], start: usize, groups: &'a mut Vec<Range<usize>>) -> Self {
        groups.clear();
        let (mut at, mut count) = (start, 0);
        loop {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let end = at + digits.count();
            groups.push(at..end);
            count += end - at;
            let gap = bytes[end..].iter().take(GAP_BYTES_MAX);
            let gap = gap.take_while(|byte| is_separator(**byte)).count();
            let next = bytes.get(end + gap).filter(|byte| byte.is_ascii_digit());
            if gap == 0 || next.is_none() {
                let digits = count;
                return Self { groups, digits };
            }
            at = end + gap;
        }
    }

    fn start(&self) -> usize {
        self.groups.first().map_or(0, |group| group.start)
    }

    fn end(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end)
    }

    /// The payment card among the groups.
    fn card(&self, bytes: &[u8]) -> Option<Range<usize>> {
        if self.digits < *CARD_DIGITS.start() {
            return None;
        }
        let fits =
            |group: &Range<usize>| (CARD_GROUP_MIN..=*CARD_DIGITS.end()).contains(&group.len());
        for (first, group) in self.groups.iter().enumerate() {
            if !fits(group) || !stands_alone(bytes, group.start) {
                continue;
            }
            let mut digits = [0; *CARD_DIGITS.end()];
            let (mut count, mut end) = (0, group.start);
            for next in &self.groups[first..] {
                let joined = next.start == group.start || is_card_gap(&bytes[end..next.start]);
                if !joined || !fits(next) || count + next.len() > digits.len() {
                    break;
                }
                for (digit, byte) in digits[count..].iter_mut().zip(&bytes[next.clone()]) {
                    *digit = byte - b'0';
                }
                count += next.len();
                end = next.end;
                let card = is_card(&digits[..count]);
                if card && !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
                    return Some(group.start..end);
                }
            }
        }
        None
    }

    /// The telephone number that all of it is.
    fn phone(&self, bytes: &[u8]) -> Option<(Range<usize>, f32)> {
        let (start, end) = (self.start(), self.end());
        let first = self.groups.first()?;
        if !PHONE_DIGITS.contains(&self.digits)
            || bytes.get(end).is_some_and(u8::is_ascii_alphanumeric)
        {
            return None;
        }
        let before = start.checked_sub(1).map(|before| bytes[before]);
        if before == Some(b'+') {
            let international = bytes[start] != b'0' && stands_alone(bytes, start - 1);
            return international.then_some((start - 1..end, INTERNATIONAL));
        }
        let bracketed = before == Some(b'(') && bytes.get(first.end) == Some(&b')');
        let national = match self.groups {
            // As in North America, where the area's code is in brackets.
            [area, office, line] if [area, office, line].map(Range::len) == [3, 3, 4] => bracketed,
            // With the zero of a long-distance call. Dates and book numbers have other groups.
            [area, second, ..] if (2..=5).contains(&area.len()) => {
                let mut lengths = self.groups.iter().map(Range::len);
                bytes[start] == b'0' && second.len() > 2 && lengths.all(|length| length > 1)
            }
            _ => false,
        };
        let start = if bracketed { start - 1 } else { start };
        let dated = bytes[start..end]
            .iter()
            .any(|byte| matches!(byte, b'.' | b','));
        let national = national && !dated && NATIONAL_DIGITS.contains(&self.digits);
        (national && stands_alone(bytes, start)).then_some((start..end, NATIONAL))
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')')
}

fn is_card_gap(gap: &[u8]) -> bool {
    matches!(gap, [b' ' | b'-' | b'.'])
}

/// Whether what begins here does not go on from a word or a number.
fn stands_alone(bytes: &[u8], start: usize) -> bool {
    let before = start.checked_sub(1).map(|before| bytes[before]);
    !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+'))
}

/// Whether these digits are those of a payment card: an issuer's beginning, and the check digit.
fn is_card(digits: &[u8]) -> bool {
    let prefix = |length: usize| {
        let digits = digits.iter().take(length);
        digits.fold(0, |number: u32, digit| number * 10 + u32::from(*digit))
    };
    let issued = match digits.len() {
        13 | 19 if prefix(1) == 4 => true,
        14 => matches!(prefix(2), 36 | 38 | 39) || matches!(prefix(3), 300..=305),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 62 | 65 | 35)
                || matches!(prefix(4), 2221..=2720 | 6011)
                || matches!(prefix(3), 644..=649)
        }
        17..=19 => prefix(2) == 62,
        _ => false,
    };
    issued && luhn(digits) && digits.iter().any(|digit| *digit != digits[0])
}

/// The check of ISO/IEC 7812: every second digit from the right is doubled, its digits added.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The bank account whose two check digits stand at `digits`.
fn iban(bytes: &[u8], digits: usize) -> Option<Range<usize>> {
    let start = digits.checked_sub(2)?;
    let country = bytes.get(start..digits)?;
    if !country.iter().all(u8::is_ascii_uppercase) || !stands_alone(bytes, start) {
        return None;
    }
    let country = std::str::from_utf8(country).ok()?;
    let mut known = IBAN_LENGTHS.split(' ');
    let length: usize = known.find_map(|known| known.strip_prefix(country)?.parse().ok())?;
    let mut account = Vec::with_capacity(length);
    let mut end = start;
    while account.len() < length {
        let byte = *bytes.get(end)?;
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' => account.push(byte),
            // Groups are parted by one space.
            b' ' if bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric) => {}
            _ => return None,
        }
        end += 1;
    }
    let alone = !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (alone && is_account(&account)).then_some(start..end)
}

/// The check of ISO 13616: with its first four characters last and letters as numbers from 10 on,
/// the remainder by 97 is 1.
fn is_account(account: &[u8]) -> bool {
    let rotated = account.iter().cycle().skip(4).take(account.len());
    let remainder = rotated.fold(0, |remainder: u32, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    remainder == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_checked() {
        let digits = |text: &str| text.bytes().map(|byte| byte - b'0').collect::<Vec<_>>();
        assert!(is_card(&digits("4111111111111111")));
        assert!(!is_card(&digits("4111111111111112")));
        assert!(!is_card(&digits("0000000000000000")));
        assert!(is_account(b"GB82WEST12345698765432"));
        assert!(!is_account(b"GB83WEST12345698765432"));
    }
}
