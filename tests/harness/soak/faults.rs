//! What is done to the programs and servers of a run, and in which order: all of it from one seed.

/// Harm that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to a worker; another one takes its place.
    WorkerKilled,
    /// SIGTERM to a worker; another one takes its place.
    WorkerTerminated,
    /// SIGSTOP to a worker; it goes on at the next fault.
    WorkerStopped,
    /// SIGKILL to the gateway; another one takes its place.
    GatewayKilled,
    /// SIGTERM to the gateway; another one takes its place.
    GatewayTerminated,
    /// SIGSTOP to the gateway; it goes on at the next fault.
    GatewayStopped,
    /// Every connection to the broker is cut.
    BrokerCut,
    /// Nothing passes to or from the broker until the next fault.
    BrokerSilent,
    /// Every connection to the results store is cut.
    ResultsCut,
    /// Nothing passes to or from the results store until the next fault.
    ResultsSilent,
    /// SIGKILL to the broker, which is started again.
    BrokerKilled,
    /// SIGKILL to the results store, which is started again.
    ResultsKilled,
}

/// What can happen where all is in one file, and how often.
const ON_FILE: [(Fault, u32); 6] = [
    (Fault::WorkerKilled, 6),
    (Fault::WorkerTerminated, 5),
    (Fault::WorkerStopped, 3),
    (Fault::GatewayKilled, 3),
    (Fault::GatewayTerminated, 2),
    (Fault::GatewayStopped, 1),
];
/// What else can happen on servers.
const ON_SERVERS: [(Fault, u32); 6] = [
    (Fault::BrokerCut, 4),
    (Fault::BrokerSilent, 2),
    (Fault::ResultsCut, 4),
    (Fault::ResultsSilent, 2),
    (Fault::BrokerKilled, 1),
    (Fault::ResultsKilled, 2),
];

/// One fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// What happens.
    pub(super) fault: Fault,
    /// To which of the workers, if it is about one.
    pub(super) worker: usize,
}

impl Fault {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker_killed",
            Self::WorkerTerminated => "worker_terminated",
            Self::WorkerStopped => "worker_stopped",
            Self::GatewayKilled => "gateway_killed",
            Self::GatewayTerminated => "gateway_terminated",
            Self::GatewayStopped => "gateway_stopped",
            Self::BrokerCut => "broker_cut",
            Self::BrokerSilent => "broker_silent",
            Self::ResultsCut => "results_cut",
            Self::ResultsSilent => "results_silent",
            Self::BrokerKilled => "broker_killed",
            Self::ResultsKilled => "results_killed",
        }
    }
}

/// The faults of a run; the same for the same seed.
pub(super) fn schedule(seed: u64, count: usize, on_servers: bool, workers: usize) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kinds = ON_FILE.to_vec();
    if on_servers {
        kinds.extend(ON_SERVERS);
    }
    let all: u32 = kinds.iter().map(|(_, weight)| weight).sum();
    let draw = |_| {
        let mut left = random.u32(0..all);
        let worker = random.usize(0..workers);
        let drawn = kinds.iter().find(|(_, weight)| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        let fault = drawn.map_or(Fault::WorkerKilled, |(fault, _)| *fault);
        Planned { fault, worker }
    };
    (0..count).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_a_schedule_in_which_everything_happens() {
        let one = schedule(7, 200, true, 3);
        assert_eq!(one, schedule(7, 200, true, 3));
        assert_ne!(one, schedule(8, 200, true, 3));
        let kinds = |plan: &[Planned]| {
            let kinds: BTreeSet<Fault> = plan.iter().map(|planned| planned.fault).collect();
            kinds.len()
        };
        assert_eq!(kinds(&one), ON_FILE.len() + ON_SERVERS.len());
        assert_eq!(kinds(&schedule(7, 200, false, 3)), ON_FILE.len());
        assert!(one.iter().all(|planned| planned.worker < 3));
    }
}
