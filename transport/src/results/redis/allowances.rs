//! What was taken of allowances.

use super::RedisResults;
use super::keys::allowance as key_of;
use crate::results::allowance::SLOTS;
use crate::results::{Allowance, ResultsError, Taken};

impl RedisResults {
    /// Not waited for by replicas: what is lost with a server is given once more.
    pub(super) async fn take_(
        &self,
        allowance: &Allowance,
        cost: u64,
    ) -> Result<Taken, ResultsError> {
        let numbers = [
            allowance.slot_ms(),
            SLOTS,
            allowance.limit,
            cost,
            allowance.kept_ms(),
        ];
        let args = numbers.map(|number| number.to_string());
        let (taken, now_ms, spent): (u8, u64, Vec<(u64, u64)>) = self
            .store
            .run(&self.scripts.take, &[key_of(&allowance.name)], &args)
            .await?;
        Ok(allowance.taken(cost, taken == 1, &spent, now_ms))
    }
}
