//! Trace contexts, as the header `traceparent` of the W3C's Trace Context writes them.
//!
//! Everything about the context of what is submitted follows from its id and from the context of whoever
//! submitted it, so that whoever takes a job over goes on with the same trace.

use std::fmt;

use uuid::Uuid;

use crate::job::Job;

/// The name of the header, in HTTP and in messages.
pub const TRACEPARENT: &str = "traceparent";

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Whether its spans are told to anyone.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a header; `None` if it is none, which is as if it were not there.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may have more parts, the last one is never given out.
        let is_known = match version {
            0 => parts.next().is_none(),
            version => version != 0xff,
        };
        (is_known && trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }

    /// The context of what is submitted under this id, which must not be 0: in the trace of who submits it,
    /// or in one that has the id's bytes.
    pub fn of(id: Uuid, submitter: Option<Self>, sampled: bool) -> Self {
        Self {
            trace_id: submitter.map_or(id.as_u128(), |submitter| submitter.trace_id),
            span_id: id.as_u64_pair().1,
            sampled,
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, flags) = (TraceId(self.trace_id), u8::from(self.sampled));
        write!(f, "00-{trace}-{:016x}-{flags:02x}", self.span_id)
    }
}

/// Names a trace; in logs, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl TraceId {
    /// The trace of a job, whether it is told to anyone or not.
    pub fn of(job: &Job) -> Self {
        let submitted = job.traceparent.as_deref().and_then(TraceContext::parse);
        Self(submitted.map_or(job.id.0.as_u128(), |context| context.trace_id))
    }

    /// Whether it is among this share of all traces: the same ones for everybody who asks.
    pub fn is_among(self, share: f64) -> bool {
        // Its last seven bytes are random: see Trace Context, level 2. Four of them are fine enough.
        let [.., a, b, c, d] = self.0.to_be_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) < share * 2_f64.powi(32)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A number of so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let fits = text.len() == digits && text.bytes().all(is_hex);
    fits.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JobId;

    const WRITTEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_the_same() {
        let context = TraceContext::parse(WRITTEN).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), WRITTEN);
        let unsampled = WRITTEN.replace("-01", "-00");
        assert!(!TraceContext::parse(&unsampled).unwrap().sampled);
        // Of a later version only what this one knows is read.
        let later = format!("cc{}-more", &WRITTEN[2..]);
        assert_eq!(TraceContext::parse(&later), Some(context));
    }

    #[test]
    fn what_is_no_header_is_as_if_it_were_not_there() {
        for wrong in [
            "",
            "00",
            &WRITTEN[..54],
            &format!("{WRITTEN}-more"),
            &format!("ff{}", &WRITTEN[2..]),
            &WRITTEN.to_uppercase(),
            &WRITTEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &WRITTEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &WRITTEN.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_submitted_is_in_the_trace_of_who_submits_it_or_in_its_own() {
        let id: Uuid = "0190f3a0-0000-7000-8000-00000000abcd".parse().unwrap();
        let client = TraceContext::parse(WRITTEN).unwrap();
        assert_eq!(
            TraceContext::of(id, Some(client), true).to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-800000000000abcd-01"
        );
        assert_eq!(
            TraceContext::of(id, None, false).to_string(),
            "00-0190f3a000007000800000000000abcd-800000000000abcd-00"
        );
    }

    #[test]
    fn a_share_of_the_ids_is_about_that_share_and_the_same_again() {
        let now = chrono::Utc::now();
        let ids: Vec<TraceId> = (0..4_000)
            .map(|_| TraceId(JobId::new(now).0.as_u128()))
            .collect();
        let among = |share| ids.iter().filter(|id| id.is_among(share)).count();
        assert_eq!((among(0.0), among(1.0)), (0, ids.len()));
        // Eight standard deviations around a quarter.
        assert!((780..=1_220).contains(&among(0.25)), "{}", among(0.25));
        assert!(ids.iter().all(|id| !id.is_among(0.25) || id.is_among(0.5)));
    }
}
