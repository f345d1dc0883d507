//! Images of jobs: loaded, decoded and resized ahead of the engine, within bounds of memory and
//! threads.
//!
//! What the images of a job may take is set aside before the first one is loaded: its largest file,
//! since they are loaded one after another, and the views of all of them, which stay until the job
//! has ended. Decoding, whose need a file's header tells, has a budget of its own. Bulk and
//! interactive jobs have a set of both places each, so that a backlog of one class does not hold up
//! the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapidary_engine::image::{Image, ImageError, ImageLimits, ImageSpec, memory_bytes, prepare};
use lapidary_schemas::limits::{IMAGE_PIXELS_MAX, MEDIA_BYTES_MAX, REQUEST_IMAGES_BYTES_MAX};
use lapidary_schemas::metrics::{self, Metrics};
use lapidary_schemas::{Class, Failure, FailureCode, Job, MediaRef, remote};
use lapidary_transport::AnyMedia;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Place, broken, bytes_of};
use crate::fetch::Fetcher;
use crate::job::panic_text;

/// Bytes that files and views of the jobs of a class may take at once.
const HELD_BYTES_MAX: usize = 512 << 20;
/// Bytes that decoding may take at once, of one image as of all together.
const DECODING_BYTES_MAX: u64 = 1 << 30;
/// Images of a class that are decoded at once: one for two cores, since the engine needs them, and
/// no more than this.
const DECODERS_MAX: usize = 8;
/// What permits count.
const UNIT: usize = 1 << 20;

const _: () = assert!(MEDIA_BYTES_MAX < HELD_BYTES_MAX);

/// Memory set aside for the images of a job; given back when dropped.
pub(crate) type Held = OwnedSemaphorePermit;

/// Loads and prepares images.
#[derive(Debug)]
pub(super) struct Images {
    store: Arc<AnyMedia>,
    /// `None`: nothing is fetched, and validation lets no address get here.
    fetcher: Option<Fetcher>,
    spec: ImageSpec,
    limits: ImageLimits,
    interactive: Room,
    bulk: Room,
    /// Units of memory for decoding.
    decoding: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// What the jobs of a class share.
#[derive(Debug)]
struct Room {
    /// Units of memory for files and views.
    held: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
}

/// The images of one job.
#[derive(Debug)]
pub(super) struct JobImages<'a> {
    images: &'a Images,
    tenant: &'a str,
    room: &'a Room,
    held: Option<Held>,
    /// Of all files whose size is known, so far.
    file_bytes: usize,
    view_bytes: usize,
}

impl Room {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            held: Arc::new(Semaphore::new(HELD_BYTES_MAX / UNIT)),
            decoders: Arc::new(Semaphore::new((cores / 2).clamp(1, DECODERS_MAX))),
        }
    }
}

impl Images {
    pub(super) fn new(
        spec: ImageSpec,
        store: Arc<AnyMedia>,
        fetcher: Option<Fetcher>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            fetcher,
            spec,
            limits: ImageLimits {
                bytes_max: MEDIA_BYTES_MAX,
                pixels_max: IMAGE_PIXELS_MAX,
                memory_bytes_max: DECODING_BYTES_MAX,
                ..ImageLimits::default()
            },
            interactive: Room::new(),
            bulk: Room::new(),
            decoding: Arc::new(Semaphore::new(units(DECODING_BYTES_MAX) as usize)),
            metrics,
        }
    }

    /// Sets memory aside for a job's images, which are at `urls`.
    pub(super) async fn begin<'a>(
        &'a self,
        job: &'a Job,
        urls: &[&str],
    ) -> Result<JobImages<'a>, Failure> {
        let room = match job.class {
            Class::Interactive => &self.interactive,
            Class::Bulk => &self.bulk,
        };
        let files = urls.iter().map(|url| file_bytes(url));
        let known = files.clone().flatten().sum();
        check_together(known)?;
        let largest = files.map(|bytes| bytes.unwrap_or(MEDIA_BYTES_MAX)).max();
        let needed = largest.unwrap_or(0) + urls.len() * self.spec.bytes_max();
        if needed > HELD_BYTES_MAX {
            let message = format!(
                "the request's {} images take {needed} bytes at once, the limit is {HELD_BYTES_MAX}",
                urls.len()
            );
            return Err(Failure::new(FailureCode::MediaTooLarge, message));
        }
        let held = if needed == 0 {
            None
        } else {
            acquire(&room.held, units(needed as u64)).await
        };
        Ok(JobImages {
            images: self,
            tenant: &job.tenant,
            room,
            held,
            file_bytes: known,
            view_bytes: 0,
        })
    }

    /// Decodes and resizes, on a thread that may be busy.
    async fn prepare(&self, room: &Room, bytes: Vec<u8>) -> Result<Image, Unprepared> {
        let decoder = acquire(&room.decoders, 1).await;
        let (spec, limits, budget) = (self.spec, self.limits, self.decoding.clone());
        let runtime = Handle::current();
        // What it holds goes with the thread: it ends its image even if nobody waits any more.
        let prepared = tokio::task::spawn_blocking(move || {
            let _decoder = decoder;
            let needed = memory_bytes(&bytes, &limits)?;
            let _memory = runtime.block_on(acquire(&budget, units(needed)));
            let started = Instant::now();
            let image = prepare(&bytes, &spec, &limits)?;
            Ok::<(Image, Duration), ImageError>((image, started.elapsed()))
        });
        let (image, took) = match prepared.await {
            Ok(prepared) => prepared.map_err(Unprepared::Refused)?,
            Err(error) => {
                return Err(Unprepared::Panicked(match error.try_into_panic() {
                    Ok(panic) => panic_text(panic.as_ref()).to_owned(),
                    Err(error) => error.to_string(),
                }));
            }
        };
        self.metrics
            .observe(&metrics::IMAGE_DECODING, &[], took.as_secs_f64());
        Ok(image)
    }
}

/// Why bytes did not become an image.
#[derive(Debug)]
enum Unprepared {
    Refused(ImageError),
    /// A decoder is not to panic; if one does, it is this image's fault and no other's.
    Panicked(String),
}

impl JobImages<'_> {
    /// The image at `url`.
    pub(super) async fn load(&mut self, place: Place, url: &str) -> Result<Image, Failure> {
        let named = || format!("the image in {place}");
        let bytes = match &self.images.fetcher {
            Some(fetcher) if remote::is_remote(url) => {
                let found = fetcher.fetch(url).await;
                let bytes = found.map_err(|error| error.failure(&named()))?;
                self.file_bytes += bytes.len();
                check_together(self.file_bytes)?;
                bytes
            }
            _ => {
                let loaded = bytes_of(&*self.images.store, self.tenant, url).await;
                loaded.map_err(|unloaded| unloaded.failure(&named()))?
            }
        };
        let prepared = self.images.prepare(self.room, bytes).await;
        let image = prepared.map_err(|unprepared| unprepared.failure(&named()))?;
        let views = image.views().iter();
        self.view_bytes += views.map(|view| view.rgb().len()).sum::<usize>();
        Ok(image)
    }

    /// Gives back what is not needed any more: the views stay.
    pub(super) fn finish(mut self) -> Option<Held> {
        let mut held = self.held.take()?;
        let kept = units(self.view_bytes as u64) as usize;
        drop(held.split(held.num_permits().saturating_sub(kept)));
        Some(held)
    }
}

impl Unprepared {
    fn failure(&self, what: &str) -> Failure {
        match self {
            Self::Refused(error) if error.is_too_large() => Failure::new(
                FailureCode::MediaTooLarge,
                format!("{what} is too large: {error}"),
            ),
            Self::Refused(error) => broken(what, &error.to_string()),
            Self::Panicked(message) => broken(what, &format!("its decoder failed: {message}")),
        }
    }
}

/// Refuses files that are too large together.
fn check_together(bytes: usize) -> Result<(), Failure> {
    if bytes <= REQUEST_IMAGES_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the request's images are {bytes} bytes together, the limit is {REQUEST_IMAGES_BYTES_MAX}"
    );
    Err(Failure::new(FailureCode::MediaTooLarge, message))
}

/// Bytes that the file at `url` has at most; `None` if that shows only when it is fetched.
fn file_bytes(url: &str) -> Option<usize> {
    if remote::is_remote(url) {
        return None;
    }
    let stored = url.parse::<MediaRef>().ok();
    let bytes = stored.map_or(url.len(), |media| {
        usize::try_from(media.bytes).unwrap_or(usize::MAX)
    });
    Some(bytes.min(MEDIA_BYTES_MAX))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT as u64)).unwrap_or(u32::MAX)
}

/// Waits for permits; none are given only once a semaphore is closed, which none is.
async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_many_owned(permits).await.ok()
}
