//! How values, maps and events look: as text like bpftrace's, or as JSON lines.
//!
//! Everything here works on decoded [`Value`]s; nothing knows how they lay in memory or where they came from.

mod gfp;
mod hist;
mod json;
mod map;
mod output;
mod printf;
mod series;
mod value;

pub use hist::{Bucket, Histogram};
pub use map::Content;
pub use output::{Output, OutputFormat};
pub use printf::format as printf;
pub use series::Series;
pub use value::{Stats, Value};
