//! Every bound of the contracts, with the relations they must keep.

/// Messages a request may have.
pub const MESSAGES_MAX: usize = 50;
/// Characters of text a message may have by default; a tenant's policy may raise it.
pub const MESSAGE_CHARS_MAX: usize = 8_192;
/// Images a message may have.
pub const IMAGES_PER_MESSAGE_MAX: usize = 16;
/// Stop strings a request may have.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes a stop string may have.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Alternatives a token may report.
pub const LOGPROBS_MAX: u32 = 20;
/// Generated tokens when the request names no ceiling.
pub const OUTPUT_TOKENS_DEFAULT: u32 = 512;
/// Generated tokens a request may ask for by default.
pub const OUTPUT_TOKENS_MAX: u32 = 1_024;
/// Bytes of the schema that an answer must keep, as JSON: it travels inside its job.
pub const JSON_SCHEMA_BYTES_MAX: usize = 32 * 1024;
/// Functions a request may offer the model.
pub const TOOLS_MAX: usize = 64;
/// Bytes of a function's name.
pub const TOOL_NAME_BYTES_MAX: usize = 64;
/// Bytes of all functions of a request as JSON: they stand in its prompt, and travel inside it.
pub const TOOLS_BYTES_MAX: usize = 32 * 1024;
/// Calls an answer may consist of.
pub const TOOL_CALLS_MAX: usize = 64;
/// Temperature when the request names none.
pub const TEMPERATURE_DEFAULT: f32 = 0.7;
/// Highest temperature.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// `top_p` when the request names none.
pub const TOP_P_DEFAULT: f32 = 0.9;
/// `top_k` when the request names none.
pub const TOP_K_DEFAULT: u32 = 64;
/// Repetition penalty of sampled answers when the request names none.
pub const REPETITION_PENALTY_DEFAULT: f32 = 1.05;
/// Lowest and highest repetition penalty.
pub const REPETITION_PENALTY_MIN: f32 = 0.1;
/// See [`REPETITION_PENALTY_MIN`].
pub const REPETITION_PENALTY_MAX: f32 = 10.0;

/// Bytes of one message on the broker; what is larger travels by reference.
pub const QUEUE_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes from which media travels by reference.
pub const INLINE_MEDIA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one document or image.
pub const MEDIA_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of all images of one request.
pub const REQUEST_IMAGES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Pixels of one image.
pub const IMAGE_PIXELS_MAX: u64 = 100_000_000;
/// Bytes of one result in the store.
pub const RESULT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one record in the store.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Items of one manifest shard; one hash slot of the results store holds one shard.
pub const SHARD_ITEMS_MAX: usize = 10_000;
/// Results of one batch that stay in the memory of a results store when nobody says otherwise; older
/// ones move to the media store.
pub const HOT_RESULTS: usize = 20_000;
/// Items of one batch.
pub const BATCH_ITEMS_MAX: u64 = 1_000_000_000;
/// Jobs of one tenant that wait on the queue or run at once, for one model and class; more where
/// many workers serve it.
pub const FEED_WINDOW: usize = 1_000;
/// The same for each slot of the workers that serve the model: a worker has two jobs a slot in hand,
/// and as many again wait for it.
pub const FEED_WINDOW_PER_SLOT: usize = 4;
/// Bytes of a `custom_id`.
pub const CUSTOM_ID_BYTES_MAX: usize = 4_096;
/// Bytes of a tenant's or a model's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Attempts a job gets when nobody says otherwise.
pub const ATTEMPTS_DEFAULT: u32 = 3;
/// Attempts a job may get.
pub const ATTEMPTS_MAX: u32 = 20;
/// Jobs handled in one call of a transport.
pub const CALL_ITEMS_MAX: usize = 1_000;
/// Seconds results are kept after a batch's completion when nobody says otherwise.
pub const RETENTION_DEFAULT_S: u64 = 30 * 24 * 3600;
/// Seconds results may be kept: ten years.
pub const RETENTION_MAX_S: u64 = 10 * 365 * 24 * 3600;
/// Pairs of a batch's metadata.
pub const METADATA_PAIRS_MAX: usize = 16;
/// Bytes of a key in a batch's metadata.
pub const METADATA_KEY_BYTES_MAX: usize = 64;
/// Bytes of a value in a batch's metadata.
pub const METADATA_VALUE_BYTES_MAX: usize = 2_048;
/// Bytes of a job's envelope around its request and its `custom_id`, generously.
pub const ENVELOPE_BYTES_MAX: usize = 2_048;

const _: () = assert!(ENVELOPE_BYTES_MAX + CUSTOM_ID_BYTES_MAX < QUEUE_MESSAGE_BYTES_MAX);
const _: () = assert!(TOOLS_BYTES_MAX < INLINE_MEDIA_BYTES_MAX);
const _: () = assert!(RETENTION_DEFAULT_S <= RETENTION_MAX_S);
const _: () = assert!(INLINE_MEDIA_BYTES_MAX < QUEUE_MESSAGE_BYTES_MAX);
const _: () = assert!(MESSAGES_MAX * MESSAGE_CHARS_MAX <= MEDIA_BYTES_MAX);
const _: () = assert!(MEDIA_BYTES_MAX <= REQUEST_IMAGES_BYTES_MAX);
const _: () = assert!(FEED_WINDOW <= SHARD_ITEMS_MAX);
const _: () = assert!(FEED_WINDOW >= CALL_ITEMS_MAX);
const _: () = assert!(OUTPUT_TOKENS_DEFAULT <= OUTPUT_TOKENS_MAX);
const _: () = assert!(ATTEMPTS_DEFAULT <= ATTEMPTS_MAX);
