//! The media store: whether what is put there can be read again, and has room.

use super::{Finding, Verdict, file};
use crate::media::{AnyMedia, Media, MediaError};
use crate::open::{file_path, media_folder};

/// What is stored under it belongs to nobody else, and is collected as what nobody pins.
const TENANT: &str = "lapidary-doctor";
const PROBE: &[u8] = b"written by `lapidary doctor` to see whether it can be read again";

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    match probe(url).await {
        Ok(()) => findings.push(Finding::good("media", "what is written can be read again")),
        Err(error) => findings.push(Finding::new(
            Verdict::Bad,
            "media",
            error.to_string(),
            "name a folder that workers and gateways share and can write, with --media",
        )),
    }
    let folder = match url.strip_prefix("file:///") {
        Some(path) => Some(std::path::Path::new("/").join(path)),
        None => file_path(url).map(|path| media_folder(&path)),
    };
    if let Some(folder) = folder.filter(|folder| folder.exists()) {
        findings.push(file::free("media: disk", &folder));
    }
    findings
}

async fn probe(url: &str) -> Result<(), MediaError> {
    let media = AnyMedia::open(url)?;
    let reference = media.put(TENANT, PROBE.to_vec()).await?;
    media.get(TENANT, &reference).await.map(drop)
}
